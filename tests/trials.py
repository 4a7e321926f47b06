"""What tests of whole runs share: a stop flag, processes, and what two runs must have in common."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import REPO

from mmctl.run_folder import journal
from mmctl.training import checkpoint


class After:
    """A stop flag that rises after some questions: the loop asks once a step, evaluation once a batch."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def never() -> bool:
    return False


def events(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """What the journals say, attempt by attempt."""
    return list(journal.events(folder, *kinds))


def points(folder: Path) -> dict[tuple[str, int], Any]:
    """(series, step) -> value as the importer counts: a new attempt takes back what lies after its start."""
    found: dict[tuple[str, int], Any] = {}
    for event in events(folder, "attempt", "points"):
        if event["e"] == "attempt":
            found = {k: v for k, v in found.items() if k[1] <= event["from"]}
        else:
            found |= {(name, event["step"]): value for name, value in event["v"].items()}
    return found


def assert_same(a: Path, b: Path) -> None:
    """The last states and all points are the same to the last bit."""
    one, other = checkpoint.newest(a, False)[0], checkpoint.newest(b, False)[0]
    assert one is not None
    assert other is not None
    assert one.step == other.step
    assert one.tensors.keys() == other.tensors.keys()
    assert [k for k, t in one.tensors.items() if not torch.equal(t, other.tensors[k])] == []
    assert points(a) == points(b)


def spawn(runs: Path, *words: object, cwd: Path = REPO, code: str = "") -> subprocess.Popen[str]:
    """An mmctl of its own; `code` is run before it, in its process."""
    env = {**os.environ, "MMCTL_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    start = ["-c", f"{code}\nfrom mmctl.cli import main\nmain()"] if code else ["-m", "mmctl"]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, words)], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def only(runs: Path) -> Path | None:
    """The run in there, if one is complete enough to be one."""
    found = [p for p in runs.glob("2*") if (p / "run.json").exists()] if runs.is_dir() else []
    return found[0] if found else None


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> Any:
    """The first true answer; fails if the process ends before."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found
