"""How a run can end: killed at any write, stopped in an evaluation, collapsed, diverged, out of memory or disk."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.command import Result
from helpers.run_helpers import LOSS, After, assert_same, events, never, points, started, survives_kills
from mmctl.errors import Diverged, EnvironmentFault, TrainingFailed
from mmctl.run_folder.record import last_state
from mmctl.runs.execute import execute
from mmctl.store.store import Store
from mmctl.training import checkpoint
from mmctl.training.loop import Point
from mmctl.training.state import Training

Mm = Callable[..., Result]
COLLAPSE = ("loss.labeled.name=one_class", "optimizer.lr=0.5", "train.steps=25")


def rows(folder: Path) -> dict[tuple[str, int], Any]:
    """Every point of the run as the database has it; a second row of a (series, step) would raise."""
    with Store(folder.parent) as store:
        store.sync()
    with sqlite3.connect(folder.parent / "mmctl.db") as db:
        tables = "points p JOIN series s ON s.id = p.series JOIN runs r ON r.id = s.run"
        query = f"SELECT s.name, p.step, p.value FROM {tables} WHERE r.uid = ?"
        found = db.execute(query, (folder.name,)).fetchall()
    db.close()
    made = {(name, step): value for name, step, value in found}
    assert len(made) == len(found)
    return made


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "stride", [pytest.param(11, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_kill_9_at_the_writes_of_a_run(stride: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = started(tmp_path, method="mixmatch")
    execute(whole, never)
    wanted = rows(whole)
    for n in range(1, 200, stride):
        folder = started(tmp_path, method="mixmatch")
        if not survives_kills(folder, n):
            break
        assert_same(folder, whole)
        assert rows(folder) == wanted
        assert {p.name[:5] for p in (folder / "checkpoints").iterdir()} == {"step-"}
    assert n > 40


def test_a_checkpoint_never_lacks_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real, seen = started(tmp_path), checkpoint.publish, []

    def publish(run: Path, step: int, *rest: Any) -> Any:
        about = real(run, step, *rest)
        seen.append((step, max(at for _, at in points(folder))))
        return about

    monkeypatch.setattr(checkpoint, "publish", publish)
    execute(folder, never)
    assert [step for step, _ in seen] == [5, 10, 12]
    assert all(last >= step for step, last in seen), "what kill -9 would leave at this moment"


def test_what_killed_attempts_left_is_removed(tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, After(6))
    for name in (".tmp-10-77", ".del-step-000000003-77"):
        (folder / "checkpoints" / name).mkdir()
        (folder / "checkpoints" / name / "state.safetensors").write_bytes(b"half")
    for path in (folder / ".split.json.77.tmp", folder / "predictions" / f".test-1.safetensors.{os.getpid()}.tmp"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    execute(folder, never)
    assert not list(folder.rglob("*.tmp"))
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-000000010", "step-000000012"]


def test_a_stop_in_an_evaluation_loses_nothing(tmp_path: Path) -> None:
    whole, folder = started(tmp_path), started(tmp_path)
    execute(whole, never)
    training: list[Training] = []
    asked = 0

    def stop() -> bool:
        """From the second question of the evaluation after step 5 on."""
        nonlocal asked
        asked += bool(training) and training[0].step == 5
        return asked >= 2

    def watch(event: Any, t: Training) -> None:
        training[:] = [t]

    outcome = execute(folder, stop, watch)
    assert (outcome.state, outcome.step) == ("interrupted", 5)
    assert not any(name.startswith("test/") for name, _ in points(folder)), "a half evaluation is none"
    found = checkpoint.newest(folder)[0]
    assert found is not None
    assert (found.step, found.manifest["reason"]) == (5, "interrupt")
    assert execute(folder, never).state == "completed"
    assert_same(folder, whole)
    assert rows(folder) == rows(whole)


@pytest.mark.sampled(3)
# An evaluation asks four times, so the ninth question is after that of step 5, and the sixth in the middle of it.
@pytest.mark.parametrize("stops", [(), (0,), (5,), (8,), (8, 12), (5, 7, 12), (1, 2, 3)])
def test_collapse_ends_a_run_at_the_same_step_however_often_it_was_stopped(
    stops: tuple[int, ...], mm: Mm, tmp_path: Path
) -> None:
    folder = started(tmp_path, *COLLAPSE, 'train.on_collapse="stop"', "eval.batch=100")
    for stop in stops:
        assert execute(folder, After(stop)).state == "interrupted"
    outcome = execute(folder, never)
    assert (outcome.state, outcome.step) == ("nc", 15)
    assert [(e["step"], e["kind"]) for e in events(folder, "alert")] == [(15, "collapse")]
    done = events(folder, "state")[-1]
    assert (done["s"], done["step"], done["code"]) == ("nc", 15, 0)
    assert "one class" in done["reason"]
    assert checkpoint.steps(folder)[-1] == 15
    assert "nc" in mm("ls").out
    assert mm("resume", folder.name).code == 2


def test_a_collapse_that_was_saved_but_not_told_is_told_by_the_next_attempt(tmp_path: Path) -> None:
    folder = started(tmp_path, *COLLAPSE, 'train.on_collapse="stop"')
    assert execute(folder, never).state == "nc"
    journal = folder / "journal.1.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"s":"nc"' not in line))  # kill -9 after the checkpoint
    outcome = execute(folder, never)
    assert (outcome.state, outcome.step) == ("nc", 15)


def test_collapse_is_only_told_where_the_recipe_says_so(tmp_path: Path) -> None:
    folder = started(tmp_path, *COLLAPSE)
    assert execute(folder, never).state == "completed"
    assert [(e["step"], e["kind"]) for e in events(folder, "alert")] == [(15, "collapse")]


def test_an_evaluation_that_is_cut_again_and_again_is_made_good_in_the_end(tmp_path: Path) -> None:
    whole, folder = started(tmp_path), started(tmp_path)
    execute(whole, never)
    for calls in (5, 0, 2, 3):
        outcome = execute(folder, After(calls))
        assert (outcome.state, outcome.step) == ("interrupted", 5)
    assert execute(folder, never).state == "completed"
    assert_same(folder, whole)


def test_a_loss_that_is_not_a_number(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, "loss.labeled.name=nan_at_7", "train.log_every=50")
    done = mm("resume", folder.name)
    assert done.code == 3
    assert 'the loss term "labeled" became NaN or infinite at step 7' in done.err
    assert "lower optimizer.lr or the weight of" in done.err
    found, bad = checkpoint.newest(folder)
    assert found is not None
    assert (found.step, bad) == (5, []), "the last good one is kept"
    state = events(folder, "state")[-1]
    assert (state["s"], state["code"]) == ("failed", 3)
    assert "labeled" in state["reason"]
    assert mm("resume", folder.name).code == 3, "resuming repeats it"
    assert checkpoint.steps(folder) == [5]


def test_a_learning_rate_without_measure(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, "optimizer.lr=1e30")
    with pytest.raises(Diverged):
        execute(folder, never)
    assert checkpoint.newest(folder)[0] is None, "a state that is not finite is never saved"
    assert "failed" in mm("ls").out


def test_out_of_memory(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, "loss.labeled.name=hungry")
    done = mm("resume", folder.name)
    assert done.code == 3
    assert "out of memory in step 1: lower train.batch" in done.err
    assert last_state(folder) == "failed"


def test_a_component_that_raises(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, "loss.labeled.name=out_of_range")
    done = mm("resume", folder.name)
    assert done.code == 3
    line = LOSS.splitlines().index("        return out.logits[:, 99].mean()") + 1
    assert f"losses.py:{line}: IndexError" in done.err
    assert "step 1:" in done.err
    assert "--accept-changes" in done.err
    assert "Traceback" not in done.err


def test_a_bug_of_ours_leaves_a_file_to_report(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("no such luck")

    folder = started(tmp_path)
    monkeypatch.setattr("mmctl.training.loop.device_step", broken)
    done = mm("resume", folder.name)
    assert done.code == 1
    assert "a bug in mmctl: AssertionError: no such luck. Please report it with" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in (folder / "crash.txt").read_text()
    assert last_state(folder) == "failed"


def test_a_full_disk(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path)
    real = checkpoint.write_synced

    def full(path: Path, data: bytes) -> None:
        if "000000010" in str(path) or ".tmp-10-" in str(path):
            raise OSError(28, "No space left on device")
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_synced", full)
        done = mm("resume", folder.name)
    assert done.code == 4
    assert "No space left on device" in done.err
    assert "resume" in done.err
    assert checkpoint.steps(folder) == [5]
    whole = started(tmp_path)
    execute(whole, never)
    assert execute(folder, never).state == "completed"
    assert_same(folder, whole)


def test_a_point_is_written_once_a_step(tmp_path: Path) -> None:
    folder = started(tmp_path)
    seen: list[int] = []

    def watch(event: Any, _: Training) -> None:
        if isinstance(event, Point):
            seen.append(event.step)

    execute(folder, never, watch)
    assert seen == [4, 8, 12]
    assert {step for name, step in rows(folder) if name == "train/loss"} == {4, 8, 12}
    assert {step for name, step in rows(folder) if name == "test/ema/head/accuracy"} == {5, 10, 12}
    assert json.loads((folder / "run.json").read_text())["primary"] == "test/ema/head/accuracy"


def test_errors_are_of_the_family_that_the_command_line_expects() -> None:
    assert issubclass(Diverged, TrainingFailed)
    assert Diverged("a", 1).exit_code == 3


def test_a_collapse_in_the_step_of_a_cut_evaluation_loses_nothing(tmp_path: Path) -> None:
    sets = ("train.log_every=4", "eval.every=4", "train.on_collapse=stop", "loss.labeled.weight=10000")
    whole, folder = started(tmp_path, *sets), started(tmp_path, *sets)
    assert execute(whole, never).state == "nc"
    assert ("test/ema/head/accuracy", 4) in points(whole)
    assert execute(folder, After(3)).state == "interrupted"  # asked in steps 1 to 3, and then in the evaluation
    assert execute(folder, never).state == "nc"
    assert_same(folder, whole)


def test_another_version_of_a_package_is_not_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmctl import environment

    folder, real = started(tmp_path), environment.versions
    execute(folder, After(6))
    monkeypatch.setattr(environment, "versions", lambda: {**real(), "numpy": "0.1"})
    execute(folder, never)
    assert [e["exact"] for e in events(folder, "attempt")] == [True, False]


def test_a_split_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = started(tmp_path), Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).name == "split.json":
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EnvironmentFault, match=r"split\.json: cannot write the split \(No space left"):
        execute(folder, never)
    assert last_state(folder) == "failed"
    assert [p.name for p in folder.glob("*.part")] + [p.name for p in folder.glob(".*.part")] == []
