"""One row of `mmctl compare`: the runs of a configuration, which of them count, and their mean, spread and interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from mmctl.errors import Diverged
from mmctl.report import stats
from mmctl.report.comparison import AllRuns, ComparedRun, ConfigurationRow, Figures
from mmctl.report.published import published_value
from mmctl.run_folder.upgrade import Config
from mmctl.store.metrics import CHANCE, Metric, is_share
from mmctl.store.rows import RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store

SeedKey: TypeAlias = tuple[int | None, str | None, str]
"""Seed and split hash: what two runs must share to be a pair; and the configuration, in a group of several."""


class Counts(NamedTuple):
    """What a run that did not converge counts in a metric: as its recipe says, and 1 / K for K classes."""

    said: float | None
    chance: float | None

    def value(self) -> float | None:
        return self.chance if self.said is None else self.said


class Row(NamedTuple):
    """What makes a row: its runs, oldest first, with the value of each metric by run id."""

    runs: Sequence[RunRow]
    labels: int | None
    metrics: Sequence[Metric]
    values: Sequence[Mapping[int, float]]
    counts: Sequence[Counts]
    published: Config
    title: str | None = None  # of a group of runs (--by), which is its id too


def configuration_row(row: Row, notes: list[str], *, count_nc: bool, level: float) -> ConfigurationRow:
    """One row; count_nc: runs that did not converge are among those of the mean; notes: what must be said of it."""
    runs = row.runs
    finished = [run for run in runs if run["state"] == "completed"]
    counted = {_key(run): run for run in finished}
    failed = {_key(run): run for run in runs if not_converged(run)}
    lost = {run["id"] for key, run in failed.items() if key not in counted}
    chances = [one.value() if count_nc else None for one in row.counts]
    last, started = runs[-1], len({(run["config_id"], run["seed"]) for run in runs})
    behind = [
        run
        for run in runs
        if run is counted.get(_key(run)) or (run["id"] in lost and any(c is not None for c in chances))
    ]
    used = {run["id"] for run in behind}
    compared: list[ComparedRun] = [
        {
            "uid": run["uid"], "config_id": run["config_id"], "seed": run["seed"], "split_hash": run["split_hash"],
            "state": run["state"], "step": run["step"], "counted": run["id"] in used,
            "values": [*chances] if run["id"] in lost else [held.get(run["id"]) for held in row.values],
        }
        for run in runs
    ]  # fmt: skip
    hardware, configurations = _hardware(behind), len({run["config_id"] for run in runs})
    title = row.title or last["recipe"]
    if repeated := len(finished) - len(counted):
        notes.append(f"{title}: {repeated} runs repeat a seed; only the newest run of a seed counts")
    if configurations > 1:
        notes.append(f"{title}: its mean is over {configurations} configurations, which differ in more than the seed")
    notes += [f"not counted: {run['unreadable']}" for run in runs if run["unreadable"]]
    notes += [
        f"{run['uid']} was altered, so that it stands alone: {run['altered'][0]}" for run in runs if run["altered"]
    ]
    if len(hardware) > 1:
        parts = ", ".join(f"{name} (seeds {', '.join(map(str, seeds))})" for name, seeds in hardware.items())
        notes.append(f"{title}: its mean mixes {parts}; precision:fp32 or device:cpu selects one kind")
    return {
        "config_id": row.title or last["config_id"], "configurations": configurations, "recipe": title,
        "names": [] if row.title else sorted({run["name"] for run in runs} - {last["recipe"]}),
        "method": _same(run["method"] for run in runs) or "", "labeler": _same(run["labeler"] for run in runs),
        "labels": row.labels, "altered": bool(last["altered"]),
        "seeds": max(started, len(counted.keys() | failed.keys())),
        "counts": dict(sorted(Counter(run["state"] for run in runs).items())),
        "hardware": hardware, "runs": compared,
        "values": [
            _figures(
                row, number, values_by_seed(compared, number, configurations), len(lost), chances[number] is not None,
                level,
            )
            for number in range(len(row.metrics))
        ],
    }  # fmt: skip


def _key(run: RunRow) -> tuple[str, int | None, str | None]:
    return run["config_id"], run["seed"], run["split_hash"]


def _same(values: Iterable[str | None]) -> str | None:
    """What all runs share, `several` if they differ, which only those of a group do."""
    found = set(values)
    return found.pop() if len(found) == 1 else "several"


def not_converged(run: RunRow) -> bool:
    """Whether a run collapsed (state nc), or failed because a loss or weight became NaN or infinite."""
    return run["state"] == "nc" or (run["state"] == "failed" and Diverged.WORDS in (run["reason"] or ""))


def nc_counts(store: Store, metric: Metric, runs: Iterable[RunRow], config: Config) -> Counts:
    """What a run that did not converge counts in a metric; config: the recipe, which may say it (eval.nc_as)."""
    split, *_, name = metric.name.split("/")
    if split == "train" or name not in CHANCE:
        return Counts(None, None)
    classes = (store.data(run).get("classes") for run in runs)
    chance = next((1 / len(one) for one in classes if isinstance(one, list) and one), None)
    said = setting(config, "eval.nc_as")
    number = float(said) if isinstance(said, (int, float)) and not isinstance(said, bool) and 0 <= said <= 1 else None
    return Counts(chance if said == "chance" else number, chance)


def _hardware(runs: Iterable[RunRow]) -> dict[str, list[int | None]]:
    """Precision and kind of device -> seeds, of the runs that say so."""
    found: dict[str, list[int | None]] = {}
    for run in runs:
        if run["precision"] and run["device"]:
            kind = f"{run['precision']} on {'CPU' if run['device'] == 'cpu' else 'GPU'}"
            found.setdefault(kind, []).append(run["seed"])
    return dict(sorted(found.items()))


def values_by_seed(runs: Sequence[ComparedRun], number: int, configurations: int) -> dict[SeedKey, float]:
    """The values of one metric, of the runs that count; configurations: how many the runs belong to."""
    values = {
        (run["seed"], run["split_hash"], run["config_id"] if configurations > 1 else ""): run["values"][number]
        for run in runs
        if run["counted"]
    }
    return {key: value for key, value in values.items() if value is not None}


def _figures(
    row: Row, number: int, by_seed: Mapping[SeedKey, float], nc: int, nc_counted: bool, level: float
) -> Figures:
    """One metric; nc: the number of runs that did not converge."""
    metric, values = row.metrics[number], list(by_seed.values())
    finite = bool(values) and all(map(math.isfinite, values))
    mean = stats.mean(values) if finite else math.nan
    bounds = (0.0, 1.0) if is_share(metric.name) else (-math.inf, math.inf)
    low, high = (stats.interval(values, level, bounds) if finite else None) or (None, None)
    theirs = published_value(row.published, metric.name, row.runs[-1]["primary_metric"])
    if theirs and finite:
        theirs["distance"] = mean - theirs["value"]
    said, every = row.counts[number].said if nc and not nc_counted else None, None
    if said is not None:
        all_values = values + nc * [said]
        every = AllRuns(n=len(all_values), mean=stats.mean(all_values), std=stats.std(all_values), counts_as=said)
    return {
        "n": len(values),
        "nc": nc,
        "nc_counted": bool(nc) and nc_counted,
        "mean": mean if values else None,
        "std": stats.std(values) if finite else None,
        "low": low,
        "high": high,
        "all_runs": every,
        "published": theirs,
    }


def rank(figures: Figures, counts: Counts, lower: bool) -> tuple[int, float]:
    """The place of a row by its mean: the better, the earlier; a missing or infinite mean comes last.

    Runs that did not converge count, as the recipe says or as chance level; where they count nothing that is known,
    the row comes after those without such runs.
    """
    mean, left_out = figures["mean"], 0 if figures["nc_counted"] else figures["nc"]
    value = counts.value() if left_out else None
    if value is not None:
        n = figures["n"]
        mean = ((mean or 0.0) * n + value * left_out) / (n + left_out)
    if mean is None or not math.isfinite(mean):
        return 2, 0.0
    return int(bool(left_out) and value is None), mean if lower else -mean
