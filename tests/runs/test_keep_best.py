"""`train.keep_best`: which checkpoint is kept, after kills, stops and ties, and what is said of it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers import tiny_project
from helpers.command import Result
from helpers.run_helpers import After, assert_same, events, never, points, started, survives_kills
from mmctl.runs.execute import execute
from mmctl.training import checkpoint
from mmctl.training.best import Best

Mm = Callable[..., Result]
BY = "test/raw/head/macro_f1"
SETS = ("train.steps=24", "train.save_every=10", "eval.every=2", f"train.keep_best={BY}")


def best_of(folder: Path, metric: str = BY, lower: bool = False) -> int:
    """The step of the best value, the first of equal ones, from the journal alone."""
    curve = {step: v for (name, step), v in points(folder).items() if name == metric and v is not None}
    return (min if lower else max)(sorted(curve), key=lambda step: curve[step])


def kept(folder: Path) -> list[int]:
    return checkpoint.steps(folder)


def test_the_best_is_kept_beside_the_newest(tmp_path: Path) -> None:
    folder, plain = started(tmp_path, *SETS, "optimizer.lr=1.5"), started(tmp_path, *SETS[:-1], "optimizer.lr=1.5")
    assert execute(folder, never).state == execute(plain, never).state == "completed"
    best = best_of(folder)
    assert best < 20, "otherwise it would be among the newest"
    saved = {event["step"]: event["kind"] for event in events(folder, "checkpoint")}
    assert saved[best] == "best"
    assert set(kept(folder)) == {best, *sorted(saved)[-2:]}
    assert_same(folder, plain)
    ids = [json.loads((one / "run.json").read_text())["config_id"] for one in (folder, plain)]
    assert ids[0] == ids[1], "it changes no result"


def test_smaller_is_better_for_some(tmp_path: Path) -> None:
    folder = started(tmp_path, *SETS[:-1], "train.keep_best=test/nll", "optimizer.lr=1.5")
    execute(folder, never)
    assert best_of(folder, "test/ema/head/nll", lower=True) in kept(folder)


def test_ties_keep_the_earlier_and_nan_is_never_best() -> None:
    best = Best("m")
    for step, value in enumerate([math.nan, 0.2, 0.5, 0.5, math.nan, 0.4]):
        best.offer(step, {"m": value, "other": 9.0})
    assert (best.step, best.value) == (2, 0.5)
    none = Best()
    none.offer(1, {"m": 1.0})
    assert none.step is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "stride", [pytest.param(17, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_kill_9_leaves_the_best_of_an_unbroken_run(stride: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    sets = (*SETS, "optimizer.lr=1.5")
    whole = started(tmp_path, *sets)
    execute(whole, never)
    best = best_of(whole)
    for n in range(1, 300, stride):
        folder = started(tmp_path, *sets)
        if not survives_kills(folder, n):
            break
        assert_same(folder, whole)
        assert kept(folder) == kept(whole)
        one, other = (checkpoint.read(checkpoint.folder_of(run, best)) for run in (folder, whole))
        assert all(torch.equal(t, other.tensors[k]) for k, t in one.tensors.items())
        shutil.rmtree(folder)
    assert n > 60


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "calls", [1, 22, 43, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (8, 15, 29, 36, 50, 57))]
)
def test_a_stop_anywhere_leaves_the_best_of_an_unbroken_run(calls: int, tmp_path: Path) -> None:
    """Also in an evaluation that would be the best one: it is repeated, and its checkpoint is there already."""
    sets = (*SETS, "optimizer.lr=1.5", "eval.batch=20")
    whole, folder = started(tmp_path, *sets), started(tmp_path, *sets)
    execute(whole, never)
    while execute(folder, After(calls)).state == "interrupted":
        calls += 9
    assert_same(folder, whole)
    assert best_of(whole) in kept(folder)
    assert len(kept(folder)) <= 3


def test_the_best_is_evaluated_and_shown(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, *SETS, "optimizer.lr=1.5")
    execute(folder, never)
    best = best_of(folder)
    done = mm("evaluate", "@last", "-c", "best", "--weights", "raw", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["step"] == best
    assert found["metrics"]["macro_f1"] == points(folder)[BY, best]
    assert "selected on the test set, so it is optimistically biased" in done.err
    shown = mm("show", "@last")
    assert "best       checkpoint of step" in shown.out
    assert "selected on the test set" in shown.out
    assert sum(line.endswith("  best") for line in shown.out.splitlines()) == 1
    assert json.loads(mm("show", "@last", "--json").out)["run"]["best"] == {
        "metric": BY, "step": best, "value": points(folder)[BY, best], "selected_on_test": True,
    }  # fmt: skip
    shutil.rmtree(checkpoint.folder_of(folder, best))
    done = mm("evaluate", "@last", "-c", "best")
    assert done.code == 2
    assert f"by {BY}, of step {best}, is gone; use " in " ".join(done.err.split())


def test_a_run_without_a_best_says_so(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, never)
    done = mm("evaluate", "@last", "-c", "best")
    assert done.code == 2
    assert "keeps no best checkpoint, because its recipe has no train.keep_best; use 10, 12," in done.err
    assert json.loads(mm("show", "@last", "--json").out)["run"]["best"] is None


def test_what_a_recipe_may_say(mm: Mm, tmp_path: Path) -> None:
    path = tiny_project.written("supervised")
    small = ("--set", "train.steps=2", "--set", "train.threads=1", "--set", "eval.every=1", "-q")
    for given, words in {
        "val/accuracy": 'train.keep_best = "val/accuracy"',
        "test/acuracy": "must end with a metric",
        "tset/accuracy": '"tset" is not evaluated',
    }.items():
        done = mm("run", path, *small, "--set", f"train.keep_best={given}")
        assert (done.code, words in done.err) == (2, True), done.err
    done = mm("run", path, *small, "--set", "train.keep_best=test/accuracy")
    assert done.code == 0, done.err
    assert "the best checkpoint is selected on the test set, so it is optimistically biased" in done.err
    done = mm("run", path, *small, "--force", "--set", "train.keep_best=val/accuracy", "--set", "split.val=0.2")
    assert done.code == 0, done.err
    assert "optimistically" not in done.err
