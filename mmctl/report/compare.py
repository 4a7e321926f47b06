"""Which is better, by how much, and is that noise: cells of runs that differ in nothing but the seed.

Cells with other data or another number of labels stand in panels of their own and are never averaged or tested
against each other. Only completed runs have a value; the others are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmctl.errors import UserError, suggest
from mmctl.identity import matters
from mmctl.report import stats
from mmctl.store import metrics as measure
from mmctl.store.metrics import Metric
from mmctl.store.store import Store

TESTS = ("auto", "paired", "welch", "permutation", "none")
Value = dict[str, Any]


def compare(
    store: Store,
    runs: Sequence[dict[str, Any]],
    metrics: Sequence[str],
    *,
    baseline: str | None = None,
    test: str = "auto",
    all_keys: bool = False,
) -> dict[str, Any]:
    """Everything `mmctl compare` shows, in one object; figures are fractions."""
    if test not in TESTS:
        raise UserError(f'--test "{test}": no such test.{suggest(test, TESTS)} Known: {", ".join(TESTS)}')
    measures = [measure.parse_metric(text) for text in metrics]
    for one in measures:
        measure.check_metric(store, runs, one)
    configs = store.configs(runs)
    panels = [_panel(store, key, cells, measures, configs) for key, cells in _ordered(_panels(runs, configs))]
    if baseline is not None and not any(_meant(panel, baseline) for panel in panels):
        known = {cell[key] for panel in panels for cell in panel["cells"] for key in ("recipe", "method", "cell")}
        raise UserError(f'--baseline "{baseline}": no such recipe, method or cell here.{suggest(baseline, known)}')
    for panel in panels:
        base = _baseline(panel, baseline)
        panel["baseline"] = base["cell"] if base else None
        panel["config"] = _config(panel, {run["uid"]: (run, configs[run["id"]]) for run in runs}, store, all_keys)
        if base and test != "none":
            for number in range(len(measures)):
                _against(panel["cells"], base, number, test)
        for cell in panel["cells"]:
            for figures in cell["values"]:
                del figures["by_seed"]  # the runs say it, in a form that JSON has
    return {"test": test, "panels": panels}


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A resolved recipe as one flat table, `optimizer.lr` -> 0.03."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def versions(about: Value) -> dict[str, str]:
    """`version of labeler` -> name, version and file hash, for each component that a run was made of."""
    found = {}
    for part in about.get("components") or []:
        where = ".".join(str(part[key]) for key in ("kind", "slot") if part.get(key))
        found[f"version of {where}"] = f"{part.get('name')} {part.get('version')} {part.get('file_hash') or ''}".strip()
    return found


def _panels(runs: Sequence[Value], configs: dict[int, Value]) -> dict[tuple[str, int | None], dict[str, list[Value]]]:
    """Runs by what they were trained on, and there by cell; a run that failed early stands with its cell's others."""
    home = {run["cell"]: _data(run, configs) for run in runs if run["data_hash"]}
    panels: dict[tuple[str, int | None], dict[str, list[Value]]] = {}
    for run in runs:
        key = _data(run, configs) if run["data_hash"] else home.get(run["cell"], _data(run, configs))
        panels.setdefault(key, {}).setdefault(run["cell"], []).append(run)
    return panels


def _ordered(panels: dict[tuple[str, int | None], Any]) -> list[tuple[tuple[str, int | None], Any]]:
    return sorted(panels.items(), key=lambda item: (item[0][0], item[0][1] or 0))


def _data(run: Value, configs: dict[int, Value]) -> tuple[str, int | None]:
    wanted = configs[run["id"]].get("split", {}).get("labels") if run["labeled"] is None else run["labeled"]
    return run["data_hash"] or "", wanted if isinstance(wanted, int) else None


def _panel(
    store: Store,
    key: tuple[str, int | None],
    cells: dict[str, list[Value]],
    measures: Sequence[Metric],
    configs: dict[int, Value],
) -> dict[str, Any]:
    done = [run for runs in cells.values() for run in runs if run["state"] == "completed"]
    found = [measure.metric_values(store, done, one) for one in measures]
    published = store.published([runs[-1] for runs in cells.values()])
    notes, rows = [], []
    for runs in cells.values():
        used, repeated = _one_each([run for run in runs if run["state"] == "completed"])
        if repeated:
            notes.append(f"{runs[0]['recipe']}: {repeated} runs repeat a seed; the newest of each counts")
        first = runs[-1]
        row = {key: first[key] for key in ("cell", "recipe", "method", "labeler")} | {"labels": key[1]}
        row["counts"] = dict(sorted(Counter(run["state"] for run in runs).items()))
        row["runs"] = [
            {key: run[key] for key in ("uid", "seed", "split_hash", "state", "step")}
            | {"counted": run in used, "values": [values.get(run["id"]) for values, _ in found]}
            for run in runs
        ]
        row["values"] = [
            _figures(used, values, one, published[first["id"]], first["primary_metric"])
            for one, (values, _) in zip(measures, found, strict=True)
        ]
        rows.append(row)
    for one in measures:
        if one.peeks:
            notes.append(f"{one.text}: the test images choose this number; it flatters")
    rows.sort(key=lambda row: _rank(row["values"][0]["mean"], measures[0]))
    example = next((run for runs in cells.values() for run in runs if run["data_hash"]), None)
    config = configs[example["id"]] if example else {}
    return {
        "data_hash": key[0] or None,
        "dataset": str(config.get("dataset", {}).get("name", "")).removeprefix("mmctl:") or None,
        "labels": key[1],
        "metrics": [
            {"metric": one.text, "reducer": reducer, "words": one.words(reducer)}
            for one, (_, reducer) in zip(measures, found, strict=True)
        ],
        "cells": rows,
        "notes": notes,
    }


