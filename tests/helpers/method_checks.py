"""Checks that more than one test module makes of a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.manifests import facts
from helpers.method_cases import SOFT
from helpers.recorded_step import record
from helpers.tiny_project import training
from mmctl.data.transfer import Transfer
from mmctl.testing.method import step_without_values
from mmctl.training import checkpoint
from mmctl.training.cuda_graph import Snapshot
from mmctl.training.loop import Point, device_step, train
from mmctl.training.optimizer import Optimizer
from mmctl.training.state import Training, own_groups


def pretend(run: Training) -> None:
    """One step on tensors without values: what reads one, or has a shape that depends on one, is refused."""
    assert all(type(v).__name__ == "FakeTensor" for v in step_without_values(run).values())


def points_of(run: Training, stop: int, folder: Path) -> list[Any]:
    """Points from here to `stop`, where a checkpoint is written."""
    found: list[Any] = []
    for event in train(run, lambda: run.step == stop):
        if isinstance(event, Point):
            found.append((event.step, event.values))
    checkpoint.publish(folder, run.step, run.tensors(), facts(run.facts()))
    return found


def assert_resumed_is_unbroken(method: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    """Stopped after ten steps and resumed by another process's objects, a run ends as one that was never stopped."""
    whole = training(method, *sets)  # step 10 lies between two points
    unbroken = points_of(whole, 20, tmp_path / "whole")
    first = training(method, *sets)
    points = points_of(first, 10, tmp_path / "parts")
    assert first.unsaved() == [], "state is in buffers, not in plain attributes"
    second = training(method, *sets)
    found = checkpoint.read(checkpoint.folder_of(tmp_path / "parts", 10))
    with torch.no_grad():
        for t in second.tensors().values():
            t.copy_(
                torch.randint_like(t, 2) if t.dtype is torch.bool else t + 3
            )  # nothing may survive of a fresh start
    checkpoint.copy_into(second.restore(found.step, found.manifest["training"]), found.tensors, found.folder)
    points += points_of(second, 20, tmp_path / "parts")
    assert points == unbroken
    a, b = whole.tensors(), second.tensors()
    assert list(a) == list(b)
    for k in a:
        assert torch.equal(a[k], b[k]), k
    assert any(not torch.equal(a[k], t) for k, t in first.tensors().items())


def capturable(method: str, *sets: str) -> Training:
    """A run whose numbers all live on the device, as on a GPU."""
    run = training(method, *SOFT.get(method, ()), *sets)
    params = {k: t for k, t in run.owned.items() if isinstance(t, nn.Parameter) and t.requires_grad}
    run.optimizer = Optimizer(params, own_groups(run.parts, params), run.settings.optimizer, fused=True)
    run.transfer = Transfer(torch.device("cpu"), packed=True)
    return run


def tensors(run: Training) -> dict[str, torch.Tensor]:
    return {k: t.detach().clone() for k, t in run.tensors().items()}


def assert_replayed_is_taken(method: str, sets: tuple[str, ...]) -> None:
    """Five steps replayed from one recorded step change a run as five steps do."""
    one, other = capturable(method, *sets), capturable(method, *sets)
    for step in range(3):  # names of the tally, first memories: what warm-up is for
        device_step(one, one.staged(step))
        device_step(other, other.staged(step))
    staged = one.staged(3)
    before = Snapshot(one)
    tape = record(lambda: device_step(one, staged))
    assert tape.read == [], "the host waits for the device"
    before.restore()
    for step in range(3, 8):
        one.staged(step)  # into the memory that the tape reads
        tape.replay()
        device_step(other, other.staged(step))
    for name, value in tensors(other).items():
        assert torch.equal(one.tensors()[name], value), name
