"""Nothing is computed twice: what counts as the same, what is said, and how to have it all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.queued import enqueue
from helpers.run_helpers import After, events, never, started
from mmctl import environment
from mmctl.run_folder import journal, queue
from mmctl.run_folder.events import State
from mmctl.run_folder.journal import append
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.record import last_state
from mmctl.run_folder.supervisor import Supervising
from mmctl.runs.execute import execute

Mm = Callable[..., Result]
RUN = ("run", "tiny.toml", "--quiet", "--set", "train.steps=4", "--set", "train.device=cpu")


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    tiny_project.written("supervised")


def count(tmp_path: Path) -> int:
    return len(list((tmp_path / "runs").glob("2*")))


def test_the_same_is_named_and_skipped(mm: Mm, tmp_path: Path) -> None:
    first = mm(*RUN)
    assert first.code == 0
    uid = next((tmp_path / "runs").glob("2*")).name
    again = mm(*RUN)
    assert (again.code, count(tmp_path)) == (0, 1)
    assert f"tiny, seed 0: already done in run {uid} (completed, test accuracy " in again.out
    assert "--force" in again.out
    assert mm(*RUN, "--force").code == 0
    assert count(tmp_path) == 2


def test_what_computes_nothing_else_makes_no_difference(mm: Mm, tmp_path: Path) -> None:
    mm(*RUN)
    for sets in ("train.log_every=1", "train.save_every=2", "train.keep=3", 'note="again"', "eval.batch=9"):
        assert mm(*RUN, "--set", sets).code == 0, sets
        assert count(tmp_path) == 1, sets


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "sets", ["train.steps=5", "optimizer.lr=0.2", "split.labels=33", "split.seed=4", "seed=1", "dataset.train=90"]
)
def test_whatever_computes_something_else_is_run(sets: str, mm: Mm, tmp_path: Path) -> None:
    mm(*RUN)
    done = mm(*RUN, "--set", sets)
    assert (done.code, count(tmp_path)) == (0, 2)
    assert "already done" not in done.out


@pytest.mark.slow
def test_other_code_is_not_the_same(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mm(*RUN)
    monkeypatch.setattr(environment, "code", lambda: "another version of mmctl")
    assert mm(*RUN).code == 0
    assert count(tmp_path) == 2
    plugin = tmp_path / "plugins" / "tiny.py"
    plugin.write_text(plugin.read_text() + "\n# another backbone\n")
    assert mm(*RUN).code == 0
    assert count(tmp_path) == 3


@pytest.mark.slow
def test_other_images_under_the_same_settings_are_not_the_same(mm: Mm, tmp_path: Path) -> None:
    mm(*RUN)
    folder = next((tmp_path / "runs").glob("2*"))
    journal_file = folder / "journal.1.jsonl"
    journal_file.write_text(journal_file.read_text().replace('"data_hash":"', '"data_hash":"0'))
    assert mm("db", "rebuild").code == 0
    assert mm(*RUN).code == 0
    assert count(tmp_path) == 2


@pytest.mark.slow
def test_only_what_is_missing_of_a_batch_is_run(mm: Mm, tmp_path: Path) -> None:
    mm(*RUN, "--set", "seed=1")
    done = mm(*RUN, "--seeds", "0-2")
    assert done.code == 0, done.err
    assert "tiny, seed 1: already done in run" in done.out
    assert "2 runs, " in done.out
    assert count(tmp_path) == 3
    done = mm(*RUN, "--seeds", "0-2")
    assert done.out.count("already done") == 3
    assert count(tmp_path) == 3


def test_a_run_that_is_skipped_gets_the_tags_of_the_command(mm: Mm, tmp_path: Path) -> None:
    mm(*RUN)
    for _ in range(2):
        assert "already done" in mm(*RUN, "--tag", "mine", "--tag", "b").out
    assert mm("ls", "tag:mine", "--json").out.count('"uid"') == 1
    (folder,) = (tmp_path / "runs").glob("2*")
    assert sum(path.read_text().count('"e":"tag"') for path in folder.glob("journal.*.jsonl")) == 1


@pytest.mark.slow
def test_a_recipe_named_twice_is_run_once(mm: Mm, tmp_path: Path) -> None:
    done = mm("run", "tiny.toml", *RUN[1:])
    assert done.code == 0
    assert "tiny, seed 0: given twice, runs once" in done.out
    assert count(tmp_path) == 1


LONG = ("run", "tiny.toml", "--quiet", "--set", "train.steps=12", "--set", "eval.every=5")


def test_a_stopped_run_is_continued_and_one_that_lives_is_left_to_live(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, After(3))
    with Lease(folder):
        journal.append(folder, State(state="running", step=4))
        done = mm(*LONG)
        assert (done.code, count(tmp_path)) == (0, 1)
        assert f"run {folder.name} is computing it" in done.out
    enqueue(folder)
    with Supervising(tmp_path / "runs"):
        assert f"run {folder.name} waits in the queue of this machine; --force" in mm(*LONG).out
    queue.leave(folder)
    done = mm(*LONG, "--tag", "mine")
    assert done.code == 0
    assert (
        f"tiny, seed 0: continues run {folder.name}, which stopped at step 4 of 12; --force starts a new run"
        in done.out
    )
    assert count(tmp_path) == 1
    assert [event["from"] for event in events(folder, "attempt")] == [0, 4]
    assert folder.name in mm("ls", "tag:mine", "--json").out
    assert "already done" in mm(*LONG).out


def test_force_starts_a_new_run_beside_a_stopped_one(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, After(3))
    assert mm(*LONG, "--force").code == 0
    assert count(tmp_path) == 2
    assert last_state(folder) == "interrupted"


def test_what_cannot_be_continued_exactly_is_started_again(
    mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = started(tmp_path)
    execute(folder, After(3))
    now = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: now | {"numpy": "0"})
    done = mm(*LONG)
    assert f"{folder.name} stopped at step 4; a new run starts, because numpy changed since then" in done.out
    assert count(tmp_path) == 2


@pytest.mark.slow
def test_a_batch_goes_on_by_the_same_command(mm: Mm, tmp_path: Path) -> None:
    """Of five seeds one is done, one was stopped, one crashed, one never began, one is new: five runs in the end."""
    done = mm(*LONG, "--set", "seed=0")
    assert done.code == 0
    made = [started(tmp_path, f"seed={seed}") for seed in (1, 2, 3)]
    execute(made[0], After(3))
    execute(made[1], After(6))
    with journal.Journal(made[1], 2) as log:  # as kill -9 leaves it
        log.write(State(state="running", step=7))
    done = mm(*LONG, "--seeds", "0-4", "--jobs", "2")
    assert done.code == 0, done.err
    assert "seed 0: already done" in done.out
    assert f"seed 1: continues run {made[0].name}, which stopped at step 4 of 12" in done.out
    assert f"seed 2: continues run {made[1].name}, which stopped at step 7 of 12" in done.out
    assert f"seed 3: continues run {made[2].name}, which stopped at step 0 of 12" in done.out
    assert "4 runs, 2 in parallel" in done.out
    assert count(tmp_path) == 5
    assert [last_state(folder) for folder in made] == ["completed"] * 3


def test_a_run_that_did_not_converge_is_computed_too(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, never)
    append(folder, State(state="nc", step=12))
    done = mm("run", "tiny.toml", "--quiet", "--set", "train.steps=12", "--set", "eval.every=5")
    assert "(not converged)" in done.out
    assert count(tmp_path) == 1


def test_a_database_that_cannot_be_read_stops_no_training(mm: Mm, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mmctl.db").write_bytes(b"not a database at all" * 100)
    done = mm(*RUN)
    assert done.code == 0, done.err
    assert "warning: cannot check for finished runs" in done.out


def test_the_code_is_of_the_package_and_stands_in_run_json(mm: Mm, tmp_path: Path) -> None:
    mm(*RUN)
    about = json.loads((next((tmp_path / "runs").glob("2*")) / "run.json").read_text())
    assert about["code"] == environment.code()
    assert len(about["code"]) == 64


@pytest.mark.slow
def test_a_run_that_is_not_exact_is_not_the_run(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path)
    execute(folder, After(3))
    with monkeypatch.context() as patch:
        patch.setattr(environment, "code", lambda: "another version of mmctl")
        assert "the code of mmctl changed" in mm("resume", folder.name, "--quiet").err
    done = mm("run", "tiny.toml", "--quiet", "--set", "train.steps=12", "--set", "eval.every=5")
    assert done.code == 0
    assert "already done" not in done.out
    assert count(tmp_path) == 2
