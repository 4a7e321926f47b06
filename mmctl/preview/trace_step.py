"""Runs one step and records its forward passes: network, number of images, batch norm, gradient; and the labeler.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmctl.plugin import Images, Split
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import Data
from mmctl.training.state import Training

CLASSES, SIDE = 10, 32
NETS: dict[str, Literal["network", "average"]] = {"raw": "network", "ema": "average"}


class TracedCall(NamedTuple):
    """One call in a step: a forward pass of a network, or a call of the labeler."""

    net: Literal["network", "average", "labeler"]
    views: str = ""  # of the images; empty if the images were mixed or changed
    images: int = 0
    bn: str = ""
    gradient: bool = False


class RecordedCalls(list[tuple[int, str, bool]]):
    """A network's list `calls` that also appends to a list of all networks, which keeps the order between them."""

    def __init__(self, net: Literal["network", "average"], trace: list[TracedCall]) -> None:
        super().__init__()
        self.net, self.trace, self.views = net, trace, ""

    def append(self, call: tuple[int, str, bool]) -> None:
        super().append(call)
        self.trace.append(TracedCall(self.net, self.views, *call))


def trace_step(run: Training) -> list[TracedCall]:
    """Run the next step up to its losses and return the calls of networks and labeler in their order."""
    trace: list[TracedCall] = []
    run.refit()
    batch = run.loader.batch(run.staged(run.step % run.steps))
    views = [
        (f"{name}, {view}", images)
        for branch, name in (("x", "labelled"), ("u", "unlabelled"))
        for view, images in zip(run.loader.views[branch], getattr(batch, branch), strict=True)
    ]
    hooks = []
    calls_before = {net: net.calls for net in run.nets.values()}
    for name, net in run.nets.items():
        calls = RecordedCalls(NETS[name], trace)
        net.calls = calls  # type: ignore[assignment]

        def note_views(_: nn.Module, args: tuple[Any, ...], calls: Any = calls) -> None:
            calls.views = views_of(args[0], views) if args else ""

        hooks.append(net.register_forward_pre_hook(note_views))
    if (labeler := run.parts.get("labeler")) is not None:
        hooks.append(labeler.register_forward_hook(lambda *_: trace.append(TracedCall("labeler"))))
    try:
        run.method.step(batch)
    finally:
        for net, calls_ in calls_before.items():
            net.calls = calls_
        for hook in hooks:
            hook.remove()
    return trace


def views_of(x_BCHW: Tensor, views: Sequence[tuple[str, Tensor]]) -> str:
    """The names of the views that x_BCHW is a concatenation of; empty if any image was mixed or changed."""
    names: list[str] = []
    at = 0
    while at < len(x_BCHW):
        view = next((v for v in views if torch.equal(x_BCHW[at : at + len(v[1])], v[1])), None)
        if view is None:
            return ""
        names.append(view[0])
        at += len(view[1])
    counts = ((name, len(list(same))) for name, same in groupby(names))
    return "; ".join(f"{n} x {name}" if n > 1 else name for name, n in counts)


def noise_data(recipe: Recipe) -> Data:
    """Random images in place of the data set: enough for one labelled and one unlabelled batch."""
    train = recipe.settings.train
    labeled = max(CLASSES, train.batch)
    rng = np.random.default_rng(0)

    def images(n: int) -> Images:
        pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, SIDE, SIDE), np.uint8))
        classes = tuple(str(k) for k in range(CLASSES))
        return Images(pixels, np.arange(n) % CLASSES, classes, [str(i) for i in range(n)], "noise")

    splits = {name: images(CLASSES) for name in ("test", *recipe.settings.eval.splits)}
    splits["train"] = images(labeled + train.unlabeled_batch)
    rows = np.arange(labeled + train.unlabeled_batch)
    counts = tuple(np.bincount(rows[:labeled] % CLASSES, minlength=CLASSES).tolist())
    split = Split(rows[:labeled], rows[labeled:], rows[:0], "balanced", 0, counts, "noise")
    return Data(splits, split, "noise")
