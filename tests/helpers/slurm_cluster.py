"""A real Slurm of two pretended nodes on this machine, for the tests with the mark `slurm`."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.paths import REPO
from helpers.run_helpers import points
from mmctl.launchers.slurm import Slurm
from mmctl.plugin import JobState
from mmctl.runs.create import create_run

SECONDS = 90.0
"""How long a job may take, with its wait in the queue."""


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def cluster(folder: Path, user: str) -> Iterator[Path]:
    """A cluster that the users of this folder share, two of which on one machine would end each other's jobs.

    The first user starts it, the last one stops it. Skips the test where it cannot be started.
    """
    up = Path(os.environ.get("MMCTL_SLURM", REPO.parent / "shared")) / "slurm-up"
    if not up.is_file():
        pytest.skip(f"there is no {up}; MMCTL_SLURM names the folder of slurm-up and slurm-down")
    users, lock = folder / "slurm-users", folder / "slurm.lock"
    env = {**os.environ, "MMCTL_SLURM_DIR": str(folder / "slurm")}
    with alone(lock):
        users.mkdir(exist_ok=True)
        (users / user).touch()
        started = subprocess.run(
            [up, "--nodes", "2", "--cpus", "4", "--gpus", "0"], env=env, capture_output=True, text=True
        )
    try:
        if started.returncode:
            pytest.skip(started.stderr.strip())
        yield folder / "slurm"
    finally:
        with alone(lock):
            (users / user).unlink()
            if not any(users.iterdir()):
                subprocess.run([up.with_name("slurm-down"), "--purge"], env=env, capture_output=True, check=False)


def lose_node(folder: Path, node: str) -> None:
    """A node stops answering, and Slurm is told that it is lost; what runs there runs on."""
    os.kill(int((folder / "pid" / f"slurmd-{node}").read_text()), signal.SIGKILL)
    slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")


def bring_back(folder: Path, node: str) -> None:
    """A lost node works again."""
    start = f"setsid slurmd -D -N {node} </dev/null >>{folder}/log/slurmd-{node}.out 2>&1 & echo $!"
    (folder / "pid" / f"slurmd-{node}").write_text(slurm("sh", "-c", start))
    slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")


def slurm(program: str, *words: object) -> str:
    """The output of a program of Slurm."""
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=True).stdout


def until(what: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, slurm("squeue", "-r", "-t", "all")
        time.sleep(0.2)


def launched_run(tmp_path: Path, *sets: str) -> Path:
    """A run in tmp_path/runs that jobs train."""
    recipe = tiny_project.recipe("supervised", "train.threads=1", "train.log_every=50", "eval.every=1000", *sets)
    return create_run(recipe, tmp_path / "runs")


def step(folder: Path) -> int:
    """The last step that the journals of a run name."""
    return max((at for _, at in points(folder)), default=0)


def hide_scontrol(tmp_path: Path, run: Path) -> Path:
    """A shell file for MMCTL_SLURM_SETUP that hides scontrol from the jobs of one run."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").symlink_to(slurm("which", "srun").strip())
    setup = tmp_path / "setup.sh"
    setup.write_text(f'[ "$run" = {run} ] && PATH={tmp_path}/bin; true\n')
    return setup


def ended(launcher: Slurm, ids: Sequence[str]) -> list[JobState]:
    """The last states of jobs."""
    until(lambda: not {"queued", "running"} & {state.word for state in launcher.states(ids).values()})
    return list(launcher.states(ids).values())
