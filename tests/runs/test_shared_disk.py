"""Runs on two mounts of one folder that do not see each other's locks, as two machines on some network disks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.processes import spawn, wait_for
from helpers.run_helpers import assert_same, events, never
from mmctl.filesystem import is_network
from mmctl.run_folder import journal, lease
from mmctl.run_folder.record import last_state
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.store import owner
from mmctl.store.check import database_problems
from mmctl.store.store import Store

pytestmark = pytest.mark.slow
SETS = ("train.threads=1", "train.steps=200", "train.save_every=50", "train.log_every=5", "eval.every=100")


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    (tmp_path / "disk").mkdir()
    made: list[Path] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            done = subprocess.run(["bindfs", tmp_path / "disk", tmp_path / name], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
            made.append(tmp_path / name)
        yield made[0], made[1]
    finally:
        for mount in made:
            subprocess.run(["umount", mount], check=False)


def test_two_machines_and_one_importer(
    mounts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = mounts
    assert is_network(one)
    whole = create_run(tiny_project.recipe("supervised", *SETS), tmp_path / "whole")
    assert execute(whole, never).state == "completed"
    folders = [create_run(tiny_project.recipe("supervised", *SETS, f"seed={n}"), one) for n in (0, 1, 0)]
    monkeypatch.setenv("MMCTL_ENGINE", "slurm")
    jobs = [spawn(one, "exec", one / folders[0].name, cwd=tmp_path)]
    jobs += [spawn(two, "exec", two / folder.name, cwd=tmp_path) for folder in folders[1:]]
    wait_for(lambda: last_state(folders[2]) == "running", jobs[2])
    assert lease.holder(folders[2]) is None, "the lock is not seen here"
    os.kill(jobs[2].pid, signal.SIGSTOP)  # a machine that is cut off for a while
    later = spawn(one, "exec", folders[2], cwd=tmp_path)
    wait_for(lambda: journal.attempts(folders[2]) == [1, 2], later)
    os.kill(jobs[2].pid, signal.SIGCONT)
    ends = [job.communicate(timeout=120) for job in (*jobs, later)]
    assert [job.returncode for job in (*jobs, later)] == [0, 0, 75, 0], ends
    assert "attempt 2 of this run has started" in ends[2][1]
    assert journal.attempts(folders[2]) == [1, 2]
    assert [event["s"] for event in events(folders[2], "state")] == ["running", "running", "completed"]
    assert_same(folders[0], whole)
    assert_same(folders[2], whole)
    assert {path.name for path in one.iterdir() if not path.is_dir()} == set(), "no job opened a database"
    with Store(one) as store:
        store.sync()
        assert (one / owner.FILE).exists()
        found = store.runs()
        assert [(run["state"], run["step"]) for run in found] == [("completed", 200)] * 3
        assert [len(store.points(run, "train/loss")) for run in found] == [40] * 3
        assert database_problems(store) == []
