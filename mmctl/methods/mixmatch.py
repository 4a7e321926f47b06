"""MixMatch (Berthelot et al., NeurIPS 2019)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from numpy.random import Generator
from pydantic import Field
from torch import nn

from mmctl.ops import concat_views, draw_mixup, mixup
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("mixmatch")
class MixMatch(nn.Module):
    """Pseudo-labels averaged over views and sharpened; MixUp over all labelled and unlabelled images (MixMatch).

    Args:
        num_views: Augmented views of each unlabelled image (K in the paper).
        alpha: MixUp's lambda comes from Beta(alpha, alpha), then max(lambda, 1 - lambda).
        lambda_per: One lambda per "sample" (the paper) or one per "batch" (the PyTorch port).
        bn_groups: Batch norm groups of the mixed forward: "interleave" (the reference), "joint" or "each".
        guess_bn_groups: Batch norm groups of the forwards for pseudo-labels: "each" view its own (the paper), or all
            views "joint"; if not set, "joint" if `bn_groups` is "joint", else "each".
        bn_update: Forwards that update batch norm: the "first" mixed one (the paper), or "all", also those for
            pseudo-labels (the PyTorch port).
    """

    slots = {"labeled": LossTerm("soft_cross_entropy"), "unlabeled": LossTerm("brier", 75.0, 16_384)}
    views = {"x": ("weak",), "u": ("weak", "weak")}
    default_labeler = "softmax"
    mixes = True

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        *,
        num_views: Annotated[int, Field(ge=1, le=100)] = 2,
        alpha: Annotated[float, Field(gt=0)] = 0.75,
        lambda_per: Literal["sample", "batch"] = "sample",
        bn_groups: Literal["interleave", "joint", "each"] = "interleave",
        guess_bn_groups: Literal["each", "joint"] | None = None,
        bn_update: Literal["first", "all"] = "first",
    ) -> None:
        super().__init__()
        self.model, self.labeler, self.losses = model, labeler, losses
        self.num_views, self.alpha, self.lambda_per, self.bn_groups, self.bn_update = (
            num_views,
            alpha,
            lambda_per,
            bn_groups,
            bn_update,
        )
        self.guess_bn_groups = guess_bn_groups or ("joint" if bn_groups == "joint" else "each")
        self.views = {"x": ("weak",), "u": ("weak",) * num_views}

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's random numbers over the labelled batch and all unlabelled views."""
        return {"mix": draw_mixup(rng, (x, *[u] * self.num_views), self.alpha, self.lambda_per)}

    def step(self, batch: Batch) -> StepOutput:
        """Pseudo-labels, MixUp, one loss on mixed labelled images and one on mixed unlabelled images."""
        guessing, training = ("batch", "first") if self.bn_update == "first" else ("update", "update")
        with torch.no_grad():
            views = self.model.branches(*batch.u, bn=guessing, bn_groups=self.guess_bn_groups)  # type: ignore[operator]
            guess = self.labeler(*views, batch=batch)  # type: ignore[operator]
        xs, (y, *qs) = mixup((*batch.x, *batch.u), (batch.y, *[guess.target] * len(batch.u)), batch.draws["mix"])
        x, *us = self.model.branches(*xs, bn=training, bn_groups=self.bn_groups)  # type: ignore[operator]
        return StepOutput(
            {"labeled": self.losses.labeled(x, y), "unlabeled": self.losses.unlabeled(*concat_views(us, qs))},
            pseudo_labels=guess,
        )
