"""One step of a run, watched: which networks are asked, with how many pictures, batch norm and gradient; who labels."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from mmctl.assemble import Data
from mmctl.plugin import Images, Split
from mmctl.recipe import Recipe
from mmctl.train import Training

CLASSES, SIDE = 10, 32
NETS: dict[str, Literal["network", "average"]] = {"raw": "network", "ema": "average"}


class Pass(NamedTuple):
    """One thing that happened in a step: a forward through a network, or the labeler at work."""

    net: Literal["network", "average", "labeler"]
    shown: str = ""  # what the pictures are, where they are a view as it came
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


def passes(run: Training) -> list[Pass]:
    """What the next step of a run does up to its losses, in order."""
    into: list[Pass] = []
    run.refit()
    batch = run.loader.batch(run.staged(run.step % run.steps))
    views = {
        id(picture): f"{words}, {view}"
        for pictures, branch, words in ((batch.x, "x", "labelled"), (batch.u, "u", "unlabelled"))
        for picture, view in zip(pictures, run.loader.views[branch], strict=True)
    }
    hooks = []
    before = {net: net.calls for net in run.nets.values()}
    for name, net in run.nets.items():
        calls = Calls(NETS[name], into)
        net.calls = calls  # type: ignore[assignment]

        def look(_: nn.Module, given: tuple[Any, ...], calls: Any = calls) -> None:
            calls.shown = views.get(id(given[0]), "") if given else ""

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


def made_up(recipe: Recipe) -> Data:
    """Enough noise for one step: a batch of labelled and a batch of unlabelled pictures."""
    train = recipe.train
    labeled = max(CLASSES, train.batch)
    rng = np.random.default_rng(0)

    def images(n: int) -> Images:
        pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, SIDE, SIDE), np.uint8))
        names = tuple(str(k) for k in range(CLASSES))
        return Images(pixels, np.arange(n) % CLASSES, names, [str(i) for i in range(n)], "made up")

    parts = {name: images(CLASSES) for name in ("test", *recipe.eval.splits)}
    parts["train"] = images(labeled + train.unlabeled_batch)
    rows = np.arange(labeled + train.unlabeled_batch)
    counts = tuple(np.bincount(rows[:labeled] % CLASSES, minlength=CLASSES).tolist())
    split = Split(rows[:labeled], rows[labeled:], rows[:0], "balanced", 0, counts, "made up")
    return Data(parts, split, "made up")
