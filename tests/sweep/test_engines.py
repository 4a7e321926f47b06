"""Lasting launchers: nothing is submitted twice and nothing is lost, wherever a command is cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.engine import Engine
from mmctl.plugin import JobState
from mmctl.registry.index import Index
from mmctl.run_folder import journal, lease, queue
from mmctl.run_folder.events import State
from mmctl.run_folder.record import last_state
from mmctl.runs.create import create_run
from mmctl.runs.launcher import launcher_of
from mmctl.sweep.engines import reconcile, submit_lasting
from mmctl.sweep.reconcile import TABLE, TRIES, settle

Mm = Callable[..., Result]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


def made(tmp_path: Path, number: int) -> list[Path]:
    recipe = tiny_project.recipe("supervised")
    return [create_run(recipe.with_seed(seed), tmp_path / "runs") for seed in range(number)]


def submit(folders: list[Path], **options: int) -> None:
    table = {"name": "plugins:pretended", **options}
    submit_lasting(folders[0].parent, folders, table, launcher_of(table, Index(sources="local")), "")


def ids(folders: list[Path]) -> list[str]:
    entries = [queue.read(folder) for folder in folders]
    return [entry.id if entry else "none" for entry in entries]


def test_runs_are_handed_over_in_chunks_and_in_order(engine: Engine, tmp_path: Path) -> None:
    folders = made(tmp_path, 5)
    submit(folders, chunk=2)
    assert engine.uids() == [folder.name for folder in folders]
    assert len({job["name"] for job in engine.read()["jobs"]}) == 3
    assert [one.rpartition("_")[2] for one in ids(folders)] == ["0", "1", "0", "1", "0"]


def test_what_does_not_fit_waits_and_any_later_command_hands_it_over(engine: Engine, mm: Mm, tmp_path: Path) -> None:
    engine.put(room=3)
    folders = made(tmp_path, 5)
    submit(folders)
    assert engine.uids() == [folder.name for folder in folders[:3]]
    assert "waits to be handed to pretended" in mm("ls").out
    for folder in folders[:2]:
        journal.append(folder, State(state="completed", step=20))
        engine.say(folder.name, "completed")
    assert mm("compare").code == 0
    assert engine.uids() == [folder.name for folder in folders]
    assert mm("ls").out.count("is queued by pretended: Priority") == 3


@pytest.mark.parametrize("noted", [0, 1])
def test_a_command_that_is_killed_after_the_engine_took_the_runs(
    noted: int, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = made(tmp_path, 3)
    if noted:
        calls, put = [], queue.put

        def dies(folder: Path, entry: queue.Entry) -> None:
            calls.append(entry.id)
            if sum(map(bool, calls)) > noted:
                raise KeyboardInterrupt
            put(folder, entry)

        monkeypatch.setattr(queue, "put", dies)
    else:
        engine.put(die=True)
    with pytest.raises(KeyboardInterrupt):
        submit(folders)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    engine.put(die=False)
    assert ids(folders).count("") == 3 - noted
    reconcile(tmp_path / "runs")
    assert engine.uids() == [folder.name for folder in folders], "nothing is submitted twice"
    assert ids(folders) == [job["id"] for job in engine.read()["jobs"]]


def test_a_command_that_is_killed_before_the_engine_took_the_runs(engine: Engine, tmp_path: Path) -> None:
    folders, name = made(tmp_path, 2), queue.new_name()
    for order, folder in enumerate(folders):
        queue.put(folder, queue.Entry(name, order))
    group = queue.new_group(tmp_path / "runs", {"name": "plugins:pretended"}, folders, name, lasting=True)
    queue.write_group(tmp_path / "runs", group._replace(handed=[folder.name for folder in folders]))
    reconcile(tmp_path / "runs")
    assert engine.uids() == [folder.name for folder in folders]
    reconcile(tmp_path / "runs")
    assert len(engine.uids()) == 2


def test_an_engine_that_took_a_part_of_the_runs_gets_the_others(engine: Engine, tmp_path: Path) -> None:
    folders = made(tmp_path, 3)
    engine.put(die=True)
    with pytest.raises(KeyboardInterrupt):
        submit(folders)
    engine.put(die=False, jobs=engine.read()["jobs"][:1])
    reconcile(tmp_path / "runs")
    assert engine.uids() == [folder.name for folder in folders]
    assert ids(folders) == [job["id"] for job in engine.read()["jobs"]]


def test_engines_are_asked_once_for_all_and_at_most_every_15_seconds(engine: Engine, mm: Mm, tmp_path: Path) -> None:
    submit(made(tmp_path, 3))
    for _ in range(3):
        assert mm("ls").code == 0
    assert engine.read()["asked"] == 1
    reconcile(tmp_path / "runs", fresh=True)
    assert engine.read()["asked"] == 2


def test_a_held_job_is_shown_with_its_reason(engine: Engine, mm: Mm, tmp_path: Path) -> None:
    folders = made(tmp_path, 1)
    submit(folders)
    engine.say(folders[0].name, "held", "scontrol release 7")
    reconcile(tmp_path / "runs", fresh=True)
    shown = "is held by pretended: scontrol release 7"
    assert shown in mm("ls").out
    assert f"step 0 of 20: {shown}" in mm("show", "1").out


def test_stop_cancels_jobs_and_what_no_engine_has_yet(engine: Engine, mm: Mm, tmp_path: Path) -> None:
    engine.put(room=1)
    folders = made(tmp_path, 2)
    submit(folders)
    done = mm("stop", "--queued")
    assert done.code == 0, done.err
    assert done.out.count(": interrupted at step 0/20.") == 2
    assert [job["word"] for job in engine.read()["jobs"]] == ["interrupted"]
    assert queue.groups(tmp_path / "runs") == [] or not any(map(queue.read, folders))


def test_an_engine_that_does_not_answer_is_a_warning(engine: Engine, mm: Mm, tmp_path: Path) -> None:
    submit(made(tmp_path, 1))
    queue.said_file(tmp_path / "runs").unlink(missing_ok=True)
    engine.path.write_text("no JSON")
    done = mm("ls")
    assert done.code == 0
    assert "warning: launcher plugins:pretended" in done.err
    assert "queued" in done.out


FOLDERS: dict[str, tuple[State, ...]] = {
    "new": (),
    "begun": (State(state="running", step=0),),
    "stopped": (State(state="running", step=0), State(state="interrupted", step=5)),
    "over": (State(state="running", step=0), State(state="completed", step=20)),
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("word", TABLE)
def test_what_follows_from_the_word_of_the_engine_and_the_folder(word: str, folder: str, tmp_path: Path) -> None:
    since = lease.now()
    for event in FOLDERS[folder]:
        journal.append(tmp_path, event)
    action = settle(tmp_path, JobState(word, "why"), "launcher x", since)
    expected = {
        ("queued", "held"): {"over": "cancel"},
        ("running",): {},
        ("completed", "failed"): {"new": "fail"} | dict.fromkeys(("begun", "stopped", "over"), "leave"),
        ("interrupted",): {"new": "interrupt"} | dict.fromkeys(("begun", "stopped", "over"), "leave"),
        ("gone",): {"new": "again"} | dict.fromkeys(("begun", "stopped", "over"), "leave"),
    }
    (mine,) = (found for words, found in expected.items() if word in words)
    assert action == mine.get(folder, "wait")
    noted = {"fail": "failed", "interrupt": "interrupted"}.get(action)
    before = FOLDERS[folder][-1].state if FOLDERS[folder] else None
    assert last_state(tmp_path) == (noted or before)
    if action == "fail":
        (event,) = journal.read_events(tmp_path, State)
        assert event.reason is not None
        assert event.reason.startswith("launcher x: its job ")
        assert "why" in event.reason


def test_a_run_that_was_over_before_it_was_submitted_again_is_new(tmp_path: Path) -> None:
    journal.append(tmp_path, State(state="failed", step=3, t=1))
    assert settle(tmp_path, JobState("queued"), "x", since=2) == "wait"
    assert settle(tmp_path, JobState("failed"), "x", since=2) == "fail"
    assert [event.state for event in journal.read_events(tmp_path, State)] == ["failed"], "its end is known already"


def test_a_run_that_the_engine_loses_again_and_again_has_failed(engine: Engine, tmp_path: Path) -> None:
    folders = made(tmp_path, 1)
    submit(folders)
    for tries in range(TRIES + 1):
        engine.put(jobs=[])
        entry = queue.read(folders[0])
        assert entry
        assert entry.tries == tries
        reconcile(tmp_path / "runs", fresh=True)
        reconcile(tmp_path / "runs")
    assert last_state(folders[0]) == "failed"
    assert engine.uids() == []
