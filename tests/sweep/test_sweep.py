"""`mmctl sweep`, and what else puts runs into the queue or takes them out: as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.scripted import LAUNCHER
from mmctl.run_folder import journal, queue, supervisor
from mmctl.run_folder.events import State
from mmctl.run_folder.record import last_state, read_record
from mmctl.runs.create import create_run

Mm = Callable[..., Result]
GRID = ("sweep", "tiny.toml", "--set", "split.labels=15,30", "--set", "train.device=cpu", "--seeds")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers_kept: None) -> Iterator[None]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "scripted.py").write_text(LAUNCHER)
    tiny_project.written("supervised")
    monkeypatch.setenv("COMMAND", str(os.getpid()))
    yield
    if pid := supervisor.pid(tmp_path / "runs"):
        os.kill(pid, signal.SIGKILL)


def ends(*words: str, more: str = "") -> tuple[str, ...]:
    quoted = ", ".join(f'"{word}"' for word in words)
    return "--launcher", "scripted", "--launch", f"ends=[{quoted}]", "--launch", "slots=2", *more.split()


def folders(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs").glob("2*"), key=lambda folder: read_record(folder)["seed"])


def test_a_database_that_cannot_be_read_is_told(mm: Mm, tmp_path: Path) -> None:
    """Everything is new then: that must not happen without a word."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mmctl.db").write_bytes(b"not a database at all" * 100)
    done = mm(*GRID, "0", *ends("completed", "completed"))
    assert "warning: cannot check for finished runs" in done.out
    assert "warning: cannot check for finished runs" in mm(*GRID, "0", *ends(), "--dry-run").out


def test_the_same_command_again_adds_what_is_missing(mm: Mm, tmp_path: Path) -> None:
    first = mm(*GRID, "0", *ends("completed", "completed"), "--name", "few")
    assert first.code == 0, first.err
    assert first.out.startswith("sweep few: 2 runs: 2 new\n2 runs, 2 in parallel\n[1/2] ")
    again = mm(*GRID, "0-1", *ends("failed", "completed"), "--name", "few")
    assert "sweep few: 4 runs: 2 done, 2 new\n" in again.out
    assert again.code == 6
    third = mm(*GRID, "0-1", *ends(), "--name", "other")
    assert third.code == 0
    assert "sweep other: 4 runs: 3 done, 1 failed\nnothing is missing. `mmctl ls --sweep other`" in third.out
    assert mm("db", "rebuild").code == 0
    listed = json.loads(mm("ls", "--sweep", "other", "--json").out)["runs"]
    assert [run["sweeps"] for run in listed] == [["few", "other"]] * 4
    assert len(folders(tmp_path)) == 4
    assert 'no run has sweep "fewer". Did you mean "few"' in mm("ls", "--sweep", "fewer").err


def test_a_dry_run_stores_nothing(mm: Mm, tmp_path: Path) -> None:
    done = mm(*GRID, "0-2", "--dry-run")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "sweep tiny: 6 runs: 6 new",
        "  tiny split.labels=15  3 new of 3, time unknown",
        "  tiny split.labels=30  3 new of 3, time unknown",
        "time of the new runs: unknown, since no similar run has completed",
    ]
    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("split.labels=15,3000", "tiny split.labels=3000 train.steps=5: split.labels = 3000"),
        ("method.name=supervised,nothing", "tiny method.name=nothing train.steps=5: "),
    ],
)
def test_a_wrong_cell_is_named_before_anything_is_stored(key: str, says: str, mm: Mm, tmp_path: Path) -> None:
    done = mm("sweep", "tiny.toml", "--set", key, "--set", "train.steps=5,6", "--seeds", "0-1")
    assert done.code == 2
    assert says in done.err
    assert not folders(tmp_path)
    assert not queue.groups(tmp_path / "runs")


def test_ctrl_c_leaves_the_runs_in_the_queue(mm: Mm, tmp_path: Path) -> None:
    done = mm(*GRID, "0", *ends("running", "running", more="--launch terms=1"))
    assert done.code == 0, done.err
    assert (
        "the runs stay in the queue, which goes on in the background. To list: mmctl ls --sweep tiny. To stop:"
        in done.out
    )
    assert all(map(queue.group_of, folders(tmp_path)))
    assert mm("rm", folders(tmp_path)[0].name).err.count("Take it out of the queue first: mmctl stop ") == 1
    stopped = mm("stop", "--sweep", "tiny")
    assert stopped.code == 0, stopped.err
    assert stopped.out.count(": interrupted at step ") == 2
    assert not any(map(queue.read, folders(tmp_path)))


def test_what_waits_without_a_supervisor_can_be_stopped_and_resumed(mm: Mm, tmp_path: Path) -> None:
    assert mm(*GRID, "0", *ends("running", "running"), "--detach").out.count("go") == 1
    pid = supervisor.pid(tmp_path / "runs")
    assert pid
    os.kill(pid, signal.SIGKILL)
    while supervisor.pid(tmp_path / "runs") is not None:
        time.sleep(0.01)
    assert "waits in the queue" not in mm("ls").out
    done = mm("stop", "--queued")
    assert done.code == 0, done.err
    assert [last_state(folder) for folder in folders(tmp_path)] == ["interrupted"] * 2
    assert "no run of these waits" in mm("stop", "--queued").err
    assert "which runs?" in mm("stop").err


def test_retry_leaves_what_would_fail_again_unless_it_is_named(mm: Mm, tmp_path: Path) -> None:
    recipe = tiny_project.recipe("supervised", 'launcher={name="scripted", ends=["completed"]}')
    made = [create_run(recipe.with_seed(seed), tmp_path / "runs") for seed in range(3)]
    for folder, code in zip(made, (3, 4, 2), strict=True):
        journal.append(folder, State(state="failed", code=code, step=3))
    done = mm("retry", "--failed")
    assert done.code == 0, done.err
    assert f"[1/1] {made[1].name}: completed" in done.out
    assert "training failed, and would fail again: name a run to try it all the same: 1" in done.err
    assert [last_state(folder) for folder in made] == ["failed", "completed", "failed"]
    assert mm("retry", made[0].name).code == 0
    assert [last_state(folder) for folder in made] == ["completed", "completed", "failed"]
    assert "which runs?" in mm("retry").err
    assert "no run to try again" in mm("retry", made[0].name).err
