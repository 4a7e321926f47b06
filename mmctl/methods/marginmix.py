"""MarginMix (Florea et al., ECCV 2020 workshops): algorithm 1."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from numpy.random import Generator
from pydantic import Field
from torch import nn

from mmctl.ops import concat_views, draw_mixup, mixup
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("marginmix")
class MarginMix(nn.Module):
    """Labels by distance to class centroids, MixUp, and a large margin in the embedding (MarginMix).

    Eq. 10: L = L_S + lambda_M (L_M1 + lambda_u L_M2). The slots are L_S (`labeled`), L_M1 (`margin`) and L_M2
    (`margin_unlabeled`, whose weight is lambda_M times lambda_u). `unlabeled` is a loss on the predictions for mixed
    unlabelled images, which the paper does not have: its default weight is 0.

    Args:
        num_views: Augmented views of each unlabelled image (N_aug).
        alpha: MixUp's lambda comes from Beta(alpha, alpha).
        near: Then max(lambda, 1 - lambda), so that a mixed image is nearer to its own one (MixMatch); false: lambda as
            it is drawn (eq. 9 as printed).
        lambda_per: One lambda per "sample", or one per "batch".
        bn_groups: Batch norm groups of the mixed forward: "interleave" (as MixMatch's reference), "joint" or "each".
        guess_bn_groups: Batch norm groups of the forwards for pseudo-labels: "each" view its own (the paper), or all
            views "joint"; if not set, "joint" if `bn_groups` is "joint", else "each".
        bn_update: Forwards that update batch norm: the "first" mixed one, or "all", also those for pseudo-labels.
        guesser: Network whose embeddings give pseudo-labels and per-step centroids: the "model" with batch
            statistics, or its "ema" in eval mode.
    """

    slots = {
        "labeled": LossTerm("soft_cross_entropy"),
        "margin": LossTerm("large_margin"),
        "margin_unlabeled": LossTerm("large_margin", 0.4),
        "unlabeled": LossTerm("soft_cross_entropy", 0.0),
    }
    views = {"x": ("weak",), "u": ("weak", "weak")}
    default_labeler = "fuzzy"
    mixes = True

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        centroids: Any,
        ema: nn.Module | None = None,  # None if the recipe has no average
        *,
        num_views: Annotated[int, Field(ge=1, le=100)] = 2,
        alpha: Annotated[float, Field(gt=0)] = 0.75,
        near: bool = True,
        lambda_per: Literal["sample", "batch"] = "sample",
        bn_groups: Literal["interleave", "joint", "each"] = "interleave",
        guess_bn_groups: Literal["each", "joint"] | None = None,
        bn_update: Literal["first", "all"] = "first",
        guesser: Literal["model", "ema"] = "model",
    ) -> None:
        super().__init__()
        if guesser == "ema" and ema is None:
            raise ValueError('guesser = "ema" needs an average: set average.kind = "ema", or guesser = "model"')
        self.model, self.ema, self.labeler, self.losses, self.centroids = model, ema, labeler, losses, centroids
        self.num_views, self.alpha, self.near, self.lambda_per = num_views, alpha, near, lambda_per
        self.bn_groups, self.bn_update, self.guesser = bn_groups, bn_update, guesser
        self.guess_bn_groups = guess_bn_groups or ("joint" if bn_groups == "joint" else "each")
        # Centroids come from labelled images without augmentation (algorithm 1, lines 2-4).
        self.views = {"x": ("weak", "clean") if centroids.per_step else ("weak",), "u": ("weak",) * num_views}

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's random numbers over the labelled batch and all unlabelled views."""
        return {"mix": draw_mixup(rng, (x, *[u] * self.num_views), self.alpha, self.lambda_per, self.near)}

    def step(self, batch: Batch) -> StepOutput:
        """Algorithm 1: centroids, pseudo-labels, MixUp, and the four losses."""
        weak, *clean = batch.x
        guessing, training = ("batch", "first") if self.bn_update == "first" else ("update", "update")
        net: Any = self.ema if self.guesser == "ema" else self.model
        bn = "running" if self.guesser == "ema" else guessing
        with torch.no_grad():
            if clean:
                self.centroids.update(net(*clean, bn=bn).emb, batch.y, batch.index_x)  # eq. 1; lines 2-3
            views = net.branches(*batch.u, bn=bn, bn_groups=self.guess_bn_groups)
            guess = self.labeler(*views, batch=batch)  # type: ignore[operator]  # eq. 6-8
        xs, (y, *qs) = mixup((weak, *batch.u), (batch.y, *[guess.target] * len(batch.u)), batch.draws["mix"])
        x, *us = self.model.branches(*xs, bn=training, bn_groups=self.bn_groups)  # type: ignore[operator]
        u, q = concat_views(us, qs)
        terms = {
            "labeled": self.losses.labeled(x, y),
            "margin": self.losses.margin(x, y),
            "margin_unlabeled": self.losses.margin_unlabeled(u, q),
            "unlabeled": self.losses.unlabeled(u, q),
        }
        return StepOutput(terms, pseudo_labels=guess)
