"""Runs in float64 that one process trains, or several ranks share: threads of this process, by mmctl.testing.ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from helpers import tiny_project
from mmctl import ops
from mmctl.data.transfer import DevicePlan
from mmctl.plugin import Batch
from mmctl.runs import build
from mmctl.testing.ranks import on_ranks
from mmctl.training.loop import Point, train
from mmctl.training.state import Training

STEPS = 12
SETS = (f"train.steps={STEPS}", "train.log_every=3", "eval.every=6")
Spoil = Callable[[Training], None]


class Trained(NamedTuple):
    """What a run has after its steps."""

    tensors: dict[str, Tensor]
    points: list[tuple[int, dict[str, float]]]


@contextmanager
def doubles() -> Iterator[None]:
    """All that is built in the block computes in float64."""
    facts, torch_default = build.supplied_facts, torch.get_default_dtype()

    def supplied(*words: Any) -> dict[str, Any]:
        found = facts(*words)
        return found | {"prior_K": found["prior_K"].double()}

    build.supplied_facts = supplied
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        build.supplied_facts = facts
        torch.set_default_dtype(torch_default)


def made(method: str, sets: tuple[str, ...]) -> Training:
    """A run whose images and targets are float64 too."""
    with doubles():
        run = tiny_project.training(method, *SETS, *sets)
    batch = run.loader.batch
    run.loader.target_NK = run.loader.target_NK.double()

    def wide(staged: DevicePlan) -> Batch:
        found = batch(staged)
        found.x, found.u = (tuple(view.double() for view in views) for views in (found.x, found.u))
        return found

    run.loader.batch = wide  # type: ignore[method-assign]
    for pictures in (run.labeled, *run.splits.values(), *([run.pool] if run.pool else [])):
        normalize = pictures.normalize
        pictures.normalize = lambda x, normalize=normalize: normalize(x).double()  # type: ignore[assignment,misc]
    return run


def steps_of(run: Training, stop: int = STEPS) -> Trained:
    """Train up to this step."""
    points = [(e.step, e.values) for e in train(run, lambda: run.step == stop) if isinstance(e, Point)]
    return Trained({name: t.detach().clone() for name, t in run.tensors().items()}, points)


def alone(method: str, sets: tuple[str, ...] = ()) -> Trained:
    """The run on one process."""
    return steps_of(made(method, sets))


def shared(world: int, method: str, sets: tuple[str, ...] = (), spoil: Spoil = lambda run: None) -> list[Trained]:
    """The same run on several ranks; `spoil` changes it on each of them before it trains."""
    runs = [made(method, sets) for _ in range(world)]  # in turn: initial weights come from the global generator

    def work(_: object) -> Trained:
        run = runs[ops.rank()]
        spoil(run)
        return steps_of(run)

    return on_ranks(world, work)


def distance(a: Trained, b: Trained) -> float:
    """The largest difference of a tensor or a point of the curves."""
    assert a.tensors.keys() == b.tensors.keys()
    worst = max(
        float((t.double() - b.tensors[name].double()).abs().max()) for name, t in a.tensors.items() if t.numel()
    )
    assert [(step, values.keys()) for step, values in a.points] == [(step, values.keys()) for step, values in b.points]
    curves = (
        abs(v - other[k]) for (_, own), (_, other) in zip(a.points, b.points, strict=True) for k, v in own.items()
    )
    return max(worst, *curves)


def ranks_agree(ranks: list[Trained]) -> bool:
    """Whether all ranks hold the same bits."""
    first, *others = ranks
    return all(torch.equal(t, one.tensors[name]) for one in others for name, t in first.tensors.items())
