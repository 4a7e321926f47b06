"""The queue of this machine: whatever is killed, each run is trained to its end once, none is lost and none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.processes import spawn
from helpers.run_helpers import events
from mmctl.run_folder import lease, queue, supervisor
from mmctl.run_folder.record import last_state

SETS = ("train.steps=400", "train.save_every=20", "train.device=cpu", "eval.every=400")
PATIENCE = 120.0


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project with the smallest recipe; nothing that a test started is left running."""
    tiny_project.written("supervised")
    yield tmp_path
    runs = tmp_path / "runs"
    for pid in [supervisor.pid(runs), *map(lease.process, folders(runs))]:
        if pid:
            os.kill(pid, signal.SIGKILL)


def folders(runs: Path) -> list[Path]:
    return sorted(runs.glob("2*"))


def start(project: Path, *words: object) -> subprocess.Popen[str]:
    sets = [word for one in SETS for word in ("--set", one)]
    return spawn(project / "runs", "run", "tiny.toml", "--jobs", 2, *sets, *words, cwd=project)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def trained(runs: Path) -> list[int]:
    """Processes that train a run now."""
    return [pid for folder in folders(runs) if (pid := lease.process(folder))]


def ended(runs: Path, number: int) -> bool:
    made = folders(runs)
    return len(made) == number and all(last_state(f) == "completed" and not lease.holder(f) for f in made)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("killed", "number"),
    [
        pytest.param("worker", 3, marks=pytest.mark.slow),
        pytest.param("supervisor", 3, marks=pytest.mark.slow),
        pytest.param("both", 8, marks=pytest.mark.exhaustive),
    ],
)
def test_each_run_is_trained_once_whoever_is_killed(killed: str, number: int, project: Path) -> None:
    runs = project / "runs"
    command = start(project, "--seeds", f"0-{number - 1}")
    until(lambda: len(trained(runs)) == 2)
    assert len(trained(runs)) <= 2
    victims = trained(runs)[:1] if killed != "supervisor" else []
    if killed != "worker":
        victims.append(supervisor.pid(runs) or 0)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    out, err = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, (out, err)
    assert ended(runs, number), (out, err)
    assert not list(runs.glob("*/queue.json"))
    for folder in folders(runs):
        assert [event["s"] for event in events(folder, "state")].count("completed") == 1
    begun = [len(events(folder, "attempt")) for folder in folders(runs)]
    assert max(begun) <= 2
    assert sum(begun) <= len(begun) + len(victims)
    until(lambda: supervisor.pid(runs) is None)


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_the_next_command_continues_what_a_killed_command_left(project: Path) -> None:
    runs = project / "runs"
    first = start(project, "--seeds", "0-2")
    until(lambda: len(trained(runs)) == 2)
    pid = supervisor.pid(runs)
    assert pid
    first.kill()
    os.kill(pid, signal.SIGKILL)
    first.communicate()
    assert all(queue.waits_for(folder) is None for folder in folders(runs))
    second = start(project, "--seeds", "3-4")
    _, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, err
    until(lambda: ended(runs, 5))
    assert {len(events(folder, "attempt")) for folder in folders(runs)} == {1}
