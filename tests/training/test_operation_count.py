"""How many operations a training step is made of: on a GPU each is a launch, so that waste shows here, not on a CPU."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.paths import REPO
from mmctl.data.split import make_split
from mmctl.plugin import Images
from mmctl.recipe.recipe import load
from mmctl.registry.index import Index
from mmctl.runs.build import Data, build_training
from mmctl.training.loop import device_step
from mmctl.training.state import Training

STEP = 420
"""A MixMatch step with one forward for the guesses and one for the mixed images, weak augmentation included."""
FORWARD = 92
"""A pass of WRN-28-2 without gradient: 28 convolutions, 25 norms, 25 activations, 12 sums, pooling, head."""
TRAINED = 279
"""Each further pass with gradient: there, back, and 78 gradients to add to those of the pass before."""
NO_WORK = {"empty", "empty_like", "empty_strided", "as_strided_"}


class Count(TorchDispatchMode):
    """Operations that do something: views and the making of empty tensors launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if func.namespace == "aten" and not func.is_view and name not in NO_WORK:
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


@cache
def mixmatch(group: str) -> Training:
    """MixMatch's shipped recipe on WRN-28-2 and 32 px, two pictures of each kind."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    images = {
        name: Images(
            torch.from_numpy(rng.integers(0, 256, (n, 3, 32, 32), np.uint8)),
            np.arange(n) % 10, tuple("0123456789"), range(n), f"dispatch-{n}",
        )
        for name, n in (("train", 60), ("test", 10))
    }  # fmt: skip
    words = ["dataset.name=digits", "split.labels=20", "backbone.name=wrn_28_2", "augment.weak.name=flip_crop"]
    words += ["train.batch=2", "train.unlabeled_batch=2", f"method.bn_groups={group}"]
    recipe = load(REPO / "recipes" / "methods" / "mixmatch.toml", sets=words, index=Index(sources="off"))
    data = Data(images, make_split(images["train"], recipe.settings.split, recipe.seed), "dispatch")
    run = build_training(recipe, data, torch.device("cpu"), None)
    device_step(run, run.staged(0))  # the first step makes what the others find
    return run


def of_step(run: Training) -> Counter[str]:
    """The second step: batch, method, backward, optimizer, average, tally."""
    staged = run.staged(1)
    with Count() as count:
        device_step(run, staged)
    return count.by_name


def test_joint_step() -> None:
    run = mixmatch("joint")
    count = of_step(run)
    assert [(images, gradient) for images, _, gradient in run.model.calls] == [(4, False), (6, True)]
    assert count.total() <= STEP, count.most_common(25)


def test_step_of_the_default_grouping() -> None:
    run = mixmatch("interleave")
    count = of_step(run)
    assert [gradient for _, _, gradient in run.model.calls] == [False, False, True, True, True]
    assert count.total() <= STEP + FORWARD + 2 * TRAINED, count.most_common(25)


def test_forward() -> None:
    run = mixmatch("joint")
    x = run.loader.batch(run.staged(1)).x[0]
    with torch.no_grad(), Count() as count:
        run.model(x, bn="batch")
    assert count.by_name.total() <= FORWARD, count.by_name.most_common(25)


@pytest.mark.parametrize(("part", "limit"), [("batch", 29), ("update", 6), ("tally", 30)])
def test_what_is_not_the_network(part: str, limit: int) -> None:
    run = mixmatch("joint")
    staged = run.staged(1)
    batch = run.loader.batch(staged)
    terms = run.method.step(batch)
    loss = torch.stack(list(terms.losses.values())).sum()
    loss.backward()
    assert run.ema is not None
    with Count() as count:
        if part == "batch":
            run.loader.batch(staged)
        elif part == "update":
            run.optimizer.step(staged.lr)
            run.ema.follow(staged.share)
        else:
            run.metrics.add(staged.step + 1, terms, loss, run.loader.hidden[batch.index_u])
    assert count.by_name.total() <= limit, count.by_name.most_common(25)


def test_count_sees_work_and_not_views() -> None:
    x = torch.ones(4, 4, requires_grad=True)
    with Count() as count:
        (x.t().detach()[None] @ x).sum().backward()
    assert count.by_name["bmm"] + count.by_name["mm"] >= 2
    assert count.by_name["sum"] == 1
    assert not count.by_name.keys() & {"t", "detach", "unsqueeze", "expand", "view", "empty"}
