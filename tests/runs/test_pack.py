"""Several runs in one process compute what each computes alone, and end each in its own way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.command import Result
from helpers.run_helpers import After, assert_same, events, never, started
from mmctl.errors import Diverged, TrainingFailed, UserError
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder.record import last_state
from mmctl.runs import open
from mmctl.runs.execute import execute
from mmctl.runs.pack import execute_pack
from mmctl.runs.recorder import Outcome
from mmctl.training import checkpoint
from mmctl.training.state import Training

Mm = Callable[..., Result]
MIX: tuple[dict[str, Any], ...] = (
    {"method": "marginmix"},
    {"method": "mixmatch", "sets": ("seed=1", "train.steps=7")},
    {"method": "supervised", "sets": ("seed=2", "average.kind=none", "optimizer.name=adam")},
)


def quiet(folder: Path, event: Any, training: Training) -> None:
    pass


def three(tmp_path: Path) -> list[Path]:
    return [started(tmp_path, *one.get("sets", ()), method=one["method"]) for one in MIX]


@pytest.mark.slow
def test_packed_runs_are_solo_runs_to_the_last_bit(tmp_path: Path) -> None:
    solo, packed = three(tmp_path), three(tmp_path)
    for folder in solo:
        execute(folder, never)
    ended = execute_pack(packed, never, quiet)
    assert {f: (e.state, e.step) for f, e in ended.items() if isinstance(e, Outcome)} == {
        packed[0]: ("completed", 12), packed[1]: ("completed", 7), packed[2]: ("completed", 12)
    }  # fmt: skip
    for one, other in zip(packed, solo, strict=True):
        assert_same(one, other)


def test_runs_take_turns(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(folder: Path, event: Any, training: Training) -> None:
        if event is None:
            seen.append(training.seed)

    execute_pack([started(tmp_path, f"seed={n}") for n in range(3)], never, watch)
    assert seen == [0, 1, 2] * 12


def test_a_run_keeps_its_threads_beside_others(tmp_path: Path) -> None:
    seen: set[tuple[int, int]] = set()

    def watch(folder: Path, event: Any, training: Training) -> None:
        seen.add((training.seed, torch.get_num_threads()))

    try:
        execute_pack([started(tmp_path, f"seed={n}", f"train.threads={n}") for n in (1, 2)], never, watch)
    finally:
        torch.set_num_threads(1)
    assert seen == {(1, 1), (2, 2)}


@pytest.mark.slow
def test_the_data_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [started(tmp_path, f"seed={n}") for n in range(3)] + [started(tmp_path, "dataset.train=90")]
    built: list[str] = []
    build = Recipe.build

    def counted(self: Recipe, kind: str, *rest: Any, **more: Any) -> Any:
        built.append(kind)
        return build(self, kind, *rest, **more)

    monkeypatch.setattr(Recipe, "build", counted)
    execute_pack(folders, never, quiet)
    assert built.count("dataset") == 2, "one for each of the two settings"


def test_what_ends_one_leaves_the_others(tmp_path: Path) -> None:
    folders = [
        started(tmp_path),
        started(tmp_path, "loss.labeled.name=nan_at_7", "seed=1"),
        started(tmp_path, "seed=2"),
    ]
    execute(folders[2], never)  # nothing to do there: refused
    ended = execute_pack(folders, never, quiet)
    assert ended[folders[0]] == Outcome("completed", 12)
    assert isinstance(ended[folders[1]], Diverged)
    assert isinstance(ended[folders[2]], UserError)
    assert [last_state(f) for f in folders] == ["completed", "failed", "completed"]


@pytest.mark.slow
def test_a_stop_stops_all_at_a_checkpoint_and_all_resume(tmp_path: Path) -> None:
    solo, packed = three(tmp_path), three(tmp_path)
    for folder in solo:
        execute(folder, never)
    ended = execute_pack(packed, After(6), quiet)
    assert {e.state for e in ended.values() if isinstance(e, Outcome)} == {"interrupted"}
    assert all(checkpoint.newest(f)[0] for f in packed)
    execute(packed[0], never)
    execute_pack(packed[1:], never, quiet)
    for one, other in zip(packed, solo, strict=True):
        assert_same(one, other)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("who", [0, 1, 2])
def test_ctrl_c_twice_is_written_down_by_each(who: int, tmp_path: Path) -> None:
    folders = [started(tmp_path, f"seed={n}") for n in range(3)]

    def watch(folder: Path, event: Any, training: Training) -> None:
        if folder == folders[who] and training.step == 7 and event is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_pack(folders, never, watch)
    assert [(events(f, "state")[-1]["s"], events(f, "state")[-1]["code"]) for f in folders] == [
        ("interrupted", 130)
    ] * 3
    for folder in folders:
        assert execute(folder, never).state == "completed"


def test_exec_takes_several_folders(mm: Mm, tmp_path: Path) -> None:
    folders = [started(tmp_path), started(tmp_path, "loss.labeled.name=nan_at_7", "seed=1")]
    done = mm("exec", *folders)
    assert done.code == 6
    assert "1 of 2 runs failed; the reason of each is in its log.txt" in done.err
    assert "completed, 12 steps, test accuracy" in (folders[0] / "log.txt").read_text()
    assert 'the loss term "labeled" became NaN or infinite at step 7' in (folders[1] / "log.txt").read_text()
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_batch_packs_where_it_is_told_to(mm: Mm, tmp_path: Path) -> None:
    started(tmp_path)
    sets = ("train.steps=8", "launcher.pack=2", "launcher.slots=2", "train.device=cpu")
    done = mm("run", "tiny.toml", "--seeds", "0-1", *(w for s in sets for w in ("--set", s)))
    assert done.code == 0, done.err
    assert done.out.count(": completed, test accuracy") == 2
    logs = [
        (f / "log.txt").read_text() for f in sorted((tmp_path / "runs").glob("2*-s[01]-*")) if (f / "log.txt").exists()
    ]
    assert [log.count("in one process with 1 more") for log in logs] == [1, 1]


@pytest.mark.slow
def test_a_failure_in_a_pack_is_told_of_its_run(mm: Mm, tmp_path: Path) -> None:
    started(tmp_path)
    sets = ("train.steps=12", "train.log_every=2", "launcher.pack=2", "launcher.slots=2", "loss.labeled.name=nan_at_7")
    done = mm("run", "tiny.toml", "--seeds", "0-1", *(w for s in sets for w in ("--set", s)))
    assert done.code == 6
    assert done.out.count('failed  mmctl: the loss term "labeled" became NaN or infinite') == 2


def test_a_run_that_cannot_be_made_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [started(tmp_path, f"seed={n}") for n in range(3)]
    real = open.build_training

    def build_training(recipe: Recipe, *rest: Any) -> Any:
        if recipe.seed == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(recipe, *rest)

    monkeypatch.setattr(open, "build_training", build_training)
    ended = execute_pack(folders, never, quiet)
    assert [last_state(f) for f in folders] == ["completed", "failed", "completed"]
    assert "out of memory before the first step" in str(ended[folders[1]])
    assert isinstance(ended[folders[1]], TrainingFailed)
