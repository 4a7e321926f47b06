"""What a metric on the command line means: which curve of a run, and which number of that curve.

`test/accuracy` is the run's own primary weights and predictor, `test/raw/centroid/accuracy` names them.
`@last @max @min @median20 @mean20 @step=N @best:METRIC` choose the number; the headline, without any, is the
median of the last twenty evaluations where there are twenty, else the last one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from mmctl.errors import UserError, suggest
from mmctl.store.curves import extended
from mmctl.store.read_curves import names_among, reduced_values
from mmctl.store.rows import CurveSummary, RunRow, SeriesRow
from mmctl.store.store import Store
from mmctl.text import whole_number

USUAL = ("test/accuracy", "test/balanced_accuracy")
"""What is compared and drawn unless a metric is named."""
REDUCERS = ("last", "max", "min", "median20", "mean20")
WORDS = {
    "last": "last evaluation",
    "max": "largest of all evaluations",
    "min": "smallest of all evaluations",
    "median20": "median of the last 20 evaluations",
    "mean20": "mean of the last 20 evaluations",
}
ENOUGH = 20
SHARES = (
    "accuracy", "macro_f1", "ece", "largest_class", "recall", "agreement", "guess_kept", "guess_top", "guess_largest"
)  # fmt: skip
"""Metrics that are shares of a whole: from 0 to 1, shown in percent."""
CHANCE = ("accuracy", "balanced_accuracy")
"""Metrics that are 1 / K on average if one of K classes is predicted for everything."""
PEEKED = "selected on the test set, so it is optimistically biased"
LOWER = ("nll", "ece", "loss", "error")
"""Metrics whose names end like this are better when they are smaller."""


@dataclass(frozen=True)
class Metric:
    """A metric and how one number is taken from its curve; without a reducer it is the headline."""

    text: str
    name: str
    reducer: str | None = None
    argument: str = ""

    def words(self, reducer: str) -> str:
        """How the number was chosen, for people."""
        if reducer == "step":
            return f"at step {self.argument}"
        return f"where {self.argument} is best" if reducer == "best" else WORDS[reducer]

    @property
    def peeks(self) -> bool:
        """Whether the number is selected on the test set, which makes it optimistically biased."""
        chooser = self.argument if self.reducer == "best" else self.name
        return self.reducer in ("best", "max", "min") and chooser.startswith("test/")


def parse_metric(text: str) -> Metric:
    """Read `NAME`, `NAME@REDUCER`, `NAME@step=N` or `NAME@best:METRIC`."""
    name, at, how = text.partition("@")
    if not name:
        raise UserError(f'"{text}": a metric is a name such as test/accuracy, with or without a reducer such as @last.')
    if not at:
        return Metric(text, name)
    if how.startswith("step="):
        if whole_number(how[5:]) is None:
            raise UserError(f'"{text}": @step= takes a step number, such as @step=500.')
        return Metric(text, name, "step", how[5:])
    if how.startswith("best:") and how[5:]:
        return Metric(text, name, "best", how[5:])
    if how not in REDUCERS:
        known = ", ".join(f"@{reducer}" for reducer in REDUCERS)
        raise UserError(f'"{text}": no reducer "@{how}".{suggest(how, REDUCERS)} Known: {known}, @step=N, @best:METRIC')
    return Metric(text, name, how)


@lru_cache(maxsize=1024)
def series_name(name: str, primary: str) -> str:
    """The full name of a curve: weights and predictor that are left out are those of the run's primary metric."""
    split, *middle = name.split("/")
    metric = middle.pop() if middle else ""
    asked = set(middle)
    _, weights, predictor, *_ = [*primary.split("/"), "", "", ""]
    # The names of a run of another program are as that program wrote them.
    foreign = primary and not (weights in ("ema", "raw") and predictor in ("head", "centroid"))
    if not metric or split == "train" or foreign or not asked <= {"ema", "raw", "head", "centroid"}:
        return name
    weights = next((part for part in ("ema", "raw") if part in asked), weights or "ema")
    predictor = next((part for part in ("head", "centroid") if part in asked), predictor or "head")
    return f"{split}/{weights}/{predictor}/{metric}"


