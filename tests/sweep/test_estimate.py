"""How long runs will take, by the time that similar ones took."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import tiny_project
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Pace, State
from mmctl.run_folder.journal import Journal
from mmctl.runs.create import create_run
from mmctl.sweep.estimate import longest_first, paces, seconds_for


def done(recipe: Recipe, runs: Path, seconds: float, state: str = "completed") -> None:
    """A run of the past that took so long for its 20 steps."""
    folder = create_run(recipe, runs)
    with Journal(folder, 1) as log:
        log.write(Attempt(number=1, start=0))
        log.write(Pace(step=20, seconds=seconds, cpu=seconds))
    journal.append(folder, State(state=state, step=20))


@pytest.fixture
def recipe() -> Recipe:
    return tiny_project.recipe("supervised")


def test_the_pace_is_the_median_of_similar_runs_that_completed(recipe: Recipe, tmp_path: Path) -> None:
    for seed, seconds in enumerate((10.0, 20.0, 60.0)):
        done(recipe.with_seed(seed), tmp_path, seconds)
    done(recipe.with_seed(3), tmp_path, 1000.0, "failed")
    done(recipe.with_sets(["train.batch=24"]), tmp_path, 1000.0)
    longer = recipe.with_sets(["train.steps=200", "optimizer.lr=0.3"])
    known = paces([longer], tmp_path)
    assert known[longer.config_id] == 1.0
    assert seconds_for(longer, known[longer.config_id]) == 200.0


def test_without_similar_runs_the_time_is_unknown(recipe: Recipe, tmp_path: Path) -> None:
    known = paces([recipe], tmp_path / "runs")
    assert known == {recipe.config_id: None}
    assert seconds_for(recipe, None) is None
    assert not (tmp_path / "runs").exists()


def test_the_longest_run_is_the_first(recipe: Recipe, tmp_path: Path) -> None:
    done(recipe, tmp_path, 20.0)
    done(recipe.with_sets(["train.batch=24"]), tmp_path, 100.0)
    short, long = recipe.with_sets(["train.steps=30"]), recipe.with_sets(["train.batch=24", "train.steps=25"])
    more = [r.with_seed(seed) for r in (short, long) for seed in (1, 2)]
    ordered = longest_first(more, paces(more, tmp_path))
    assert [(r.settings.train.batch, r.seed) for r in ordered] == [(24, 1), (24, 2), (12, 1), (12, 2)]
    unknown = recipe.with_sets(["train.unlabeled_batch=24", "train.steps=100"])
    first, *_ = longest_first([short, unknown, long], paces([short, unknown, long], tmp_path))
    assert first is unknown
