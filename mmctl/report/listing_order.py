"""The order of `mmctl ls`: by any column, metric or setting that `--sort` names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mmctl.errors import UserError
from mmctl.report.listing_columns import KNOWN, asked_values, seconds_of
from mmctl.store.metrics import headline
from mmctl.store.rows import RunRow
from mmctl.store.store import Store


def sort_runs(store: Store, runs: Sequence[RunRow], text: str) -> list[RunRow]:
    """The runs by one column, the largest value last; `-NAME`: the smallest last. Those without a value come first."""
    name = text.removeprefix("-")
    if name in ("result", "balanced"):
        ends = {run["id"]: _metric_of(run, name) for run in runs}
        found = store.summaries(sorted(set(ends.values())), runs)
        values: Mapping[int, object] = {
            id: headline(one)[0] for (id, metric), one in found.items() if ends.get(id) == metric
        }
    elif name == "age":
        values = {run["id"]: -run["created"] for run in runs}
    elif name == "seconds":
        values = {run["id"]: seconds_of(run) for run in runs}
    elif name in SORTED:
        key = SORTED[name]
        values = {run["id"]: run[key] for run in runs}  # type: ignore[literal-required]
    elif name in KNOWN:
        known = ", ".join(SORTABLE)
        raise UserError(f"--sort {name}: this column has no order. Known: {known}, a metric, cfg.TABLE.KEY")
    else:
        values = asked_values(store, runs, name, "--sort")
    down = -1 if text.startswith("-") else 1
    return sorted(runs, key=lambda run: _order(values.get(run["id"]), down))


SORTED = {
    "number": "number", "run": "uid", "state": "state", "step": "step", "steps": "total_steps", "labels": "labeled",
    "seed": "seed", "method": "method", "name": "name", "recipe": "recipe", "labeler": "labeler", "config": "config_id",
    "host": "host", "device": "device", "precision": "precision", "threads": "threads", "attempt": "attempt",
    "created": "created", "started": "started", "ended": "ended", "data": "data_hash", "split": "split_hash",
}  # fmt: skip
SORTABLE = (*SORTED, "age", "seconds", "result", "balanced")


class _Down:
    """A text that comes before those that are before it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Down) -> bool:
        return other.text < self.text


def _order(value: object, down: int) -> tuple[int, float, object]:
    """Nothing, then numbers, then texts."""
    if isinstance(value, (int, float)) and not math.isnan(value):
        return 1, down * float(value), ""
    if value is None or isinstance(value, float):
        return 0, 0.0, ""
    return 2, 0.0, str(value) if down > 0 else _Down(str(value))


def _metric_of(run: RunRow, name: str) -> str:
    return (
        run["primary_metric"] if name == "result" else f"{run['primary_metric'].rpartition('/')[0]}/balanced_accuracy"
    )
