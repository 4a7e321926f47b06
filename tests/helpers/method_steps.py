"""Steps of a method, and what its reference in float64 is built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.reference_math import Rows, reference_interleave, softmax
from mmctl.plugin import Batch, StepOutput
from mmctl.training.loop import device_step
from mmctl.training.state import Training

Slow = Callable[[], dict[str, float]]


def steps_of(run: Training, first: int, stop: int) -> None:
    for step in range(first, stop):
        device_step(run, run.staged(step))
    run.step = stop


def terms_of(run: Training, step: int) -> StepOutput:
    """What a method gives for a step; the state is left as the step leaves it."""
    return run.method.step(run.loader.batch(run.staged(step)))  # type: ignore[no-any-return]


def doubles(run: Training, step: int) -> Batch:
    """A step's batch in float64, the network too."""
    run.method.double()
    batch = run.loader.batch(run.staged(step))
    batch.x, batch.u = (tuple(v.double().contiguous() for v in vs) for vs in (batch.x, batch.u))
    batch.y = batch.y.double()
    return batch


def forwards(run: Training, xs: list[Tensor], group: str) -> tuple[list[list[float]], list[list[float]]]:
    """Logits and embeddings of all images in order, each batch-norm group as the reference makes it."""
    sizes, flat = [len(x) for x in xs], torch.cat(xs)
    rows = [f"{i}" for i in range(len(flat))]
    order = [rows[sum(sizes[:p]) : sum(sizes[: p + 1])] for p in range(len(sizes))]
    groups = {"interleave": reference_interleave(order), "joint": [rows], "each": order}[group]
    logits: dict[int, list[float]] = {}
    embs: dict[int, list[float]] = {}
    for rows in groups:
        out = run.model(flat[[int(r) for r in rows]], bn="batch")
        for r, a, b in zip(rows, out.logits.tolist(), out.emb.tolist(), strict=True):
            logits[int(r)], embs[int(r)] = a, b
    return [logits[i] for i in range(len(flat))], [embs[i] for i in range(len(flat))]


def mixed(batch: Batch, targets: list[list[float]]) -> tuple[list[Tensor], list[list[float]]]:
    """Eq. 9 over all branches, image by image."""
    images = [image for part in (batch.x[0], *batch.u) for image in part]
    lam, partner = batch.draws["mix"]["lam"].double().tolist(), batch.draws["mix"]["partner"].tolist()
    x, y = [], []
    for i, (a, j) in enumerate(zip(lam, partner, strict=True)):
        x.append(a * images[i] + (1 - a) * images[j])
        y.append([a * p + (1 - a) * q for p, q in zip(targets[i], targets[j], strict=True)])
    n = len(batch.y)
    return [torch.stack(x[at : at + n]) for at in range(0, len(x), n)], y


def probs(net: Any, *xs: Tensor) -> Rows:
    """What a network says of images that share batch-norm statistics."""
    with torch.no_grad():
        return [softmax(row) for row in net(torch.cat(xs), bn="batch").logits.tolist()]


@torch.no_grad()
def agree(run: Training, terms: StepOutput, slow: Slow) -> None:
    """Losses and their gradients at three places of every parameter are the reference's."""
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(slow(), rel=1e-9)
    params = list(run.model.parameters())
    grads = {k: torch.autograd.grad(v, params, retain_graph=True, allow_unused=True) for k, v in terms.losses.items()}
    for name, ours in grads.items():
        for p, grad in zip(params, ours, strict=True):
            for n in {0, p.numel() // 2, p.numel() - 1}:
                at = np.unravel_index(n, p.shape)
                kept, h, sides = p[at].item(), 1e-6, []
                for side in (h, -h):
                    p[at] = kept + side
                    sides.append(slow()[name])
                p[at] = kept
                expected = (sides[0] - sides[1]) / (2 * h)
                got = 0.0 if grad is None else grad[at].item()
                assert got == pytest.approx(expected, rel=1e-4, abs=1e-7), (name, p.shape, at)
