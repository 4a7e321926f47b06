"""Several runs: how they end is told run by run, and the exit code says whether all did."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.scripted import LAUNCHER
from mmctl.plugin import JobState, available_cores
from mmctl.run_folder import journal, queue
from mmctl.run_folder.events import State
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.queue import Ended
from mmctl.run_folder.record import last_state, read_record
from mmctl.runs.resume import resume_command
from mmctl.sweep.background import log_file
from mmctl.sweep.ending import ending, how_it_ended
from mmctl.sweep.launch import choose_launcher

Mm = Callable[..., Result]


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers_kept: None) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "scripted.py").write_text(LAUNCHER)
    tiny_project.recipe("supervised")
    monkeypatch.setenv("COMMAND", str(os.getpid()))


def words(*ends: str, slots: int = 2, more: str = "") -> list[str]:
    quoted = ", ".join(f'"{end}"' for end in ends)
    settings = (f'launcher={{name="scripted", ends=[{quoted}], slots={slots}{more}}}', "train.device=cpu")
    return ["run", "tiny.toml", "--seeds", f"0-{len(ends) - 1}", *(w for s in settings for w in ("--set", s))]


def folders(tmp_path: Path) -> list[Path]:
    """In the order of their seeds."""
    return sorted((tmp_path / "runs").glob("2*"), key=lambda folder: read_record(folder)["seed"])


def test_all_complete(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "completed", "completed"), "--name", "trio", "--tag", "t", "--note", "n")
    assert done.code == 0, done.err
    assert done.out.startswith("3 runs, 2 in parallel\n[1/3] ")
    abouts = [read_record(folder) for folder in folders(tmp_path)]
    assert [(a["seed"], a["name"], a["tags"], a["note"]) for a in abouts] == [(n, "trio", ["t"], "n") for n in range(3)]
    assert len({a["config_id"] for a in abouts}) == 1
    assert [a["config"]["train"]["threads"] for a in abouts] == [max(1, available_cores() // 2)] * 3


def test_some_fail(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "failed", "interrupted"))
    assert done.code == 6
    _, failed, interrupted = folders(tmp_path)
    assert done.err == (
        "mmctl: 2 of 3 runs did not complete: 1 completed, 1 failed, 1 interrupted. "
        f"Continue with:  mmctl resume {interrupted.name}\n"
    )
    assert f"{failed.name}: failed  mmctl: the loss is not finite since step 3.\n" in done.out
    assert f"{interrupted.name}: interrupted\n" in done.out


def test_some_are_stopped(mm: Mm) -> None:
    done = mm(*words("completed", "interrupted"))
    assert done.code == 6
    assert "1 of 2 runs did not complete" in done.err


def test_a_failure_without_a_log_names_the_place(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = mm(*words("interrupted", "failed"))
    failed = folders(tmp_path)[1]
    (failed / "log.txt").unlink()
    assert ending(failed, Ended("failed")) == f"failed  (see {failed}/log.txt)"
    assert done.code == 6


def test_one_at_a_time_may_use_all_cores(mm: Mm, tmp_path: Path) -> None:
    assert mm(*words("completed", "completed", slots=1)).code == 0
    assert ["threads" in read_record(f)["config"]["train"] for f in folders(tmp_path)] == [False, False]


def test_a_signal_stops_them_all_and_one_command_continues_them(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "running", "running", more=", terms=1"), "--tag", "trio")
    assert done.code == 75
    assert done.err.endswith("mmctl: stopped: 1 completed, 2 interrupted. Continue with:  mmctl resume tag:trio\n")
    assert done.out.count(": interrupted\n") == 2
    assert not list((tmp_path / "runs").glob("*/queue.json"))
    # The tag of another stopped run would continue that one too.
    (other,) = (f for f in folders(tmp_path) if read_record(f)["seed"] == 2)
    tiny_project.recipe("supervised")
    assert resume_command(folders(tmp_path)[1:2]) == f"mmctl resume {folders(tmp_path)[1].name}"
    assert resume_command([folders(tmp_path)[1], other], ["trio"]) == "mmctl resume tag:trio"
    journal.append(folders(tmp_path)[0], State(state="interrupted", step=1))
    assert resume_command([folders(tmp_path)[1], other], ["trio"]).split()[2:] == [
        folders(tmp_path)[1].name,
        other.name,
    ]


def test_a_second_sigterm_does_not_wait_for_a_launcher_that_cannot_stop_its_runs(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "running", more=", terms=2, deaf=true"))
    assert done.code == 130
    (_, run) = folders(tmp_path)
    assert f"not waiting for the runs to stop: 1 completed, 1 interrupted. Continue with:  mmctl resume {run.name}" in (
        done.err
    )
    assert "interrupted" in mm("ls").out, "and not queued"


@pytest.mark.parametrize(
    ("says", "words_"),
    [('"completed", "PENDING"', "word='PENDING'"), ('"none"', "None"), ('"raise"', "the queue does not answer")],
)
def test_a_launcher_that_gives_no_state_is_one_error(says: str, words_: str, mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "running", more=f", says=[{says}]"))
    assert done.code == 2
    assert "mmctl: launcher plugins:scripted: states() answers " in done.err
    assert words_ in done.err
    assert "bug" not in done.err
    assert "job-1" in (folders(tmp_path)[0] / "cancelled").read_text()
    assert folders(tmp_path)[1].name in done.err


def test_jobs_are_the_slots_of_any_launcher_or_refused(mm: Mm, tmp_path: Path) -> None:
    recipe = tiny_project.recipe("supervised", 'launcher={name="scripted", ends=[], slots=2}')
    assert [choose_launcher([recipe], jobs).launcher.limits().slots for jobs in (0, 1, 3)] == [2, 1, 3]
    text = LAUNCHER.replace("slots", "places")
    (tmp_path / "plugins" / "placed.py").write_text(text.replace('"scripted"', '"placed"'))
    done = mm("run", "tiny.toml", "--seeds", "0-1", "--jobs", "3", "--set", 'launcher={name="placed", ends=[]}')
    assert (done.code, done.out) == (2, "")
    assert done.err == "mmctl: --jobs: the launcher plugins:placed has no parameter slots: leave --jobs out.\n"
    assert folders(tmp_path) == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("end", "state"), [("interrupted", "interrupted"), ("failed", "failed"), ("nc", "completed")])
def test_the_folder_decides_whatever_the_launcher_says(end: str, state: str, mm: Mm, tmp_path: Path) -> None:
    for said in ("completed", "failed", "interrupted"):
        done = mm(*words("completed", end, more=f', says=["{said}", "{said}"]'), "--force")
        assert done.code == (0 if state == "completed" else 6), (said, done)
        assert done.out.count(": completed") == 1
        assert done.out.count("not converged (nc)") == (end == "nc")


def test_a_run_that_never_began_is_not_completed_and_not_queued(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "completed", more=", empty=true"))
    assert done.code == 6
    assert done.out.count("failed  launcher plugins:scripted calls it completed, but it did not start") == 2
    assert [last_state(folder) for folder in folders(tmp_path)] == ["failed", "failed"]


def test_a_run_whose_process_lives_has_not_ended(tmp_path: Path) -> None:
    journal.append(tmp_path, State(state="running", step=0))
    with Lease(tmp_path):
        assert how_it_ended(tmp_path, 0, JobState("failed"), "launcher") is None
    assert how_it_ended(tmp_path, 0, JobState("completed"), "launcher") == Ended("crashed")


def test_a_supervisor_that_always_ends_is_not_started_for_ever(
    mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(runs: Path) -> bool:
        log_file(runs).write_text("Traceback\nOSError: the disk is full\n")
        return True

    monkeypatch.setattr("mmctl.sweep.watch.ensure_supervisor", ends)
    monkeypatch.setattr("mmctl.sweep.launch.ensure_supervisor", ends)
    done = mm(*words("completed"), "--seeds", "0-1")
    assert done.code == 4
    assert "has ended 6 times: OSError: the disk is full" in done.err
    assert all(map(queue.group_of, folders(tmp_path)))


def test_nothing_is_made_where_one_recipe_is_wrong(mm: Mm, tmp_path: Path) -> None:
    Path("bad.toml").write_text(Path("tiny.toml").read_text().replace("labels = 30", "labels = 3000"))
    done = mm("run", "tiny.toml", "bad.toml", "--seeds", "0-1")
    assert done.code == 2
    assert "3000" in done.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_that_did_not_converge_is_not_called_completed(mm: Mm, tmp_path: Path) -> None:
    sets = ("train.steps=8", "train.log_every=4", "eval.every=4", "loss.labeled.weight=10000", "train.on_collapse=stop")
    done = mm("run", "tiny.toml", "--seeds", "0-1", "--jobs", "2", *(w for s in sets for w in ("--set", s)))
    assert done.code == 0, done.err
    assert done.out.count("not converged (nc)") == 2
    assert "completed" not in done.out


def test_a_reader_that_has_gone_ends_no_batch(mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", closed)
        done = mm(*words("completed", "completed"))
    assert done.code == 0, done.err
