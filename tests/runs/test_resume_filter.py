"""`mmctl resume FILTER`: continues all that were stopped, names and leaves the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.engine import Engine
from helpers.queued import enqueue
from helpers.run_helpers import After, assert_same, events, never, started
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.record import last_state
from mmctl.run_folder.supervisor import Supervising
from mmctl.runs.execute import execute

Mm = Callable[..., Result]


@pytest.mark.slow
def test_all_that_were_stopped_go_on_and_the_others_are_named(mm: Mm, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = [started(tmp_path / "whole", f"seed={seed}") for seed in range(3)]
    for folder in whole:
        execute(folder, never)
    stopped, crashed, queued, done, failed, alive = (started(tmp_path, f"seed={seed}") for seed in range(6))
    execute(stopped, After(5))
    execute(crashed, After(3))
    with journal.Journal(crashed, 2) as log:  # as kill -9 leaves it
        log.write(State(state="running", step=4))
    execute(done, never)
    journal.append(failed, State(state="failed", code=3, step=0))
    with Lease(alive):
        journal.append(alive, State(state="running", step=0))
        resumed = mm("resume", "tiny", "--jobs", "2")
    assert resumed.code == 0, resumed.err
    assert "3 runs, 2 in parallel" in resumed.out
    assert resumed.out.count(": completed, test accuracy") == 3
    assert f"left as they are, completed: {done.name}\n" in resumed.err
    assert f"left as they are, running: {alive.name}\n" in resumed.err
    assert f"left as they are, failed: {failed.name}\n" in resumed.err
    assert [event["from"] for event in events(crashed, "attempt")] == [0, 4]
    for folder, other in zip((stopped, crashed, queued), whole, strict=True):
        assert_same(folder, other)
    assert mm("resume", "tiny", "--quiet").code == 0  # the one that was running has no process any more
    assert last_state(alive) == "completed"
    again = mm("resume", "tiny")
    assert again.code == 0
    assert "nothing to continue" in again.err
    assert last_state(failed) == "failed"
    assert mm("resume", "state:failed").code == 0
    assert last_state(failed) == "completed"


def test_without_a_filter_it_lists_what_can_be_continued(mm: Mm, tmp_path: Path) -> None:
    done = mm("resume")
    assert (done.code, "no run to continue: there are no runs yet" in done.err) == (2, True)
    folder = started(tmp_path)
    execute(folder, After(3))
    done = mm("resume")
    assert done.code == 2
    assert done.err == (
        f"mmctl: which run? These can be continued:\n    1  {folder.name}  interrupted at step 4 of 12\n"
        "One: mmctl resume 1   all: mmctl resume state:interrupted,crashed,queued\n"
    )
    assert mm("resume", "state:interrupted,crashed,queued", "--quiet").code == 0
    assert "no run is interrupted, crashed or queued" in mm("resume").err


@pytest.mark.sampled(3)
@pytest.mark.parametrize("words", [["1"], ["@last"], ["runs/tiny"], ["tag:a"], ["2026", "not:tag:b"]])
def test_every_way_to_name_one(words: list[str], mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, After(3))
    assert mm("tag", "1", "a").code == 0
    words = [str(folder) if word == "runs/tiny" else word.replace("2026", folder.name[:4]) for word in words]
    assert mm("resume", *words, "--quiet").code == 0
    assert last_state(folder) == "completed"


def test_a_run_that_a_living_supervisor_will_start_is_left(mm: Mm, tmp_path: Path) -> None:
    first, second = started(tmp_path), started(tmp_path, "seed=1")
    enqueue(first)
    with Supervising(tmp_path / "runs"):
        left = mm("resume", "state:queued", "--quiet")
        assert left.code == 0
        assert f"left as they are, waits in the queue of this machine: {first.name}" in left.err
    assert [last_state(folder) for folder in (first, second)] == [None, "completed"]
    assert mm("resume", "state:queued", "--quiet").code == 0
    assert last_state(first) == "completed"


def test_several_runs_are_not_accepted_with_changes_at_once(mm: Mm, tmp_path: Path) -> None:
    for seed in range(2):
        started(tmp_path, f"seed={seed}")
    done = mm("resume", "tiny", "--accept-changes")
    assert done.code == 2
    assert "one run at a time" in done.err


def test_one_run_of_a_cluster_goes_to_its_queue_again(mm: Mm, tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    folder = started(tmp_path, "launcher.name=pretended")
    assert execute(folder, After(5)).state == "interrupted"
    resumed = mm("resume", folder.name)
    assert resumed.code == 0, resumed.err
    assert "1 run is in the hands of pretended" in resumed.out
    assert engine.uids() == [folder.name]
    assert last_state(folder) == "interrupted"
    for option in ((), ("--from-start",)):
        refused = mm("resume", folder.name, *option)
        assert refused.code == 2
        assert f"To take it out of that queue: mmctl stop {folder.name}" in refused.err
    assert engine.uids() == [folder.name]


def test_one_run_of_a_cluster_can_be_tried_here(mm: Mm, tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    folder = started(tmp_path, "launcher.name=pretended")
    assert execute(folder, After(5)).state == "interrupted"
    assert mm("resume", folder.name, "--from-start").code == 0
    assert engine.uids() == []
