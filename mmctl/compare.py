"""Which is better, by how much, and is that noise: cells of runs that differ in their seed alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import Any

from mmctl import stats
from mmctl.errors import UserError, suggest
from mmctl.store import Store

TAIL = 20
REDUCERS = ("last", "max", "min", "median20", "mean20")
SKIPPED = ("name", "note", "seed", "requires", "published", "launcher", "eval.batch", "dataset.root")
"""Keys that do not say what is computed."""


def metric_of(text: str) -> tuple[str, str]:
    """`test/accuracy@last` -> the series and the reducer; without one: auto."""
    series, _, reducer = text.partition("@")
    known = (*REDUCERS, "step=N", "best:SERIES")
    if not re.fullmatch(r"[a-z][\w-]*(/[\w-]+){0,3}", series):
        raise UserError(f'--metric: "{text}" is not a series; write test/accuracy or test/ema/head/accuracy@last.')
    if reducer and reducer not in REDUCERS and not re.fullmatch(r"step=\d+|best:[\w/-]+", reducer):
        raise UserError(f'--metric: "{reducer}" is not among {", ".join(known)}.{suggest(reducer, REDUCERS)}')
    return series, reducer or "auto"


def series_of(run: Mapping[str, Any], series: str) -> str:
    """`test/accuracy` means the run's headline weights and predictor; anything longer is meant as it stands."""
    split, *middle, last = series.split("/")
    if middle or split in ("train", "lr"):
        return series
    _, weights, predictor, _ = run["primary_metric"].split("/")
    return f"{split}/{weights}/{predictor}/{last}"


def value_of(store: Store, run: Mapping[str, Any], series: str, reducer: str) -> tuple[float | None, str]:
    """A run's figure, and the reducer that gave it: auto is the median of the last 20 where there are 20, else last."""
    name = series_of(run, series)
    points = [(s, v) for s, v in store.points(dict(run), name) if v == v]
    if not points:
        return None, reducer
    values = [v for _, v in points]
    if reducer == "auto":
        reducer = "median20" if len(points) >= TAIL else "last"
    if reducer.startswith("step="):
        return dict(points).get(int(reducer[5:])), reducer
    if reducer.startswith("best:"):
        other = dict(store.points(dict(run), series_of(run, reducer[5:])))
        at = max((s for s, _ in points if s in other), key=other.__getitem__, default=None)
        return dict(points).get(at) if at is not None else None, reducer
    reduced = {
        "last": values[-1], "max": max(values), "min": min(values),
        "median20": median(values[-TAIL:]), "mean20": mean(values[-TAIL:]),
    }  # fmt: skip
    return reduced[reducer], reducer


@dataclass
class Cell:
    """The runs of one recipe over its seeds."""

    label: str
    cell: str
    method: str
    runs: list[dict[str, Any]]
    states: Counter[str]
    values: dict[str, dict[tuple[Any, Any], float]] = field(default_factory=dict)  # metric -> (seed, split) -> value
    reducers: dict[str, str] = field(default_factory=dict)
    published: dict[str, Any] | None = None
    tests: dict[str, stats.Test] = field(default_factory=dict)
    adjusted: dict[str, float] = field(default_factory=dict)


@dataclass
class Panel:
    """Cells on the same data with the same number of labels: those that may be compared."""

    title: str
    cells: list[Cell]
    baseline: Cell | None
    keys: dict[str, list[Any]]  # configuration keys that differ -> a value for each cell


def panels(
    store: Store, runs: Sequence[dict[str, Any]], metrics: Sequence[str], baseline: str | None, test: str
) -> list[Panel]:
    """Group, average and test."""
    if test not in ("auto", "paired", "welch", "permutation", "none"):
        raise UserError(f'--test: "{test}" is not among auto, paired, welch, permutation, none.')
    configs = store.configs(runs)
    groups: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        labels = configs[run["id"]].get("split", {}).get("labels")
        place = (run["data_hash"], run["labeled"], labels)
        groups.setdefault(place, {}).setdefault(run["cell"], []).append(run)
    # A run that never read its data belongs to the panel of its cell, if that cell has one.
    homes = {cell: place for place, cells in groups.items() if place[0] for cell in cells}
    for place in [p for p in groups if not p[0]]:
        for cell in [c for c in groups[place] if c in homes]:
            groups[homes[cell]][cell] += groups[place].pop(cell)
    found = []
    for (_, labeled, labels), cells in groups.items():
        if not cells:
            continue
        made = [_cell(store, cell, members, metrics) for cell, members in cells.items()]
        dataset = str(configs[made[0].runs[0]["id"]].get("dataset", {}).get("name", "?")).removeprefix("mmctl:")
        title = f"{dataset}, {labeled if labeled is not None else labels} labels"
        base = _baseline(made, baseline)
        for metric in metrics:
            _test(made, base, metric, test)
        found.append(Panel(title, made, base, _differing(made, configs)))
    if baseline and not any(p.baseline for p in found):
        known = {c.label for p in found for c in p.cells} | {c.method for p in found for c in p.cells}
        raise UserError(
            f'--baseline: no cell is "{baseline}".{suggest(baseline, known)} There are: {", ".join(sorted(known))}.'
        )
    return found


