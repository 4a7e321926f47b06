"""State that no checkpoint saves is found, and what only looks like state is not."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from helpers import tiny_project
from helpers.command import Result
from helpers.run_helpers import SETS, After, assert_same, events, never
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training.unsaved import changed, snapshot

Mm = Callable[..., Result]


class Part(nn.Module):
    not_state = ("cache",)

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("saved", torch.zeros(2))
        self.register_buffer("lost", torch.zeros(2), persistent=False)
        self.inner = nn.ModuleList([nn.BatchNorm1d(2)])
        self.value, self.cache, self.alias = value, 0, [self.weight.detach()]


def add(value: Any) -> None:
    value["a"][0] += 1


STATES: dict[str, tuple[Callable[[], Any], Callable[[Part], Any]]] = {
    "number": (lambda: 0, lambda p: setattr(p, "value", 1)),
    "text": (lambda: "a", lambda p: setattr(p, "value", "b")),
    "list": (list, lambda p: p.value.append(1)),
    "nested": (lambda: {"a": [1]}, lambda p: add(p.value)),
    "set": (lambda: {1}, lambda p: p.value.add(2)),
    "deque": (lambda: deque([1]), lambda p: p.value.append(2)),
    "array": (lambda: np.zeros(3), lambda p: p.value.__setitem__(1, 5)),
    "tensor": (lambda: torch.zeros(3), lambda p: p.value.add_(1)),
    "bf16": (lambda: torch.zeros(3, dtype=torch.bfloat16), lambda p: p.value.add_(1)),
    "large tensor": (lambda: torch.zeros(3_000_000), lambda p: p.value.add_(1)),
    "object": (lambda: SimpleNamespace(n=0), lambda p: setattr(p.value, "n", 1)),
    "count": (lambda: itertools.count(), lambda p: next(p.value)),
    "numpy generator": (lambda: np.random.default_rng(0), lambda p: p.value.random()),
    "old numpy generator": (lambda: np.random.RandomState(0), lambda p: p.value.rand()),
    "python generator": (lambda: random.Random(0), lambda p: p.value.random()),
    "torch generator": (lambda: torch.Generator(), lambda p: torch.rand(1, generator=p.value)),
    "hidden module": (lambda: [nn.Linear(1, 1)], lambda p: p.value[0].weight.data.add_(1)),
    "new attribute": (lambda: 0, lambda p: setattr(p, "other", 1)),
    "lost buffer": (lambda: 0, lambda p: p.lost.add_(1)),
}


@pytest.mark.parametrize("name", STATES)
def test_state(name: str) -> None:
    make, change = STATES[name]
    part = Part(make())
    before = snapshot({"method": part})
    assert changed(before, snapshot({"method": part})) == []
    change(part)
    key = {"new attribute": "other", "lost buffer": "lost"}.get(name, "value")
    assert changed(before, snapshot({"method": part})) == [f"method.{key}"]


def test_no_state() -> None:
    """What checkpoints save, what each forward sets, and what a class says is no state."""
    part = Part(value=[nn.Parameter(torch.zeros(1)), print, torch.float32])
    part.value[0] = part.weight
    before = snapshot({"a": part, "b": SimpleNamespace(part=part)})
    with torch.no_grad():
        part.weight += 1
    part.saved += 1
    part.cache = 5
    part.inner[0](torch.ones(4, 2))
    part.inner[0].track_running_stats = False
    part.eval()
    part.register_forward_hook(lambda *_: None)
    assert changed(before, snapshot({"a": part, "b": SimpleNamespace(part=part)})) == []


METHOD = '''
import numpy as np
import torch
from torch import nn

from mmctl.plugin import LossTerm, StepOutput, augment, loss, method


@method("counts")
class Counts(nn.Module):
    """Its loss grows with a number in a Python attribute."""

    views = {"x": ("weak",)}
    slots = {"labeled": LossTerm("soft_cross_entropy")}
    default_labeler = None

    def __init__(self, model, losses):
        super().__init__()
        self.model, self.losses, self.count = model, losses, 0

    def step(self, batch):
        self.count += 1
        out = self.model(batch.x[0], bn="update")
        return StepOutput({"labeled": self.losses.labeled(out, batch.y) * (1 + self.count)})


@augment("careless_draw")
class CarelessDraw:
    """Draws from the global generators, not from the one that it is given."""

    def draw(self, rng, n):
        return {"shift": np.random.randint(0, 40, n) + torch.randint(0, 9, (n,)).numpy()}

    def apply(self, x_BCHW, shift):
        return (x_BCHW + shift.view(-1, 1, 1, 1)).clamp(0, 255).to(torch.uint8)
'''


def made(tmp_path: Path, *sets: str, method: str = "supervised") -> Path:
    (tmp_path / "plugins").mkdir(exist_ok=True)
    (tmp_path / "plugins" / "careless.py").write_text(METHOD)
    return create_run(tiny_project.recipe(method, *SETS, "eval.every=12", *sets), tmp_path / "runs")


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "mixmatch"])
def test_draws_from_the_global_generators_resume_exactly(method: str, tmp_path: Path) -> None:
    whole, folder = (made(tmp_path, 'augment.weak={name="careless_draw"}', method=method) for _ in range(2))
    plain = made(tmp_path, method=method)
    for run in (whole, plain):
        execute(run, never)
    execute(folder, After(5))
    execute(folder, never)
    assert [e["exact"] for e in events(folder, "attempt")] == [True, True]
    assert_same(folder, whole)
    with pytest.raises(AssertionError):
        assert_same(plain, whole)  # the draws have an effect


def test_a_counter_in_a_method_is_told_and_a_resumed_run_is_not_exact(mm: Mm, tmp_path: Path) -> None:
    folder = made(tmp_path, method="counts")
    execute(folder, After(5))
    (notice,) = events(folder, "notice")
    assert "method.count changed in training, but no checkpoint saves it" in notice["text"]
    assert "register_buffer" in notice["text"]
    done = mm("resume", folder.name, "--quiet")
    assert done.code == 0
    assert done.err.count("warning: method.count") == 2, "why it is not exact, and again at the first save"
    assert "exact = no" in done.err
    assert [e["exact"] for e in events(folder, "attempt")] == [True, False]


def test_a_run_without_hidden_state_is_told_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    execute(folder, After(5))
    execute(folder, never)
    assert events(folder, "notice") == []
    assert "warning" not in capfd.readouterr().err
