"""MarginMix (Florea et al., ECCV 2020 workshops): algorithm 1."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from numpy.random import Generator
from pydantic import Field
from torch import nn

from mmctl.ops import join, mix, mixing
from mmctl.plugin import Batch, Slot, Terms, method


@method("marginmix")
class MarginMix(nn.Module):
    """Labels by distance to class centroids, MixUp, and a large margin in the embedding (MarginMix).

    Eq. 10: L = L_S + lambda_M (L_M1 + lambda_u L_M2). The slots are L_S (`labeled`), L_M1 (`margin`) and L_M2
    (`margin_unlabeled`, whose weight is lambda_M times lambda_u); `unlabeled` is a decision loss on the mixed
    unlabelled images, which the paper does not have: its weight is 0 unless the recipe gives one.

    Args:
        num_views: Augmented views of each unlabelled image (N_aug).
        alpha: MixUp's lambda comes from Beta(alpha, alpha), then max(lambda, 1 - lambda).
        per: One lambda per "sample", or one per "batch".
        group: Batch-norm groups of the mixed forward: "interleave" (as MixMatch's reference), "joint" or "each".
        guess_group: Batch-norm groups of the forwards that labels are guessed from: "each" view its own (the paper), or
            all views "joint" in one; absent = joint where `group` is, so that either phase is one forward.
        update: Which forwards update batch norm: the "first" mixed one, or "all", guesses included.
        guesser: The network that embeds for labels and per-step centroids: the live "model" with batch
            statistics, or its "ema" in eval mode.
    """

    slots = {
        "labeled": Slot("soft_cross_entropy"),
        "margin": Slot("large_margin"),
        "margin_unlabeled": Slot("large_margin", 0.4),
        "unlabeled": Slot("soft_cross_entropy", 0.0),
    }
    views = {"x": ("weak",), "u": ("weak", "weak")}
    default_labeler = "fuzzy"

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        centroids: Any,
        ema: nn.Module | None = None,  # None where the recipe keeps no average
        *,
        num_views: Annotated[int, Field(ge=1)] = 2,
        alpha: Annotated[float, Field(gt=0)] = 0.75,
        per: Literal["sample", "batch"] = "sample",
        group: Literal["interleave", "joint", "each"] = "interleave",
        guess_group: Literal["each", "joint"] | None = None,
        update: Literal["first", "all"] = "first",
        guesser: Literal["model", "ema"] = "model",
    ) -> None:
        super().__init__()
        if guesser == "ema" and ema is None:
            raise ValueError('guesser = "ema" needs an average: set average.kind = "ema", or guesser = "model"')
        self.model, self.ema, self.labeler, self.losses, self.centroids = model, ema, labeler, losses, centroids
        if getattr(labeler, "masks", False):
            raise ValueError("every label is mixed here, so a labeler that leaves images out would not: use another")
        self.num_views, self.alpha, self.per = num_views, alpha, per
        self.group, self.update, self.guesser = group, update, guesser
        self.guess_group = guess_group or ("joint" if group == "joint" else "each")
        # Centroids come from labelled images before augmentation (algorithm 1, lines 2-4).
        self.views = {"x": ("weak", "clean") if centroids.per_step else ("weak",), "u": ("weak",) * num_views}

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's numbers over the labelled batch and all unlabelled views."""
        return {"mix": mixing(rng, (x, *[u] * self.num_views), self.alpha, self.per)}

    def step(self, batch: Batch) -> Terms:
        """Algorithm 1: centroids, labels, MixUp, and the four losses."""
        weak, *clean = batch.x
        guessing, training = ("batch", "first") if self.update == "first" else ("update", "update")
        net: Any = self.ema if self.guesser == "ema" else self.model
        bn = "running" if self.guesser == "ema" else guessing
        with torch.no_grad():
            if clean:
                self.centroids.update(net(*clean, bn=bn).emb, batch.y, batch.index_x)  # eq. 1; lines 2-3
            views = net.branches(*batch.u, bn=bn, group=self.guess_group)
            guess = self.labeler(*views, batch=batch)  # type: ignore[operator]  # eq. 6-8
        xs, (y, *qs) = mix((weak, *batch.u), (batch.y, *[guess.target] * len(batch.u)), batch.draws["mix"])
        x, *us = self.model.branches(*xs, bn=training, group=self.group)  # type: ignore[operator]
        u, q = join(us, qs)
        terms = {
            "labeled": self.losses.labeled(x, y),
            "margin": self.losses.margin(x, y),
            "margin_unlabeled": self.losses.margin_unlabeled(u, q),
            "unlabeled": self.losses.unlabeled(u, q),
        }
        return Terms(terms, guess=guess)