def _cell(store: Store, cell: str, runs: list[dict[str, Any]], metrics: Sequence[str]) -> Cell:
    about = store.about(runs[-1])
    made = Cell(runs[-1]["name"], cell, runs[-1]["method"], runs, Counter(r["state"] for r in runs))
    made.published = about.get("published")
    for metric in metrics:
        series, reducer = metric_of(metric)
        values: dict[tuple[Any, Any], float] = {}
        for run in runs:
            # Only what ran to its end is a result; a seed that ran twice counts once, by its newest run.
            if run["state"] == "completed":
                value, made.reducers[metric] = value_of(store, run, series, reducer)
                if value is not None:
                    values[run["seed"], run["split_hash"]] = value
        made.values[metric] = values
    return made


def _baseline(cells: Sequence[Cell], wanted: str | None) -> Cell | None:
    if wanted:
        fit = [c for c in cells if wanted in (c.label, c.cell, c.method) or any(wanted == r["uid"] for r in c.runs)]
        return fit[0] if fit else None
    supervised = [c for c in cells if c.method == "supervised"]
    return supervised[0] if len(supervised) == 1 and len(cells) > 1 else None


def _test(cells: Sequence[Cell], base: Cell | None, metric: str, kind: str) -> None:
    if base is None or kind == "none" or not base.values[metric]:
        return
    others = [c for c in cells if c is not base and c.values[metric]]
    for cell in others:
        a, b = cell.values[metric], base.values[metric]
        shared = sorted(a.keys() & b.keys(), key=str)
        pairs = [a[k] for k in shared], [b[k] for k in shared]
        if kind == "welch" or (kind == "auto" and (len(shared) < len(a) or len(shared) < len(b))):
            cell.tests[metric] = stats.welch(list(a.values()), list(b.values()))
        elif not shared:
            raise UserError(f"--test {kind}: {cell.label} and {base.label} share no seed with the same split.")
        elif kind == "permutation":
            cell.tests[metric] = stats.permutation(*pairs)
        else:
            cell.tests[metric] = stats.paired(*pairs)
    tested = [c for c in others if c.tests.get(metric) and c.tests[metric].p is not None]
    for cell, p in zip(tested, stats.holm([c.tests[metric].p or 0.0 for c in tested]), strict=True):
        cell.adjusted[metric] = p


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differing(configs: Sequence[Mapping[str, Any]], everything: bool = False) -> dict[str, list[Any]]:
    """Dotted keys whose values differ among configurations; None where a key is absent."""
    flats = [flat(c) for c in configs]
    # Which components differ says most; it comes first.
    keys = sorted({k for f in flats for k in f}, key=lambda k: (not k.endswith(".name"), k))
    rows = {k: [f.get(k) for f in flats] for k in keys if everything or not _skipped(k)}
    return {k: v for k, v in rows.items() if any(x != v[0] or type(x) is not type(v[0]) for x in v)}


def _skipped(key: str) -> bool:
    return any(key == s or key.startswith(f"{s}.") for s in SKIPPED)


def _differing(cells: Sequence[Cell], configs: Mapping[int, Mapping[str, Any]]) -> dict[str, list[Any]]:
    return differing([configs[c.runs[-1]["id"]] for c in cells]) if len(cells) > 1 else {}


def as_json(found: Sequence[Panel], metrics: Sequence[str]) -> dict[str, Any]:
    """The whole comparison for programs; shares are fractions."""
    return {
        "schema_version": 1,
        "panels": [
            {
                "title": panel.title,
                "baseline": panel.baseline.label if panel.baseline else None,
                "keys": panel.keys,
                "cells": [_cell_json(cell, metrics) for cell in panel.cells],
            }
            for panel in found
        ],
    }


def _cell_json(cell: Cell, metrics: Sequence[str]) -> dict[str, Any]:
    figures = {}
    for metric in metrics:
        values = list(cell.values[metric].values())
        test = cell.tests.get(metric)
        figures[metric] = {
            "reducer": cell.reducers.get(metric),
            "n": len(values),
            "mean": mean(values) if values else None,
            "std": stdev(values) if len(values) > 1 else None,
            "interval": stats.interval(values),
            "values": [{"seed": s, "split": h, "value": v} for (s, h), v in cell.values[metric].items()],
            "test": test._asdict() if test else None,
            "p_holm": cell.adjusted.get(metric),
        }
    return {
        "label": cell.label, "cell": cell.cell, "method": cell.method, "states": dict(cell.states),
        "runs": [r["uid"] for r in cell.runs], "published": cell.published, "metrics": figures,
    }  # fmt: skip
