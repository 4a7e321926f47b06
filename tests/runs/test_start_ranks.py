"""One run in several real processes: started by mmctl, torchrun or srun, stopped, killed, continued."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.paths import REPO
from helpers.processes import spawn, wait_for
from helpers.run_helpers import assert_same, events, only
from mmctl.errors import UserError
from mmctl.run_folder.record import last_state
from mmctl.runs import ranks
from mmctl.runs.create import create_run
from mmctl.runs.ranks import Place, check_shared, meeting_point, place_of

SETS = (
    "train.threads=1", "train.device=cpu", "train.steps=40", "train.log_every=4", "train.save_every=10", "eval.every=20"
)  # fmt: skip

ALL_CORES = "import os; os.sched_setaffinity(0, range(os.cpu_count()))"
"""Workers of the test suite have one core each, on which two processes are refused."""


def words(*sets: str) -> list[str]:
    return [word for one in (*SETS, *sets) for word in ("--set", one)]


def killed_at(runs: Path, step: int, number: int) -> subprocess.Popen[str]:
    """A run on two processes, of which one is ended by kill -9 after this step."""
    command = ("run", "tiny.toml", "--gpus", 2, *words("train.steps=4000"))
    process = spawn(runs, *command, cwd=Path.cwd(), code=ALL_CORES)
    folder = wait_for(lambda: only(runs), process)
    wait_for(lambda: any(e["step"] >= step for e in events(folder, "checkpoint")), process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[number]), signal.SIGKILL)
    return process


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on_alone(tmp_path: Path, mm: Callable[..., Result]) -> None:
    tiny_project.written("supervised")
    process = killed_at(tmp_path / "runs", 10, 1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "process 1 of 2 was killed by SIGKILL" in err
    assert "another process of this run ended" in err
    folder = only(tmp_path / "runs")
    assert folder is not None
    assert last_state(folder) == "failed"
    found = events(folder, "checkpoint")[-1]["step"]
    process = spawn(tmp_path / "runs", "resume", folder.name, cwd=Path.cwd())
    wait_for(lambda: events(folder, "checkpoint")[-1]["step"] > found, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "the number of processes changed since the last attempt" in err
    assert [e["exact"] for e in events(folder, "attempt")] == [True, False]


@pytest.mark.exhaustive
def test_stopped_and_resumed_it_is_the_unbroken_run(tmp_path: Path) -> None:
    tiny_project.written("fixmatch")
    start = ("run", "tiny.toml", "--gpus", 2, *words("train.steps=400", "eval.every=400"))
    whole = spawn(tmp_path / "whole", *start, cwd=Path.cwd(), code=ALL_CORES)
    assert whole.communicate(timeout=120)[1]
    assert whole.returncode == 0
    process = spawn(tmp_path / "runs", *start, cwd=Path.cwd(), code=ALL_CORES)
    folder = wait_for(lambda: only(tmp_path / "runs"), process)
    wait_for(lambda: events(folder, "points"), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    again = spawn(tmp_path / "runs", "resume", folder.name, "--gpus", 2, cwd=Path.cwd(), code=ALL_CORES)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "completed, 400 steps" in out
    assert [e["exact"] for e in events(folder, "attempt")] == [True, True]
    unbroken = only(tmp_path / "whole")
    assert unbroken is not None
    assert_same(folder, unbroken)


@pytest.mark.exhaustive
def test_torchrun_starts_the_same_processes(tmp_path: Path) -> None:
    folder = create_run(tiny_project.recipe("supervised", *SETS), tmp_path / "runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1",
            "--master_port", str(port), "-m", "mmctl", "exec", str(folder),
        ],
        env={**os.environ, "PYTHONPATH": str(REPO), "GLOO_SOCKET_IFNAME": "lo"}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "completed, 40 steps" in done.stdout
    assert last_state(folder) == "completed"


REFUSED = {
    "batch": (("--gpus", 5), "train.batch = 12 (tiny.toml:", "5 processes cannot share 12 images equally"),
    "seeds": (("--gpus", 2, "--seeds", "0-2"), "cannot be combined with --seeds", ""),
    "jobs": (("--gpus", 2, "--jobs", 2), "cannot be combined with --jobs", ""),
    "profile": (("--gpus", 2, "--profile", 3), "cannot be combined with --profile", ""),
    "dry run": (("--gpus", 2, "--dry-run"), "cannot be combined with --dry-run", ""),
    "compile": (("--gpus", 2, "--set", "train.compile=true"), "set train.compile = false", ""),
    "cores": (("--gpus", 2, "--set", "train.device=cpu"), "--gpus 2: torch finds no GPU, and on the CPU", "1 process"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shared_is_refused_before_anything_is_stored(
    name: str, mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmctl.cores.available_cores", lambda: 1 if name == "cores" else 8)
    tiny_project.written("mixmatch")
    given, *said = REFUSED[name]
    done = mm("run", "tiny.toml", *given)
    assert done.code == 2, done.err
    assert all(text in done.err for text in said), done.err
    assert not (tmp_path / "runs").exists()


def test_unlabelled_batches_count_only_where_there_are_some() -> None:
    check_shared(tiny_project.recipe("supervised", "train.unlabeled_batch=7"), 4)
    with pytest.raises(UserError, match=r"train.unlabeled_batch = 7 \(--set"):
        check_shared(tiny_project.recipe("mixmatch", "train.unlabeled_batch=7"), 4)


def test_the_place_of_a_process() -> None:
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert place_of(torchrun) == Place(3, 4, 1, 2)
    srun = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "SLURM_NTASKS": "2"}
    assert place_of(srun) == Place(1, 2, 0, 1)
    assert place_of({**srun, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert place_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}) is None, "the batch script is one process"
    assert place_of({}) is None
    with pytest.raises(UserError, match="RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE must be whole numbers"):
        place_of({**torchrun, "RANK": "first"})


def test_the_meeting_point_of_a_slurm_step(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"gpu007", "alone"}

    def resolve(name: str, port: None) -> None:
        if name not in known:
            raise OSError

    monkeypatch.setattr(ranks.socket, "getaddrinfo", resolve)
    step = {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "1", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}
    assert meeting_point({**step, "SLURM_STEP_NODELIST": "gpu[007-009,011],x1"}) == {
        "MASTER_ADDR": "gpu007", "MASTER_PORT": "20085"
    }  # fmt: skip
    assert meeting_point({**step, "SLURM_STEP_NODELIST": "alone"})["MASTER_ADDR"] == "alone"
    assert meeting_point({**step, "SLURM_STEP_NODELIST": "n[1-2]"})["MASTER_ADDR"] == "10.0.0.1"
