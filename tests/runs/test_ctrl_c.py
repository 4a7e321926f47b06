"""Ctrl-C at any moment: no traceback, no signal that is lost, no run that is left queued."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.paths import REPO
from helpers.run_helpers import only
from mmctl.run_folder.record import last_state
from mmctl.runs import create

Mm = Callable[..., Result]

AT_IMPORT = """
import os, signal, sys

class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == {where!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Strike())
"""
AT_EXIT = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
MAIN = "\nfrom mmctl.__main__ import main\nmain()"
RUN = ("run", "tiny.toml", "--quiet", "--set", "train.steps=6", "--set", "train.threads=1")


def start(code: str, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code + MAIN, *words], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("code", "ends", "says", "state"),
    [
        (AT_IMPORT.format(where="mmctl.cli"), 130, "mmctl: stopped\n", None),
        (AT_IMPORT.format(where="torch.nn"), 130, "mmctl: stopped\n", None),
        (AT_EXIT, 0, "", "completed"),
    ],
    ids=["first import", "in torch", "at exit"],
)
def test_ctrl_c_at(code: str, ends: int, says: str, state: str | None, tmp_path: Path) -> None:
    tiny_project.written("supervised")
    process = start(code, *RUN)
    out, err = process.communicate(timeout=150)
    assert process.returncode == ends, err
    assert says in err
    assert "Traceback" not in err
    assert ("completed" in out) == (state == "completed")
    folder = only(tmp_path / "runs")
    assert (last_state(folder) if folder else None) == state


def test_ctrl_c_while_the_folder_is_made(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_project.written("supervised")
    real = create.create_run

    def struck(*args: Any, **keys: Any) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **keys)

    monkeypatch.setattr(create, "create_run", struck)
    done = mm(*RUN)
    assert done.code == 75
    assert "stopped before the first step. Continue with:  mmctl resume " in done.err
    assert "Traceback" not in done.err
    assert "completed" not in done.out
    folder = only(tmp_path / "runs")
    assert folder is not None
    assert last_state(folder) == "interrupted"


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("words", [RUN, (*RUN, "--seeds", "0-2", "--jobs", "2")], ids=["one run", "a batch"])
def test_ctrl_c_at_any_time(words: tuple[str, ...], tmp_path: Path) -> None:
    tiny_project.written("supervised")
    began = time.monotonic()
    first = start("", *words, "--force")
    _, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    whole = time.monotonic() - began
    dice = random.Random(1)
    for n in range(25):
        process = start("print('go', flush=True)", *words, "--force")
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(0.05 + 1.1 * whole * n / 25 * dice.uniform(0.8, 1.2))
        process.send_signal(signal.SIGINT)
        if n % 3 == 2:  # again, without patience
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode in (0, 75, 130), err
        assert "Traceback" not in err, err
        for folder in (tmp_path / "runs").glob("2*"):
            state = last_state(folder) if (folder / "run.json").exists() else "unfinished"
            if "resume" in err and folder.name in err:
                assert state != "completed", (n, err)
            assert state is not None, (n, "left as queued", out, err)
