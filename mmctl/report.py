"""Tables for people: ls, show, diff, compare. Everything is read from the store; nothing is computed here."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmctl import lease, stats
from mmctl.compare import Cell, Panel, series_of
from mmctl.progress import duration
from mmctl.store import Store

BLOCKS = "▁▂▃▄▅▆▇█"
STYLES = {"completed": "green", "running": "cyan", "failed": "red", "crashed": "red", "nc": "yellow"}


def console() -> Console:
    """Where tables go; a pipe gets no colours and lines of full length."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out = Console(highlight=False, width=max(out.width, 160), no_color=True)
    return out


def clean(value: object) -> str:
    """Text from outside without control characters: it must not steer the terminal."""
    return "".join(c if unicodedata.category(c)[0] != "C" else "?" for c in str(value))


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as people read it."""
    return "-" if value is None or value != value else f"{100 * value:.{digits}f}"


def age(ms: int) -> str:
    """How long ago."""
    return duration((lease.now() - ms) / 1000)


def table(*headers: str) -> Table:
    """A plain table; numbers to the right. A header that begins with > is one of numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for h in headers:
        made.add_column(Text(h.lstrip(">")), justify="right" if h.startswith(">") else "left", no_wrap=True)
    return made


def row(made: Table, *cells: object) -> None:
    """Add a row; no cell is read as markup."""
    made.add_row(*(c if isinstance(c, Text) else Text(clean(c)) for c in cells))


def state_text(run: Mapping[str, Any]) -> Text:
    """A run's state; running? = on another machine, not heard of for a while."""
    word = run["state"] + ("?" if run["silent"] else "")
    return Text(word, style=STYLES.get(run["state"], ""))


