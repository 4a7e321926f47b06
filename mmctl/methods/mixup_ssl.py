"""MixUp with unlabelled images: the baseline called MixUp in the tables of MixMatch and MarginMix."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import torch
from numpy.random import Generator
from pydantic import Field
from torch import nn

from mmctl.ops import draw_mixup, mixup
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("mixup_ssl")
class MixUpSsl(nn.Module):
    """MixUp of labelled images, and of unlabelled images with their predictions as targets (Zhang et al., ICLR 2018).

    L = H(y', p(x')) + H(q', p(u')), q = p(u) without gradient: the "MixUp" row of MixMatch's tables. MixUp of labelled
    images only is the recipe methods/mixup. Partners are a random permutation; MixMatch's program reverses the batch.

    Args:
        alpha: MixUp's lambda comes from Beta(alpha, alpha) for each sample, then max(lambda, 1 - lambda).
    """

    views = {"x": ("weak",), "u": ("weak",)}
    slots = {"labeled": LossTerm("soft_cross_entropy"), "unlabeled": LossTerm("soft_cross_entropy")}
    default_labeler = None

    def __init__(
        self, model: nn.Module, losses: SimpleNamespace, *, alpha: Annotated[float, Field(gt=0)] = 0.75
    ) -> None:
        super().__init__()
        self.model, self.losses, self.alpha = model, losses, alpha

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's random numbers, separately for each batch."""
        return {"x": draw_mixup(rng, (x,), self.alpha), "u": draw_mixup(rng, (u,), self.alpha)}

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of mixed labelled images, and of mixed unlabelled images."""
        with torch.no_grad():
            q = self.model(*batch.u, bn="batch").probs
        (x,), (y,) = mixup(batch.x, (batch.y,), batch.draws["x"])
        (u,), (q,) = mixup(batch.u, (q,), batch.draws["u"])
        out_x, out_u = self.model.branches(x, u, bn="first")  # type: ignore[operator]
        return StepOutput({"labeled": self.losses.labeled(out_x, y), "unlabeled": self.losses.unlabeled(out_u, q)})
