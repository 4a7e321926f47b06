"""Tables for people: ls, show, diff, compare. Everything is read from the store; nothing is computed here."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mmctl import lease, stats
from mmctl.compare import Cell, Panel, series_of
from mmctl.progress import duration
from mmctl.store import Store

BLOCKS = "".join(chr(0x2581 + i) for i in range(8))
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


class Col(NamedTuple):
    """A column: what is given up first where the terminal is narrow has the highest rank; 0 is always shown."""

    header: str
    cells: Sequence[object]
    rank: int = 0


def grid(out: Console, columns: Sequence[Col]) -> Table:
    """A table of as many columns as fit."""
    kept = list(columns)
    while True:
        made = table(*(c.header for c in kept))
        for cells in zip(*(c.cells for c in kept), strict=True):
            row(made, *cells)
        # Measured without the limit of the terminal: rich would otherwise cut cells to make them fit.
        wide = Measurement.get(out, out.options.update(width=1000), made).maximum
        last = max(kept, key=lambda c: c.rank)
        if wide <= out.width or not last.rank:
            return made
        kept.remove(last)


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
    """The table of `ls`, newest last; a narrow terminal gets names instead of ids."""
    out = console()
    narrow = out.width < 110
    tags = [" ".join(f"#{t}" for t in r["tags"]) for r in listed]
    columns = [
        Col(">#", [r["number"] for r in listed]),
        Col("run", [r["name"] if narrow else r["uid"] for r in listed]),
        Col("method", [r["method"] for r in listed], 4),
        Col(">labels", ["-" if r["labeled"] is None else r["labeled"] for r in listed], 3),
        Col(">seed", [r["seed"] for r in listed], 2),
        Col("state", [state_text(r) for r in listed]),
        Col(">step", [f"{r['step']}/{r['total']}" if r["step"] != r["total"] else r["step"] for r in listed]),
        Col(">acc %", [percent(r["value"]) for r in listed]),
        Col(">bal %", [percent(r["balanced"]) for r in listed], 1),
        Col(">age", [age(r["created"]) for r in listed], 5),
        Col("", tags, 6),
        Col("", [_going(r) for r in listed], 7),
    ]
    out.print(grid(out, [c for c in columns if any(str(x) for x in c.cells)]))


def _going(r: Mapping[str, Any]) -> str:
    if r["rate"]:
        return f"{r['rate']:.1f} step/s, ETA {duration((r['total'] - r['step']) / r['rate'])}"
    if r["state"] in ("failed", "crashed", "nc") and r["reason"]:
        reason = str(r["reason"])
        return reason if len(reason) < 48 else reason[:45] + "..."
    return ""


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
            out.print(_metric_table(out, panel, metric))
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


def _metric_table(out: Console, panel: Panel, metric: str) -> Table:
    cells, base = panel.cells, panel.baseline
    lists = [list(c.values[metric].values()) for c in cells]
    columns = [
        Col(metric, [c.label for c in cells]),
        Col(">n", [_count(c, metric) for c in cells]),
        Col(">mean %", [percent(mean(v), 2) if v else "-" for v in lists]),
        Col(">std", [percent(stdev(v), 2) if len(v) > 1 else "-" for v in lists], 1),
        Col(">95 % interval", [_span(stats.interval(v)) for v in lists], 4),
    ]
    figures = [c.published["value"] if c.published and c.published.get("metric") == metric else None for c in cells]
    if any(f is not None for f in figures):
        gaps = [
            f"{100 * mean(v) - f:+.2f}" if f is not None and v else "-" for f, v in zip(figures, lists, strict=True)
        ]
        columns += [
            Col(">[published]", ["-" if f is None else f"{f:.2f}" for f in figures]), Col(">ours - it", gaps, 2)
        ]  # fmt: skip
    if base:
        tests = [c.tests.get(metric) for c in cells]
        spans = [_span((t.low, t.high), "+") if t and t.low is not None and t.high is not None else "-" for t in tests]
        columns += [
            Col(">minus baseline", [
                "baseline" if c is base else f"{100 * t.difference:+.2f}" if t else "-"
                for c, t in zip(cells, tests, strict=True)
            ]),
            Col(">95 % interval", spans, 5),
            Col(">p", [_p(t.p) if t else "" for t in tests], 6),
            Col(">p Holm", [_p(c.adjusted.get(metric)) if t else "" for c, t in zip(cells, tests, strict=True)]),
            Col("test", [_kind(t) if t else "" for t in tests], 3),
        ]  # fmt: skip
    return grid(out, columns)


def _count(cell: Cell, metric: str) -> str:
    missing = ", ".join(f"{n} {s}" for s, n in cell.states.items() if s != "completed")
    return str(len(cell.values[metric])) + (f" ({missing})" if missing else "")


def _kind(test: stats.Test) -> str:
    return f"{test.name}, n = {test.n}" + (f", smallest p {test.smallest:.4g}" if test.smallest else "")


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
    if panel.baseline:
        out.print(Text(f"baseline: {clean(panel.baseline.label)}", style="dim"))
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