def listing(store: Store, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `ls` shows, a dictionary a run."""
    names: set[str] = set()
    for run in runs:
        names |= {run["primary_metric"], series_of(run, "test/balanced_accuracy")}
    found = store.summaries(sorted(names)) if names else {}
    listed = []
    for run in runs:
        held = lease.read(store.runs_dir / run["uid"]) if run["state"] == "running" else None
        listed.append({
            **{k: run[k] for k in ("number", "uid", "name", "method", "labeled", "seed", "state", "reason", "tags")},
            "step": held["step"] if held else run["step"], "total": run["total_steps"],
            "silent": run["silent"], "created": run["created"], "primary": run["primary_metric"],
            "value": (found.get((run["id"], run["primary_metric"])) or {}).get("last"),
            "balanced": (found.get((run["id"], series_of(run, "test/balanced_accuracy"))) or {}).get("last"),
            "rate": held.get("rate") if held else None,
        })  # fmt: skip
    return listed


def print_listing(listed: Sequence[Mapping[str, Any]]) -> None:
    """The table of `ls`, newest last."""
    made = table(">#", "run", "method", ">labels", ">seed", "state", ">step", ">acc %", ">bal %", ">age", "")
    for r in listed:
        more = ""
        if r["rate"]:
            more = f"{r['rate']:.1f} step/s, ETA {duration((r['total'] - r['step']) / r['rate'])}"
        elif r["state"] in ("failed", "crashed", "nc") and r["reason"]:
            more = r["reason"] if len(r["reason"]) < 48 else r["reason"][:45] + "..."
        more = "  ".join(filter(None, (more, " ".join(f"#{t}" for t in r["tags"]))))
        labels = "-" if r["labeled"] is None else r["labeled"]
        step = f"{r['step']}/{r['total']}" if r["step"] != r["total"] else str(r["step"])
        row(made, r["number"], r["uid"], r["method"], labels, r["seed"], state_text(r), step,
            percent(r["value"]), percent(r["balanced"]), age(r["created"]), more)  # fmt: skip
    console().print(made)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve in one line of block characters."""
    values = [v for v in values if v == v]
    if len(values) > width:
        values = [values[i * len(values) // width] for i in range(width)]
    if not values:
        return ""
    low, high = min(values), max(values)
    return "".join(BLOCKS[round((v - low) / (high - low) * 7) if high > low else 3] for v in values)


def print_diff(names: Sequence[str], keys: Mapping[str, Sequence[Any]]) -> None:
    """Differing keys, a column a run."""
    if not keys:
        print("no key differs")
        return
    made = table("key", *map(clean, names))
    for key, values in keys.items():
        row(made, key, *("-" if v is None else json.dumps(v) if not isinstance(v, str) else v for v in values))
    console().print(made)


def print_panels(found: Sequence[Panel], metrics: Sequence[str], per_seed: bool, all_keys: bool) -> None:
    """The tables of `compare`."""
    out = console()
    for panel in found:
        out.print(Text(clean(panel.title), style="bold"))
        for metric in metrics:
            out.print(_metric_table(panel, metric))
        notes(out, panel, metrics)
        if per_seed:
            out.print(_seed_table(panel, metrics))
        if panel.keys:
            shown = list(panel.keys.items())
            cut = shown if all_keys else shown[:12]
            made = table("differs in", *(clean(c.label) for c in panel.cells))
            for key, values in cut:
                row(made, key, *("-" if v is None else v if isinstance(v, str) else json.dumps(v) for v in values))
            if len(cut) < len(shown):
                row(made, f"... {len(shown) - len(cut)} more: --all-keys")
            out.print(made)
        out.print()


def _metric_table(panel: Panel, metric: str) -> Table:
    published = [c for c in panel.cells if c.published and metric in (c.published.get("metric"), "")]
    headers = [metric, ">n", ">mean %", ">std", ">95 % interval"]
    if published:
        headers += [">[published]", ">ours - it"]
    base = panel.baseline
    if base:
        headers += [f">minus {base.label}", ">95 % interval", ">p", ">p Holm", "test"]
    made = table(*headers)
    for cell in panel.cells:
        values = list(cell.values[metric].values())
        missing = {s: n for s, n in cell.states.items() if s != "completed"}
        n = str(len(values)) + (f" ({', '.join(f'{k} {s}' for s, k in missing.items())})" if missing else "")
        span = stats.interval(values)
        cells: list[object] = [
            cell.label, n, percent(mean(values), 2) if values else "-",
            percent(stdev(values), 2) if len(values) > 1 else "-", _span(span),
        ]  # fmt: skip
        if published:
            figure = cell.published["value"] if cell in published and cell.published else None
            gap = f"{100 * mean(values) - figure:+.2f}" if figure is not None and values else "-"
            cells += ["-" if figure is None else f"{figure:.2f}", gap]
        if base:
            cells += _test_cells(cell, metric) if cell is not base else ["baseline"]
        row(made, *cells, *[""] * (len(headers) - len(cells)))
    return made


def _test_cells(cell: Cell, metric: str) -> list[object]:
    test = cell.tests.get(metric)
    if test is None:
        return ["-"]
    span = None if test.low is None or test.high is None else (test.low, test.high)
    p, adjusted = test.p, cell.adjusted.get(metric)
    kind = f"{test.name}, n = {test.n}" + (f", smallest p {test.smallest:.4g}" if test.smallest else "")
    return [f"{100 * test.difference:+.2f}", _span(span, "+"), _p(p), _p(adjusted), kind]


def _p(p: float | None) -> str:
    return "-" if p is None else "<.0001" if p < 1e-4 else f"{p:.4f}"


def _span(span: tuple[float, float] | None, sign: str = "") -> str:
    return "-" if span is None else f"{100 * span[0]:{sign}.2f} .. {100 * span[1]:{sign}.2f}"


def notes(out: Console, panel: Panel, metrics: Sequence[str]) -> None:
    """What a reader of the table must know."""
    words = {"median20": "the median of the last 20 evaluations", "last": "the last evaluation"}
    used = {r for c in panel.cells for m, r in c.reducers.items() if m in metrics}
    said = ", ".join(words.get(r, r) for r in sorted(used))
    if said:
        out.print(Text(f"each run counts with {said}; std over seeds (n - 1)", style="dim"))
    if any(len(c.values[m]) == 1 for c in panel.cells for m in metrics):
        out.print(Text("n = 1: a single run says nothing about noise", style="dim"))
    for cell in panel.cells:
        if cell.published:
            p = cell.published
            how = f"{p['unit']}, {p['selection']} selection"
            out.print(Text(clean(f"[published] {cell.label}: {p['value']} ({how}; {p['source']})"), style="dim"))


def _seed_table(panel: Panel, metrics: Sequence[str]) -> Table:
    made = table("per seed", "metric", *(f">{clean(c.label)}" for c in panel.cells))
    for metric in metrics:
        for key in sorted({k for c in panel.cells for k in c.values[metric]}, key=str):
            row(made, key[0], metric, *(percent(c.values[metric].get(key), 2) for c in panel.cells))
    return made
