"""What tests of whole runs share: a stop flag, a run that is ready to train, and what two runs must have in common."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_project
from helpers.processes import dies_at
from mmctl.run_folder import journal
from mmctl.run_folder.record import last_state
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training import checkpoint, loop


class After:
    """A stop flag that rises after some questions: the loop asks once a step, evaluation once a batch.

    The question before the first step is not counted.
    """

    def __init__(self, calls: int) -> None:
        self.left = calls + 1

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def never() -> bool:
    return False


def events(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """The lines of the journals as another program would read them, attempt by attempt."""
    found = []
    for attempt in journal.attempts(folder):
        lines = journal.path_of(folder, attempt).read_text().splitlines()
        found += [event for event in map(json.loads, lines) if not kinds or event["e"] in kinds]
    return found


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


def survives_kills(folder: Path, n: int) -> bool:
    """Train a run to its end, through kill -9 at its n-th write and once in its next attempt; False if it has fewer."""
    work = partial(execute, folder, never)
    if not dies_at(n, bool(n % 2), work):
        return False
    if last_state(folder) != "completed":
        dies_at(n // 2 + 3, False, work)
    if last_state(folder) != "completed":
        assert execute(folder, never).state == "completed"
    return True


def strike(monkeypatch: pytest.MonkeyPatch, name: str, call: int, *numbers: int) -> None:
    """Send this process signals at a call of a function of the train loop."""
    real, calls = getattr(loop, name), 0

    def struck(*args: Any, **keys: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return real(*args, **keys)

    monkeypatch.setattr(loop, name, struck)


def only(runs: Path) -> Path | None:
    """The run in there, if one is complete enough to be one."""
    found = [p for p in runs.glob("2*") if (p / "run.json").exists()] if runs.is_dir() else []
    return found[0] if found else None


SETS = ("train.threads=1", "train.steps=12", "train.save_every=5", "train.log_every=4", "eval.every=5")


LOSS = '''
import torch

from mmctl.plugin import loss


class Count(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, out, target_BK, weight_B=None):
        self.calls += 1
        return self.value(out) + 0 * out.logits.sum()


@loss("nan_at_7")
class Nan(Count):
    """Not a number at its seventh call."""

    def value(self, out):
        return torch.where(self.calls == 7, torch.nan, 1.0)


@loss("one_class")
class One(Count):
    """Everything is of the first class."""

    def value(self, out):
        return -out.logits.log_softmax(-1)[:, 0].mean()


@loss("hungry")
class Hungry(Count):
    """Needs more memory than there is."""

    def value(self, out):
        return torch.zeros(2**50).sum()


@loss("out_of_range")
class Slip(Count):
    """Asks for a class that there is not."""

    def value(self, out):
        return out.logits[:, 99].mean()
'''


def started(tmp_path: Path, *sets: str, method: str = "supervised") -> Path:
    (tmp_path / "plugins").mkdir(exist_ok=True)
    (tmp_path / "plugins" / "losses.py").write_text(LOSS)
    return create_run(tiny_project.recipe(method, *SETS, *sets), tmp_path / "runs")


def tree(folder: Path) -> str:
    """A hash of all files of a folder, less the index of runs: reading may bring that up to date."""
    found = folder.rglob("*") if folder.exists() else []
    files = sorted(p for p in found if p.is_file() and not p.name.startswith("mmctl.db"))
    return hashlib.sha256(b"".join(str(p).encode() + p.read_bytes() for p in files)).hexdigest()
