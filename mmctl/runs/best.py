"""Which checkpoint of a run is the best by `train.keep_best`, as its journals say."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mmctl.recipe.recipe import Recipe
from mmctl.report.results import as_number
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Event, Points
from mmctl.run_folder.record import best_metric
from mmctl.store.metrics import LOWER
from mmctl.training.best import Best


def best_so_far(folder: Path, recipe: Recipe, until: int | None = None, among: Collection[int] | None = None) -> Best:
    """The best of the logged evaluations up to the step `until`; among: steps that can be the best, if not all.

    A checkpoint on disk always has its log entries, so that an attempt finds what the attempt before it knew.
    """
    metric = best_metric(recipe.data)
    if metric is None:
        return Best()
    values: dict[int, float] = {}
    for event in journal.read_events(folder, Event):
        if isinstance(event, Attempt):
            values = {step: value for step, value in values.items() if step <= (event.start or 0)}
        elif isinstance(event, Points) and metric in event.values:
            values[event.step] = as_number(event.values[metric])
    best = Best(metric, metric.endswith(LOWER))
    for step in sorted(values):
        if (until is None or step <= until) and (among is None or step in among):
            best.offer(step, {metric: values[step]})
    return best
