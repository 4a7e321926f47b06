"""Many runs in the hands of a real Slurm: commands are killed, jobs are forgotten, and each run is trained once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.processes import spawn
from helpers.run_helpers import events
from helpers.slurm_cluster import ended, hide_scontrol, launched_run, slurm, step, until
from mmctl.launchers import slurm as launcher
from mmctl.launchers.slurm import Slurm
from mmctl.run_folder import queue
from mmctl.run_folder.queue import Entry
from mmctl.run_folder.record import last_state
from mmctl.store.store import Store
from mmctl.sweep.engines import reconcile, submit_lasting

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm_environment"), pytest.mark.timeout(500)]
TABLE = {"name": "slurm", "minutes": 10}
CUT_OFF = """
import os, signal
from mmctl.launchers import slurm
slurm.array_size = lambda: 3
real, calls = slurm.submit, []
def submit(*given):
    array = real(*given)
    calls.append(array)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return array
slurm.submit = submit
"""
"""A cluster that takes two runs in an array; kill -9 after the second array, before its ids are noted."""


@pytest.mark.slow
def test_a_submission_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    recipe = tiny_project.written("supervised")
    words = ["--seeds", "0-4", "--set", "train.threads=1", "--launcher", "slurm", "--launch", "minutes=10"]
    killed = spawn(runs, "sweep", recipe, *words, cwd=tmp_path, code=CUT_OFF)
    out, err = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, out + err
    folders = sorted(path.parent for path in runs.glob("*/run.json"))
    assert [bool(entry and entry.id) for entry in map(queue.read, folders)] == [True, True, False, False, False]
    monkeypatch.setattr(launcher, "array_size", lambda: 3)
    reconcile(runs, fresh=True)
    entries = [entry for entry in map(queue.read, folders) if entry]
    arrays = [entry.id.split("_") for entry in entries]
    assert [index for _, index in arrays] == ["0", "1", "0", "1", "0"]
    assert len({array for array, _ in arrays}) == 3
    names = slurm("squeue", "-h", "-t", "all", "-o", "%j").split()
    assert {f"mmctl-{entry.group}" for entry in entries} <= set(names)
    reconcile(runs, fresh=True)
    until(lambda: all(last_state(folder) == "completed" for folder in folders))
    assert [[event["n"] for event in events(folder, "attempt")] for folder in folders] == [[1]] * 5
    until(lambda: reconcile(runs, fresh=True) or not queue.groups(runs))
    with Store(runs) as store:
        store.sync()
        found = [(run["uid"], run["state"], run["step"]) for run in store.runs()]
    assert found == [(folder.name, "completed", 20) for folder in folders]
    with Store.rebuild(runs) as store:
        assert [(run["uid"], run["state"], run["step"]) for run in store.runs()] == found


@pytest.mark.slow
def test_a_job_that_could_not_queue_itself_and_one_that_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    folder = launched_run(tmp_path, "train.steps=2000")
    monkeypatch.setenv("MMCTL_SLURM_SETUP", str(hide_scontrol(tmp_path, folder)))
    submit_lasting(runs, [folder], TABLE, Slurm(minutes=10), "")
    until(lambda: step(folder) > 100)
    first = queue.read(folder)
    assert first
    slurm("scancel", "--signal=USR2", first.id)
    ended(Slurm(), [first.id])
    monkeypatch.delenv("MMCTL_SLURM_SETUP")
    reconcile(runs, fresh=True)
    second = queue.read(folder)
    assert second
    assert second.id not in ("", first.id)
    until(lambda: last_state(folder) == "completed")
    assert [event["n"] for event in events(folder, "attempt")] == [1, 2]
    queue.put(folder, Entry(second.group, 0, "99999_0"))  # as Slurm sees it some minutes later
    assert [state.word for state in Slurm().states(["99999_0"]).values()] == ["gone"]
    reconcile(runs, fresh=True)
    assert queue.read(folder) is None
    assert last_state(folder) == "completed"


@pytest.mark.exhaustive
def test_1500_runs_in_two_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho trained\n")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    folders = [tmp_path / "runs" / f"run{n:04}" for n in range(1500)]
    for folder in folders:
        folder.mkdir(parents=True)
    submit_lasting(tmp_path / "runs", folders, TABLE, Slurm(minutes=10), "")
    ids = [entry.id for entry in map(queue.read, folders) if entry]
    first, second = ids[0].split("_")[0], ids[1000].split("_")[0]
    assert first != second
    assert ids == [f"{first}_{n}" for n in range(1000)] + [f"{second}_{n}" for n in range(500)]
    until(lambda: not slurm("squeue", "-h", "-r", "-o", "%i").strip(), 500)
    assert [(folder / "log.txt").read_text() for folder in folders] == ["trained\n"] * 1500
