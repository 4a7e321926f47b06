"""Signals: the first asks for a stop at the next step, the second Ctrl-C ends at once; both can be resumed exactly."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.paths import REPO
from helpers.processes import spawn
from helpers.run_helpers import assert_same, events, never, strike
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.runs.signals import SIGNALS, StopSignal
from mmctl.training import checkpoint

pytestmark = pytest.mark.usefixtures("handlers_kept")
Mm = Callable[..., Result]
SETS = ("train.threads=1", "train.steps=12", "train.save_every=5", "train.log_every=4", "eval.every=6", "eval.batch=9")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "elsewhere")
    assert execute(folder, never).state == "completed"
    return folder


@pytest.mark.sampled(3)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: signal.Signals(n).name)
def test_a_signal_stops_at_the_step(
    number: int, whole: Path, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")
    with monkeypatch.context() as patch:
        strike(patch, "device_step", 7, number)
        done = mm("resume", folder.name)
    assert done.code == 75, done
    assert f"saved at step 7/12. Continue with:  mmctl resume {folder.name}" in done.err
    assert done.err.count("stopping after this step") == 1
    found = checkpoint.newest(folder)[0]
    assert found is not None
    assert (found.step, found.manifest["reason"]) == (7, "interrupt")
    state = events(folder, "state")[-1]
    assert (state["s"], state["code"], state["step"]) == ("interrupted", 75, 7)
    assert "interrupted" in mm("ls").out
    assert mm("resume", folder.name, "--quiet").code == 0
    assert_same(folder, whole)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("name", "call", "step"),
    [
        ("device_step", 1, 1),
        ("evaluate", 1, 6),
        ("refit_centroids", 2, 6),
        ("evaluate", 4, 12),
        ("check_weights", 1, 5),
    ],
)
def test_a_signal_anywhere(
    name: str, call: int, step: int, whole: Path, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")
    with monkeypatch.context() as patch:
        strike(patch, name, call, signal.SIGTERM)
        done = mm("resume", folder.name)
    assert done.code == 75, done
    # A signal that comes while a checkpoint is written is seen after the next step.
    assert checkpoint.steps(folder)[-1] == (step if name != "check_weights" else step + 1)
    assert mm("resume", folder.name, "--quiet").code == 0
    assert_same(folder, whole)


def test_a_second_ctrl_c_ends_at_once(whole: Path, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")
    with monkeypatch.context() as patch:
        strike(patch, "device_step", 8, signal.SIGINT, signal.SIGINT)
        done = mm("resume", folder.name)
    assert done.code == 130
    assert f"`mmctl resume {folder.name}` continues from the last checkpoint" in done.err
    assert "Traceback" not in done.err
    assert checkpoint.steps(folder)[-1] == 5
    assert [(e["s"], e["code"]) for e in events(folder, "state")] == [("running", None), ("interrupted", 130)]
    assert mm("resume", folder.name, "--quiet").code == 0
    assert_same(folder, whole)


def test_a_second_ctrl_c_in_the_middle_of_a_save(
    whole: Path, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")
    real, struck = checkpoint.write_synced, []

    def write(path: Path, data: bytes) -> None:
        real(path, data)
        if ".tmp-10-" in str(path) and not struck:
            struck.append(path)
            for _ in range(2):  # apart, or the kernel would make one of them
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_synced", write)
        assert mm("resume", folder.name).code == 130
    assert checkpoint.steps(folder) == [5, 10], "a save under way is ended first: it takes no time worth losing it"
    assert mm("resume", folder.name, "--quiet").code == 0
    assert not list((folder / "checkpoints").glob(".tmp-*"))
    assert_same(folder, whole)


def test_a_second_sigterm_is_no_second_ctrl_c(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(tiny_project.recipe("supervised", *SETS), tmp_path / "runs")
    strike(monkeypatch, "device_step", 3, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP)
    assert mm("resume", folder.name).code == 75


def test_what_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop()


@pytest.mark.slow
def test_a_closed_terminal_stops_at_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")
    terminal, slave = pty.openpty()
    code = (
        "import os, sys\nfrom mmctl.training import loop\nreal = loop.device_step\n"
        "def step(run, plan):\n"
        "    if plan.step == 6:\n"
        "        open('ready', 'w').close()\n"
        "        sys.stdin.readline()\n"  # until the terminal has gone
        "        os.kill(os.getpid(), 1)\n"
        "    return real(run, plan)\n"
        "loop.device_step = step\nfrom mmctl.cli import main\nmain()"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "resume", folder.name], cwd=tmp_path, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None, os.read(terminal, 4000)
        time.sleep(0.02)
    os.close(terminal)
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 75
    found = checkpoint.newest(folder)[0]
    assert found is not None
    assert (found.step, found.manifest["reason"]) == (7, "interrupt")
    assert execute(folder, never).state == "completed"
    assert_same(folder, whole)


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_no_training(whole: Path, tmp_path: Path) -> None:
    folder = create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")
    process = spawn(tmp_path / "runs", "resume", folder.name, cwd=tmp_path)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert process.wait(60) == 0
    assert_same(folder, whole)
