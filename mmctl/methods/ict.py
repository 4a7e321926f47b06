"""Interpolation Consistency Training (Verma et al., IJCAI 2019)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from numpy.random import Generator
from pydantic import Field
from torch import nn

from mmctl.ops import draw_mixup, mixup
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("ict")
class Ict(nn.Module):
    """A mixture of two unlabelled images should get the mixture of the teacher's predictions (ICT; Verma et al., 2019).

    L = H(y', p(x')) + w(t) mean_c (p(l u + (1 - l) v) - (l p'(u) + (1 - l) p'(v)))^2, with p' from the EMA teacher
    ([average]) with batch statistics. One lambda per batch, without max(lambda, 1 - lambda). Probabilities are mixed,
    as in the paper; the authors' program mixes logits.

    Args:
        alpha: MixUp's lambda comes from Beta(alpha, alpha), once for the labelled and once for the unlabelled batch.
        bn_update: Forwards of the student that update batch norm: the "first", of labelled images (MixMatch's
            baselines), or "all" (the authors' program).
    """

    views = {"x": ("weak",), "u": ("weak",)}
    slots = {"labeled": LossTerm("soft_cross_entropy"), "consistency": LossTerm("brier", 100.0, 0.25, "sigmoid")}
    default_labeler = None

    def __init__(
        self,
        model: nn.Module,
        ema: nn.Module,
        losses: SimpleNamespace,
        *,
        alpha: Annotated[float, Field(gt=0)] = 1.0,
        bn_update: Literal["first", "all"] = "first",
    ) -> None:
        super().__init__()
        self.model, self.ema, self.losses = model, ema, losses
        self.alpha, self.bn = alpha, "first" if bn_update == "first" else "update"

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's random numbers, separately for each batch."""
        return {name: draw_mixup(rng, (n,), self.alpha, "batch", near=False) for name, n in (("x", x), ("u", u))}

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of mixed labelled images; for mixed unlabelled ones, difference from the teacher's mixture."""
        with torch.no_grad():
            q = self.ema(*batch.u, bn="batch").probs
        (x,), (y,) = mixup(batch.x, (batch.y,), batch.draws["x"])
        (u,), (q,) = mixup(batch.u, (q,), batch.draws["u"])
        out_x, out_u = self.model.branches(x, u, bn=self.bn)  # type: ignore[operator]
        return StepOutput({"labeled": self.losses.labeled(out_x, y), "consistency": self.losses.consistency(out_u, q)})