def short_name(name: str) -> str:
    """`test/accuracy` of `test/ema/head/accuracy`."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}" if len(parts) == 4 else name


def headline(summary: SeriesRow) -> tuple[float | None, str]:
    """The number that represents a curve, and the reducer that gave it."""
    reducer = "median20" if summary["n"] >= ENOUGH else "last"
    return _value(_reduced(summary, reducer), summary["n"]), reducer


def is_share(name: str) -> bool:
    """Whether a metric is a share of a whole."""
    return name.endswith(SHARES) and not name.startswith("lr")


def has_metric(store: Store, runs: Sequence[RunRow], name: str) -> bool:
    """Whether one of these runs has the curve of a metric."""
    return bool(names_among(store, runs, list({series_name(name, run["primary_metric"]) for run in runs})))


def check_metric(store: Store, runs: Sequence[RunRow], measure: Metric) -> None:
    """UserError if the runs have curves, but none of this name: it is misspelt."""
    if not has_metric(store, runs, measure.name):
        known = {short_name(one["name"]) for run in runs for one in store.series(run)}
        if known:
            raise UserError(f'no run has "{measure.name}".{suggest(measure.name, known)}')


def usual_metrics(store: Store, runs: Sequence[RunRow]) -> list[str]:
    """What is shown unless a metric is named: those of USUAL that a run has, else by what most runs are judged."""
    if kept := [name for name in USUAL if has_metric(store, runs, name)]:
        return kept
    judged = Counter(run["primary_metric"] for run in runs).most_common()
    there = names_among(store, runs, [name for name, _ in judged])
    return next(([short_name(name)] for name, _ in judged if name in there), list(USUAL))


def metric_values(
    store: Store, runs: Sequence[RunRow], measure: Metric, limits: Mapping[int, int] | None = None
) -> tuple[dict[int, float], str]:
    """The number of each run that has this curve, by run id, and the reducer, the same for all runs.

    limits: by run id, the last step whose evaluation counts; runs that it lacks have no number.
    """
    names = {run["id"]: series_name(measure.name, run["primary_metric"]) for run in runs}
    reducer = measure.reducer
    if reducer is not None and reducer not in REDUCERS:
        known = _summaries(store, runs, names, limits)
        picked = {run["id"]: _at(store, run, names[run["id"]], measure, limits) for run in runs if run["id"] in known}
        return {id: value for id, value in picked.items() if value is not None}, reducer
    column = reducer or "median20"
    if limits is None:
        found = reduced_values(store, runs, names, column)
    else:
        made = _summaries(store, runs, names, limits)
        found = {id: (row["n"], row["last"], _reduced(row, column)) for id, row in made.items()}
    if reducer is None:
        reducer = "median20" if found and all(n >= ENOUGH for n, _, _ in found.values()) else "last"
    values = {id: _value(last if reducer == "last" else reduced, n) for id, (n, last, reduced) in found.items()}
    return {id: value for id, value in values.items() if value is not None}, reducer


def chosen_step(store: Store, run: RunRow, measure: Metric, limits: Mapping[int, int] | None = None) -> int | None:
    """The step of the evaluation that a metric is taken from; of a median or mean, the last one."""
    if measure.reducer == "step":
        return int(measure.argument)
    name = series_name(measure.argument if measure.reducer == "best" else measure.name, run["primary_metric"])
    summary = _summaries(store, [run], {run["id"]: name}, limits).get(run["id"])
    if summary is None:
        return None
    lowest = name.endswith(LOWER) if measure.reducer == "best" else measure.reducer == "min"
    if measure.reducer in ("best", "min", "max"):
        return summary["min_step" if lowest else "max_step"]
    return summary["last_step"]


def _summaries(
    store: Store, runs: Sequence[RunRow], names: Mapping[int, str], limits: Mapping[int, int] | None
) -> dict[int, CurveSummary]:
    """The summary of the curve that `names` gives each run, up to its limit; without those that have no such curve."""
    if limits is None:
        found = store.summaries(sorted(set(names.values())), runs)
        return {run["id"]: found[key] for run in runs if (key := (run["id"], names[run["id"]])) in found}
    made: dict[int, CurveSummary] = {}
    for run in runs:
        curve = store.points(run, names[run["id"]]) if run["id"] in limits else []
        rows = [(step, None if math.isnan(value) else value) for step, value in curve if step <= limits[run["id"]]]
        if rows:
            summary = extended(None, rows, [value for _, value in rows[-ENOUGH:]])
            made[run["id"]] = cast(CurveSummary, summary | {"name": names[run["id"]]})
    return made


def _at(store: Store, run: RunRow, name: str, measure: Metric, limits: Mapping[int, int] | None = None) -> float | None:
    step = chosen_step(store, run, measure, limits)
    return next((value for at, value in store.points(run, name) if at == step), None)


def _reduced(row: CurveSummary, reducer: str) -> float | None:
    values = {"last": row["last"], "max": row["max"], "min": row["min"]}
    return (values | {"mean20": row["mean20"], "median20": row["median20"]})[reducer]


def _value(value: float | None, points: int) -> float | None:
    # NULL in a curve that has points means NaN.
    return math.nan if value is None and points else value
