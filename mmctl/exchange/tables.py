"""What is exported as a table: a row for each run, for each point of a curve, or for each evaluation.

Times are ISO 8601 in UTC, shares are from 0 to 1, a value that is not known is empty, NaN is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from mmctl.run_folder.values import Json, flatten
from mmctl.store.metrics import check_metric, parse_metric, series_name
from mmctl.store.read_curves import each_point, evaluated_metrics, last_values, seconds_of
from mmctl.store.rows import RunRow
from mmctl.store.store import Store

Value: TypeAlias = Json
TEXT, INTEGER, NUMBER, TRUTH, ANY = "text", "integer", "number", "truth", "any"
FACTS = {
    "run": TEXT, "name": TEXT, "recipe": TEXT, "method": TEXT, "labeler": TEXT, "seed": INTEGER, "config_id": TEXT,
    "state": TEXT, "reason": TEXT, "created": TEXT, "started": TEXT, "ended": TEXT, "seconds": NUMBER, "step": INTEGER,
    "total_steps": INTEGER, "labeled": INTEGER, "host": TEXT, "device": TEXT, "precision": TEXT, "threads": INTEGER,
    "data_hash": TEXT, "split_hash": TEXT, "attempt": INTEGER, "exact": TRUTH, "tags": TEXT, "starred": TRUTH,
    "archived": TRUTH, "primary_metric": TEXT,
}  # fmt: skip
"""The first columns of the table of runs; then cfg.KEY for each setting, and METRIC@last for each curve."""
POINTS = {"run": TEXT, "metric": TEXT, "step": INTEGER, "value": NUMBER}
EVALUATIONS = {
    "run": TEXT, "step": INTEGER, "split": TEXT, "weights": TEXT, "predictor": TEXT, "attempt": INTEGER, "time": TEXT,
    "checkpoint": TEXT, "n": INTEGER, "per_class": ANY, "confusion": ANY,
}  # fmt: skip
"""The first columns of the table of evaluations; then one for each metric. Attempt 0 is after training."""


class Table(NamedTuple):
    """Columns with their kinds of values, and the rows as they are read."""

    columns: dict[str, str]
    rows: Iterator[Sequence[Value]]


def runs_table(store: Store, runs: Sequence[RunRow]) -> Table:
    """A row for each run: facts, settings, and the last value of each curve."""
    settings = {id: flatten(config) for id, config in store.configs(runs).items()}
    curves, seconds = last_values(store, runs), seconds_of(store, runs)
    keys = list(dict.fromkeys(key for run in runs for key in settings[run["id"]]))
    names = list(dict.fromkeys(name for run in runs for name in curves[run["id"]]))
    columns = dict(FACTS) | {f"cfg.{key}": _kind(one.get(key) for one in settings.values()) for key in keys}
    columns |= {f"{name}@last": NUMBER for name in names}

    def row(run: RunRow) -> list[Value]:
        facts: dict[str, Value] = {**run, "run": run["uid"], "seconds": seconds.get(run["id"])}  # type: ignore[dict-item]
        facts |= {key: iso(run[key]) for key in ("created", "started", "ended")}  # type: ignore[literal-required]
        facts |= {"tags": " ".join(run["tags"]), "exact": bool(run["exact"])}
        mine, last = settings[run["id"]], curves[run["id"]]
        return [*(facts[key] for key in FACTS), *(mine.get(key) for key in keys), *(last.get(name) for name in names)]

    return Table(columns, (row(run) for run in runs))


def series_table(store: Store, runs: Sequence[RunRow], metrics: Sequence[str] = ()) -> Table:
    """A row for each point of these curves (or of all), run by run; it is read as it is written.

    UserError where no run has a curve of this name.
    """
    asked = [parse_metric(metric) for metric in metrics]
    for metric in asked:
        check_metric(store, runs, metric)

    def rows() -> Iterator[Sequence[Value]]:
        for run in runs:
            wanted = {series_name(metric.name, run["primary_metric"]) for metric in asked}
            for one in store.series(run):
                if not asked or one["name"] in wanted:
                    uid, name = run["uid"], one["name"]
                    for step, value in each_point(store, one["id"]):
                        yield uid, name, step, math.nan if value is None else value

    return Table(dict(POINTS), rows())


def evaluations_table(store: Store, runs: Sequence[RunRow]) -> Table:
    """A row for each evaluation, of one network with one predictor on one split."""
    names = evaluated_metrics(store, runs)

    def rows() -> Iterator[Sequence[Value]]:
        for run in runs:
            for one in store.evaluations(run):
                facts: dict[str, Value] = {**one, "run": run["uid"], "time": iso(one["t"])}  # type: ignore[dict-item]
                yield [
                    *(facts[key] for key in EVALUATIONS),
                    *(float(value) if isinstance(value := one["metrics"].get(name), str) else value for name in names),
                ]

    return Table(dict(EVALUATIONS) | dict.fromkeys(names, NUMBER), rows())


def iso(t: int | None) -> str | None:
    """A time in milliseconds since 1970 as ISO 8601 in UTC; None if it is none, or beyond the calendar."""
    try:
        return None if t is None else f"{datetime.fromtimestamp(t / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{t % 1000:03d}Z"
    except (ValueError, OverflowError, OSError):
        return None


def _kind(values: Iterable[Value]) -> str:
    """The kind of a column of settings, which may differ from run to run."""
    kinds = {type(value) for value in values if value is not None}
    for kind, fits in ((TRUTH, {bool}), (INTEGER, {int}), (NUMBER, {int, float}), (TEXT, {str})):
        if kinds <= fits:
            return kind
    return ANY
