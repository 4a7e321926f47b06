"""One step of a run, watched: which networks are asked, with how many pictures, batch norm and gradient; who labels.

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


class Pass(NamedTuple):
    """One thing that happened in a step: a forward through a network, or the labeler at work."""

    net: Literal["network", "average", "labeler"]
    shown: str = ""  # the views that the pictures are, if they are as they came
    images: int = 0
    bn: str = ""
    gradient: bool = False


class Calls(list[tuple[int, str, bool]]):
    """A network's `calls` that tells them to a list shared with the other networks, and so their order."""

    def __init__(self, net: Literal["network", "average"], into: list[Pass]) -> None:
        super().__init__()
        self.net, self.into, self.shown = net, into, ""

    def append(self, call: tuple[int, str, bool]) -> None:
        super().append(call)
        self.into.append(Pass(self.net, self.shown, *call))


def trace_step(run: Training) -> list[Pass]:
    """What the next step of a run does up to its losses, in order."""
    into: list[Pass] = []
    run.refit()
    batch = run.loader.batch(run.staged(run.step % run.steps))
    views = [
        (f"{words}, {view}", pictures)
        for branch, words in (("x", "labelled"), ("u", "unlabelled"))
        for view, pictures in zip(run.loader.views[branch], getattr(batch, branch), strict=True)
    ]
    hooks = []
    before = {net: net.calls for net in run.nets.values()}
    for name, net in run.nets.items():
        calls = Calls(NETS[name], into)
        net.calls = calls  # type: ignore[assignment]

        def look(_: nn.Module, given: tuple[Any, ...], calls: Any = calls) -> None:
            calls.shown = shown(given[0], views) if given else ""

        hooks.append(net.register_forward_pre_hook(look))
    if (labeler := run.parts.get("labeler")) is not None:
        hooks.append(labeler.register_forward_hook(lambda *_: into.append(Pass("labeler"))))
    try:
        run.method.step(batch)
    finally:
        for net, old in before.items():
            net.calls = old
        for hook in hooks:
            hook.remove()
    return into


def shown(x_BCHW: Tensor, views: Sequence[tuple[str, Tensor]]) -> str:
    """Which views these pictures are, one after the other; nothing if they are mixed or changed."""
    found: list[str] = []
    at = 0
    while at < len(x_BCHW):
        part = next((v for v in views if torch.equal(x_BCHW[at : at + len(v[1])], v[1])), None)
        if part is None:
            return ""
        found.append(part[0])
        at += len(part[1])
    runs = ((name, len(list(same))) for name, same in groupby(found))
    return "; ".join(f"{n} x {name}" if n > 1 else name for name, n in runs)


def noise_data(recipe: Recipe) -> Data:
    """Enough noise for one step: a batch of labelled and a batch of unlabelled pictures."""
    train = recipe.settings.train
    labeled = max(CLASSES, train.batch)
    rng = np.random.default_rng(0)

    def images(n: int) -> Images:
        pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, SIDE, SIDE), np.uint8))
        names = tuple(str(k) for k in range(CLASSES))
        return Images(pixels, np.arange(n) % CLASSES, names, [str(i) for i in range(n)], "made up")

    parts = {name: images(CLASSES) for name in ("test", *recipe.settings.eval.splits)}
    parts["train"] = images(labeled + train.unlabeled_batch)
    rows = np.arange(labeled + train.unlabeled_batch)
    counts = tuple(np.bincount(rows[:labeled] % CLASSES, minlength=CLASSES).tolist())
    split = Split(rows[:labeled], rows[labeled:], rows[:0], "balanced", 0, counts, "made up")
    return Data(parts, split, "made up")
