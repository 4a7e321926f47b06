"""One row of `mmctl compare`: the runs of a configuration, which of them count, and their mean, spread and interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from mmctl.errors import Diverged
from mmctl.report import stats
from mmctl.report.published import published_value
from mmctl.report.results import ComparedRun, ConfigurationRow, Figures
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.store.metrics import CHANCE, Metric, is_share
from mmctl.store.rows import RunRow
from mmctl.store.store import Store

SeedKey: TypeAlias = tuple[int | None, str | None]
"""Seed and split hash: what two runs must share to be a pair."""


def configuration_row(
    runs: Sequence[RunRow],
    labels: int | None,
    metrics: Sequence[Metric],
    values: Sequence[Mapping[int, float]],
    chances: Sequence[float | None],
    published: Config,
    notes: list[str],
) -> ConfigurationRow:
    """One row; values: of each metric by run; chances: what a run that did not converge counts in it."""
    finished = [run for run in runs if run["state"] == "completed"]
    counted = {(run["seed"], run["split_hash"]): run for run in finished}
    failed = {(run["seed"], run["split_hash"]): run for run in runs if not_converged(run)}
    lost = {run["id"] for key, run in failed.items() if key not in counted}
    behind = [run for run in runs if run in counted.values() or (run["id"] in lost and any(chances))]
    compared: list[ComparedRun] = [
        {
            "uid": run["uid"], "seed": run["seed"], "split_hash": run["split_hash"], "state": run["state"],
            "step": run["step"], "counted": run in behind,
            "values": [*chances] if run["id"] in lost else [held.get(run["id"]) for held in values],
        }
        for run in runs
    ]  # fmt: skip
    last, hardware = runs[-1], _hardware(behind)
    if repeated := len(finished) - len(counted):
        notes.append(f"{last['recipe']}: {repeated} runs repeat a seed; only the newest run of a seed counts")
    notes += [f"not counted: {run['unreadable']}" for run in runs if run["unreadable"]]
    notes += [
        f"{run['uid']} was altered, so that it stands alone: {run['altered'][0]}" for run in runs if run["altered"]
    ]
    if len(hardware) > 1:
        parts = ", ".join(f"{name} (seeds {', '.join(map(str, seeds))})" for name, seeds in hardware.items())
        notes.append(f"{last['recipe']}: its mean mixes {parts}; precision:fp32 or device:cpu selects one kind")
    return {
        "config_id": last["config_id"], "recipe": last["recipe"],
        "names": sorted({run["name"] for run in runs} - {last["recipe"]}),
        "method": last["method"], "labeler": last["labeler"], "labels": labels, "altered": bool(last["altered"]),
        "counts": dict(sorted(Counter(run["state"] for run in runs).items())), "hardware": hardware, "runs": compared,
        "values": [
            _figures(values_by_seed(compared, number), metric, published, last["primary_metric"], len(lost), chance)
            for number, (metric, chance) in enumerate(zip(metrics, chances, strict=True))
        ],
    }  # fmt: skip


def not_converged(run: RunRow) -> bool:
    """Whether a run collapsed (state nc), or failed because a loss or weight became NaN or infinite."""
    return run["state"] == "nc" or (run["state"] == "failed" and Diverged.WORDS in (run["reason"] or ""))


def chance_level(store: Store, metric: Metric, runs: Iterable[RunRow]) -> float | None:
    """What a run that did not converge counts in a metric: 1 / K for K classes; None = there is no such level."""
    split, *_, name = metric.name.split("/")
    classes = [store.data(run).get("classes") for run in runs] if split != "train" and name in CHANCE else []
    return next((1 / len(one) for one in classes if isinstance(one, list) and one), None)


def _hardware(runs: Iterable[RunRow]) -> dict[str, list[int | None]]:
    """Precision and kind of device -> seeds, of the runs that say so."""
    found: dict[str, list[int | None]] = {}
    for run in runs:
        if run["precision"] and run["device"]:
            kind = f"{run['precision']} on {'CPU' if run['device'] == 'cpu' else 'GPU'}"
            found.setdefault(kind, []).append(run["seed"])
    return dict(sorted(found.items()))


def values_by_seed(runs: Sequence[ComparedRun], number: int) -> dict[SeedKey, float]:
    """The values of one metric, of the runs that count."""
    values = {(run["seed"], run["split_hash"]): run["values"][number] for run in runs if run["counted"]}
    return {key: value for key, value in values.items() if value is not None}


def _figures(
    by_seed: Mapping[SeedKey, float],
    metric: Metric,
    published: Mapping[str, Setting],
    primary: str,
    nc: int,
    chance: float | None,
) -> Figures:
    """One metric; nc: runs that did not converge; chance: what each of them counts in it."""
    values = list(by_seed.values())
    finite = bool(values) and all(map(math.isfinite, values))
    mean = stats.mean(values) if finite else math.nan
    bounds = (0.0, 1.0) if is_share(metric.name) else (-math.inf, math.inf)
    low, high = (stats.interval(values, bounds=bounds) if finite else None) or (None, None)
    theirs = published_value(published, metric.name, primary)
    if theirs and finite:
        theirs["distance"] = mean - theirs["value"]
    return {
        "n": len(values),
        "nc": nc,
        "nc_counted": bool(nc) and chance is not None,
        "mean": mean if values else None,
        "std": stats.std(values) if finite else None,
        "low": low,
        "high": high,
        "published": theirs,
    }
