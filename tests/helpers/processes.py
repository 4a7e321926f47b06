"""Child processes of tests: mmctl or other Python, waited for, or killed at a write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.paths import REPO


def child(code: str, *args: object) -> subprocess.Popen[bytes]:
    """A Python process that finds mmctl; its output comes through a pipe."""
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for a child: exit code, output, errors."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def spawn(runs: Path, *words: object, cwd: Path = REPO, code: str = "") -> subprocess.Popen[str]:
    """An mmctl of its own; `code` is run before it, in its process."""
    env = {**os.environ, "MMCTL_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    start = ["-c", f"{code}\nfrom mmctl.cli import main\nmain()"] if code else ["-m", "mmctl"]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, words)], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> Any:
    """The first true answer; fails if the process ends before."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


OPERATIONS = (
    (os, "fsync"), (os, "write"), (Path, "rename"), (Path, "replace"), (Path, "mkdir"), (Path, "open"),
    (shutil, "rmtree"),
)  # fmt: skip
"""All by which a run changes what is on the disk, or makes sure of it."""


def dies_at(n: int, after: bool, work: Callable[[], None]) -> bool:
    """Do the work in a child that kill -9 ends before (or after) its n-th operation; whether it came to that."""
    child = os.fork()
    if child == 0:
        done, opening = 0, Path.open

        def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **keys: Any) -> Any:
                nonlocal done
                if operation is opening and not {*"wxa+"} & {*str(args[1:2])}:
                    return operation(*args, **keys)
                mine = done = done + 1  # an operation may hold others
                if mine == n and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = operation(*args, **keys)
                if mine == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

        try:
            for owner, name in OPERATIONS:
                setattr(owner, name, counted(getattr(owner, name)))
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), "the child says why"
    return code == -signal.SIGKILL
