"""Runs on a real Slurm of two nodes: preempted, cancelled, killed, lost with their node, and never twice."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.run_helpers import assert_same, events, never
from helpers.slurm_cluster import (
    bring_back,
    ended,
    hide_scontrol,
    launched_run,
    lose_node,
    slurm,
    step,
    until,
)
from mmctl.launchers.slurm import Slurm
from mmctl.run_folder import lease
from mmctl.run_folder.record import last_state
from mmctl.run_folder.restart import WAITS, to_resubmit
from mmctl.runs.execute import execute
from mmctl.testing import LauncherContract
from mmctl.training import checkpoint

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm_environment"), pytest.mark.timeout(500)]
LONG = ("train.steps=1000000", "train.save_every=100000", "eval.every=1000000")


def reasons(folder: Path) -> list[str]:
    return [event["reason"] for event in events(folder, "state") if event["reason"]]


@pytest.mark.slow
def test_preempted_runs_go_on_elsewhere_to_the_same_result(
    mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("train.steps=1600", "train.save_every=700")
    wholes = [launched_run(tmp_path / "whole", *sets, f"seed={seed}") for seed in (0, 1)]
    folders = [launched_run(tmp_path, *sets, f"seed={seed}") for seed in (0, 1)]
    launcher = Slurm(partition="scavenge", minutes=10)
    ids = launcher.start(folders, "mmctl-preempted")
    until(lambda: all(step(folder) > 100 for folder in folders))
    slurm("sbatch", "-p", "main", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    until(lambda: all(WAITS in reasons(folder) for folder in folders))
    assert [execute(whole, never).state for whole in wholes] == ["completed", "completed"]
    assert [state.word for state in ended(launcher, ids)] == ["completed", "completed"]
    for folder, whole in zip(folders, wholes, strict=True):
        assert_same(folder, whole)
        attempts = events(folder, "attempt")
        assert [event["n"] for event in attempts] == [1, 2]
        assert 100 < attempts[1]["from"] < 1600
    assert not (tmp_path / "runs" / "mmctl.db").exists(), "nodes write files alone"
    assert launcher.find("mmctl-preempted") == ids
    figures = []
    for place in (tmp_path, tmp_path / "whole"):
        monkeypatch.setenv("MMCTL_RUNS", str(place / "runs"))
        figures.append(re.sub(r'"uid": "[^"]*"', "", mm("compare", "--json").out))
    assert '"mean"' in figures[0]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_how_a_job_can_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, killed, hidden = (launched_run(tmp_path, *LONG) for _ in range(3))
    fails = launched_run(tmp_path, "optimizer.lr=1e30", "optimizer.nesterov=false")
    monkeypatch.setenv("MMCTL_SLURM_SETUP", str(hide_scontrol(tmp_path, hidden)))
    launcher = Slurm(minutes=10)
    ids = launcher.start([cancelled, killed, hidden, fails], "mmctl-ends")
    until(lambda: all(step(folder) > 100 for folder in (cancelled, killed, hidden)))
    launcher.cancel([ids[0], "no-such-job"])
    os.kill(lease.process(killed) or 0, signal.SIGKILL)
    slurm("scancel", "--signal=USR2", ids[2])
    states = ended(launcher, ids)
    assert [state.word for state in states] == ["interrupted", "failed", "interrupted", "failed"]
    assert [state.reason for state in states] == ["cancelled", "killed by signal 9", "exit code 75", "exit code 3"]
    assert last_state(cancelled) == "interrupted"
    assert step(cancelled) - 100 < checkpoint.steps(cancelled)[-1]
    assert WAITS not in reasons(cancelled)
    assert last_state(killed) == "running", "nobody could say otherwise"
    assert any(map(to_resubmit, reasons(hidden)))
    assert last_state(fails) == "failed"
    assert "became NaN or infinite" in (fails / "log.txt").read_text()
    assert not any(f" {part} " in slurm("squeue", "-h", "-r", "-o", " %i ") for part in ids), "none comes back"


@pytest.mark.slow
def test_a_ghost_on_a_lost_node_ends(slurm_folder: Path, tmp_path: Path) -> None:
    folder, launcher = launched_run(tmp_path, *LONG), Slurm(minutes=10, extra={"nodelist": "n2"})
    ids = launcher.start([folder], "mmctl-ghost")
    until(lambda: step(folder) > 200)
    ghost = lease.process(folder)
    assert ghost is not None
    lose_node(slurm_folder, "n2")
    try:
        assert Path(f"/proc/{ghost}").exists(), "it trains on"
        slurm("scontrol", "update", f"JobId={ids[0]}", "ReqNodeList=n1")
        until(lambda: len(events(folder, "attempt")) == 2)
        until(lambda: not Path(f"/proc/{ghost}").exists())
        launcher.cancel(ids)
        assert [state.word for state in ended(launcher, ids)] == ["interrupted"]
        assert [event["s"] for event in events(folder, "state")] == ["running", "running", "interrupted"]
    finally:
        bring_back(slurm_folder, "n2")


class Promises(LauncherContract):
    """The contract of launchers for this one."""

    component = "slurm"
    params = ({"minutes": 10},)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in dir(Promises) if name.startswith("test_")])
def test_promise(name: str, tmp_path: Path) -> None:
    made = Promises()
    made.where = tmp_path
    getattr(made, name)()
