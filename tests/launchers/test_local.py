"""The local launcher: several processes at a time; the state of each run follows from the exit code."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mmctl.launchers.local import Local
from mmctl.plugin import available_cores

STUB = """#!/bin/sh
# Replaces `python -m mmctl exec FOLDER`: runs the file `do` of the folder.
cd "$4" && pwd >> started && echo "gpu=$CUDA_VISIBLE_DEVICES" >> started && . ./do
"""


@pytest.fixture(autouse=True)
def _stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def folders(tmp_path: Path, *scripts: str) -> list[Path]:
    made = []
    for n, script in enumerate(scripts):
        folder = tmp_path / f"run{n}"
        folder.mkdir()
        (folder / "do").write_text(script)
        made.append(folder)
    return made


def words(local: Local, ids: list[str]) -> dict[str, str]:
    return {run: state.word for run, state in local.states(ids).items()}


def settled(local: Local, ids: list[str]) -> dict[str, str]:
    deadline = time.monotonic() + 30
    while {"queued", "running"} & set((states := words(local, ids)).values()):
        assert time.monotonic() < deadline, states
        time.sleep(0.01)
    return states


def test_how_a_run_ended(tmp_path: Path) -> None:
    runs = folders(tmp_path, "exit 0", "exit 3", "exit 75", "exit 130", "kill -9 $$", "kill -15 $$", "exit 2")
    local = Local(slots=3)
    ids = local.start(runs, "mmctl-1")
    assert ids == [run.name for run in runs]
    ended = ["completed", "failed", "interrupted", "interrupted", "failed", "interrupted", "failed"]
    assert list(settled(local, ids).values()) == ended
    reasons = ["", "exit code 3", "", "", "killed by signal 9", "", "exit code 2"]
    assert [state.reason for state in local.states(ids).values()] == reasons
    assert local.states(["another"])["another"].word == "gone"


def test_no_more_at_a_time_than_there_are_slots(tmp_path: Path) -> None:
    wait = "while [ ! -e go ]; do sleep 0.02; done"
    runs = folders(tmp_path, *[wait] * 4)
    local = Local(slots=2)
    ids = local.start(runs, "mmctl-1")
    assert local.limits().slots == 2
    assert list(words(local, ids).values()) == ["running", "running", "queued", "queued"]
    (runs[1] / "go").touch()
    deadline = time.monotonic() + 30
    while (states := list(words(local, ids).values())) != ["running", "completed", "running", "queued"]:
        assert time.monotonic() < deadline, states
        time.sleep(0.01)
    for run in runs:
        (run / "go").touch()
    assert set(settled(local, ids).values()) == {"completed"}


def test_cancel_stops_what_runs_and_drops_what_waits(tmp_path: Path) -> None:
    trap = "trap 'echo asked; exit 75' TERM; touch ready; while :; do sleep 0.02; done"
    runs = folders(tmp_path, trap, "exit 0")
    local = Local(slots=1)
    ids = local.start(runs, "mmctl-1")
    while not (runs[0] / "ready").exists():
        time.sleep(0.01)
    local.cancel(ids)
    assert set(settled(local, ids).values()) == {"interrupted"}
    assert (runs[0] / "log.txt").read_text() == "asked\n"
    assert not (runs[1] / "started").exists()
    (runs[0] / "do").write_text("echo again")
    local.start(runs, "mmctl-2")
    assert set(settled(local, ids).values()) == {"completed"}
    assert (runs[0] / "log.txt").read_text() == "asked\nagain\n", "the log of the attempt before is kept"
    local.cancel(ids)
    assert set(settled(local, ids).values()) == {"completed"}, "what has ended stays as it ended"


def test_ctrl_c_does_not_reach_the_runs(tmp_path: Path) -> None:
    (run,) = folders(tmp_path, "cut -d' ' -f6 /proc/$$/stat > session")
    local = Local(slots=1)
    settled(local, local.start([run], "mmctl-1"))
    assert int((run / "session").read_text()) != os.getsid(0)


def test_each_run_gets_the_gpu_that_is_used_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    wait = "while [ ! -e go ]; do sleep 0.02; done"
    runs = folders(tmp_path, wait, wait, "exit 0")
    local = Local(pack=1)
    ids = local.start(runs, "mmctl-1")
    assert local.limits().slots == 2
    (runs[0] / "go").touch()
    deadline = time.monotonic() + 30
    while words(local, ids)[ids[2]] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (runs[1] / "go").touch()
    settled(local, ids)
    assert [(run / "started").read_text().split("gpu=")[1].strip() for run in runs] == ["4", "7", "4"]


@pytest.mark.parametrize(
    ("gpus", "runs", "keys", "shared"),
    [
        ("0", 5, {}, [5]),  # --seeds 0-4 on one GPU
        ("0", 9, {}, [8]),
        ("0,1", 5, {}, [3, 2]),
        ("0", 3, {"slots": 1}, [1]),
        ("0", 4, {"slots": 4, "pack": 1}, [1, 1, 1, 1]),  # time-sliced
        ("0,1", 4, {"slots": 3}, [2, 1]),
        ("", 4, {"slots": 4, "pack": 2}, [2, 2]),
        ("", 3, {"slots": 2}, [1, 1]),
    ],
)
def test_runs_share_a_process_where_they_share_a_gpu(
    gpus: str, runs: int, keys: dict[str, int], shared: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    made = folders(tmp_path, *["while [ ! -e ../go ]; do sleep 0.02; done"] * runs)
    local = Local(**keys)
    ids = local.start(made, "mmctl-1")
    assert [len(process.names) for process in local._running] == shared
    assert list(words(local, ids).values()).count("running") == sum(shared)
    (tmp_path / "go").touch()
    assert set(settled(local, ids).values()) == {"completed"}


def test_the_runs_of_a_process_end_as_it_ends_and_stop_together(tmp_path: Path) -> None:
    made = folders(tmp_path, "trap 'exit 75' TERM; touch up; while :; do sleep 0.02; done", "exit 0", "exit 0")
    local = Local(slots=2, pack=2)
    ids = local.start(made, "mmctl-1")
    deadline = time.monotonic() + 30
    while not (made[0] / "up").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    local.cancel([ids[1]])
    assert settled(local, ids) == {ids[0]: "interrupted", ids[1]: "interrupted", ids[2]: "completed"}


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert Local().limits().slots == available_cores()
    assert Local(slots=5).limits().slots == 5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot restrict a process to some cores")
def test_cores_that_a_process_may_not_use_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmctl.cores.CPU_LIMIT", tmp_path / "cpu.max")  # there is none
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
        assert Local().limits().slots == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cores() == len(before)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("5000 100000\n", 1), ("9900000 100000\n", 8),
     ("max 100000\n", 8), ("", 8), (None, 8)],
)  # fmt: skip
def test_the_limit_of_a_container_counts(
    text: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("mmctl.cores.CPU_LIMIT", tmp_path / "cpu.max")
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert available_cores() == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot restrict a process to some cores")
@pytest.mark.parametrize(
    ("env", "cores"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "6"}, 3),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_PER_TASK": "64"}, 8),
        ({"SLURM_CPUS_PER_TASK": ""}, 8),
    ],
)
def test_the_cores_of_a_job_count(
    env: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("mmctl.cores.CPU_LIMIT", tmp_path / "cpu.max")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert available_cores() == cores
