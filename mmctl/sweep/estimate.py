"""How long runs will take, from the time that similar runs took in the past."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from mmctl.errors import MmctlError
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder.upgrade import Config
from mmctl.store.read_curves import seconds_of
from mmctl.store.reading import open_for_reading
from mmctl.store.select import setting

ALIKE = ("dataset.name", "method.name", "backbone", "train.batch", "train.unlabeled_batch")
"""Settings that decide how long a step takes: runs that share them are similar."""
NEWEST = 2000
"""Runs that are looked at."""


def paces(recipes: Sequence[Recipe], runs: Path) -> dict[str, float | None]:
    """Configuration -> seconds of a step, with its share of evaluations and checkpoints; None if they are not known.

    By the median of the similar runs of the past.
    """
    times: dict[str, list[float]] = {}
    try:
        with open_for_reading(runs) as store:
            past = [run for run in store.runs(newest=NEWEST) if run["state"] == "completed" and run["step"]]
            configs, seconds = store.configs(past), seconds_of(store, past)
            for run in past:
                if run["id"] in seconds:
                    times.setdefault(_kind(configs[run["id"]]), []).append(seconds[run["id"]] / run["step"])
    except MmctlError:
        pass  # an estimate is not worth an error
    found = {recipe.config_id: times.get(_kind(recipe.data)) for recipe in recipes}
    return {config: median(known) if known else None for config, known in found.items()}


def seconds_for(recipe: Recipe, pace: float | None) -> float | None:
    """The time that a run will take; None if it is not known."""
    return None if pace is None else pace * recipe.settings.train.steps


def longest_first(recipes: Sequence[Recipe], known: dict[str, float | None]) -> list[Recipe]:
    """The runs in the order of their start: the longest first, so that the last to end is a short one.

    Where the pace of a configuration is not known, its number of steps and images a step stand for its time.
    """
    times = [seconds_for(recipe, known[recipe.config_id]) for recipe in recipes]
    if all(time is not None for time in times):
        costs = [time or 0.0 for time in times]
    else:
        costs = [
            float(r.settings.train.steps * (r.settings.train.batch + r.settings.train.unlabeled_batch)) for r in recipes
        ]
    order = sorted(range(len(recipes)), key=lambda n: -costs[n])
    return [recipes[n] for n in order]


def _kind(config: Config) -> str:
    return repr([setting(config, key) for key in ALIKE])