def _rank(mean: float | None, one: Metric) -> tuple[bool, float]:
    """The better the earlier; what is no number comes last."""
    if mean is None or not math.isfinite(mean):
        return True, 0.0
    return False, mean if one.name.endswith(measure.LOWER) else -mean


def _one_each(runs: Sequence[Value]) -> tuple[list[Value], int]:
    newest = {(run["seed"], run["split_hash"]): run for run in runs}
    return list(newest.values()), len(runs) - len(newest)


def _figures(runs: Sequence[Value], values: dict[int, float], one: Metric, published: Any, primary: str) -> Value:
    by_seed = {(run["seed"], run["split_hash"]): values[run["id"]] for run in runs if run["id"] in values}
    numbers = list(by_seed.values())
    finite = bool(numbers) and all(math.isfinite(number) for number in numbers)
    bounds = stats.interval(numbers) if finite else None
    row: Value = {
        "n": len(numbers),
        "mean": stats.mean(numbers) if finite else (math.nan if numbers else None),
        "std": stats.std(numbers) if finite else None,
        "low": bounds[0] if bounds else None,
        "high": bounds[1] if bounds else None,
        "published": published_value(published, one.name, primary),
        "by_seed": by_seed,
    }
    if row["published"] and finite:
        row["published"]["distance"] = row["mean"] - row["published"]["value"]
    return row


def published_value(published: Any, metric: str, primary: str) -> Value | None:
    """The figure that a recipe is meant to reproduce, as a fraction, if it is of this metric."""
    if not isinstance(published, dict) or not isinstance(published.get("value"), (int, float)):
        return None
    theirs = str(published.get("metric", "test/accuracy"))
    if measure.series_name(theirs, primary) != measure.series_name(metric, primary):
        return None
    unit = str(published.get("unit", "accuracy %"))
    scale = 0.01 if "%" in unit else 1.0
    value, std = published["value"] * scale, published.get("std")
    return {
        "value": 1 - value if unit.startswith("error") else value,
        "std": std * scale if isinstance(std, (int, float)) else None,
        "selection": published.get("selection"),
        "source": published.get("source"),
    }


def _meant(panel: Value, baseline: str) -> list[Value]:
    for key in ("cell", "recipe", "method"):
        if found := [cell for cell in panel["cells"] if cell[key] == baseline]:
            return found
    return [cell for cell in panel["cells"] if any(run["uid"].startswith(baseline) for run in cell["runs"])]


def _baseline(panel: Value, baseline: str | None) -> Value | None:
    if baseline is None:
        plain = [cell for cell in panel["cells"] if cell["method"].split(":")[-1] == "supervised"]
        return plain[0] if len(plain) == 1 else None
    found = _meant(panel, baseline)
    if len(found) > 1:
        cells = ", ".join(cell["cell"] for cell in found)
        raise UserError(f'--baseline "{baseline}": {len(found)} cells are called so; give the cell: {cells}')
    return found[0] if found else None


def _against(cells: Sequence[Value], base: Value, number: int, test: str) -> None:
    """Add difference, test and p to each cell but the baseline; Holm's p where there are several."""
    theirs = base["values"][number]["by_seed"]
    tested = []
    for cell in cells:
        if cell is base:
            continue
        figures = cell["values"][number]
        ours = figures["by_seed"]
        if not ours or not theirs or not all(math.isfinite(value) for value in (*ours.values(), *theirs.values())):
            continue
        found = _test(ours, theirs, test)
        if found is None:  # one run a side, or no shared seeds: a difference, and nothing to judge it by
            diff = stats.mean(list(ours.values())) - stats.mean(list(theirs.values()))
            found = stats.Test("none", min(len(ours), len(theirs)), diff, None, None, None, 1.0)
        figures["against"] = asdict(found) | {"p_holm": None}
        if found.p is not None:
            tested.append(figures["against"])
    for row, p in zip(tested, stats.holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p if len(tested) > 1 else None


def _test(ours: dict[Any, float], theirs: dict[Any, float], test: str) -> stats.Test | None:
    pairs = stats.shared(ours, theirs)
    if test == "permutation":
        if len(pairs) > stats.EXACT:
            raise UserError(f"--test permutation counts 2^n patterns, and here are {len(pairs)} pairs: take paired.")
        return stats.permutation(pairs)
    if test == "paired" or (test == "auto" and ours.keys() == theirs.keys()):
        return stats.paired(pairs)
    return stats.welch(list(ours.values()), list(theirs.values()))


def _config(panel: Value, made: dict[str, tuple[Value, Value]], store: Store, all_keys: bool) -> dict[str, list[Any]]:
    """The settings in which the cells differ (or all), each with its value in each cell; null where there is none.

    Where cells share their settings, it is another version of a plugin that tells them apart.
    """
    flat = []
    for cell in panel["cells"]:
        run, config = made[cell["runs"][-1]["uid"]]
        table = {key: value for key, value in flatten(config).items() if matters(key)}
        flat.append(table | versions(store.about(run)))
    keys = sorted({key for table in flat for key in table})
    rows = {key: [table.get(key) for table in flat] for key in keys}
    # The version of what the cells have in common, or have not at all, is told by the names alone.
    names = {key: {value.split()[0] for value in row if value} for key, row in rows.items() if " " in key}
    kept = {key: row for key, row in rows.items() if key not in names or (None not in row and len(names[key]) == 1)}
    return {key: row for key, row in kept.items() if all_keys or any(value != row[0] for value in row)}
