"""Labels from the distances to the class centroids. U unlabelled batch, K classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmctl.labelers._align import Align, Aligning, Momentum, Window, mean_probs
from mmctl.ops import argmax_one_hot, ema_update_, global_mean, sharpen
from mmctl.plugin import Batch, Output, PseudoLabels, labeler


def mean_membership(centroids: Any, views: tuple[Output, ...]) -> Tensor:
    """Eq. 7: memberships of eq. 6, averaged over the views (a sum in the paper; the scale cancels in eq. 8)."""
    return torch.stack([centroids.membership(v.emb) for v in views]).mean(0)


@labeler("fuzzy")
class Fuzzy(Aligning):
    """Fuzzy memberships by distance to the class centroids, averaged over views, sharpened (eq. 6-8; MarginMix).

    Args:
        temperature: T of eq. 8: memberships to the power 1/T, renormalised; 1 leaves them as they are. Together
            with eq. 6 this is fuzzy c-means with fuzzifier 1 + T.
        prior: "running" multiplies the memberships by a running mean of the labels given, which starts at the
            labelled class frequencies: rare classes get fewer labels, common ones more. An extension, not in the paper.
            It pulls the other way than `align`, so that a recipe can have one of the two.
        momentum: How slowly the running prior moves.
    """

    prior_K: Tensor

    def __init__(
        self,
        prior_K: Tensor,
        centroids: Any,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.25,
        prior: Literal["none", "running"] = "none",
        momentum: Momentum = 0.99,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        if prior == "running" and align != "none":
            raise ValueError(f'prior = "running" follows the classes of the labels, and align = "{align}" pulls away')
        self.centroids = centroids
        self.temperature, self.prior, self.momentum = temperature, prior, momentum
        if prior == "running":
            self.register_buffer("prior_K", prior_K.clone())

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK, all of weight 1."""
        q_UK = sharpen(self.aligned(mean_membership(self.centroids, views), batch, labeled), self.temperature)
        if self.prior == "running":
            q_UK = q_UK * self.prior_K
            q_UK = q_UK / q_UK.sum(-1, keepdim=True).clamp_min(1e-12)
            ema_update_(self.prior_K, global_mean(q_UK), self.momentum)
        return PseudoLabels(q_UK, torch.ones_like(q_UK[:, 0]))


@labeler("nearest_centroid")
class NearestCentroid(Aligning):
    """The class of the nearest centroid, one-hot (the paper's table 5 control for fuzzy labels)."""

    def __init__(
        self,
        prior_K: Tensor,
        centroids: Any,
        *,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.centroids = centroids

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """One-hot labels UK of the largest mean membership, all of weight 1."""
        q_UK = argmax_one_hot(self.aligned(mean_membership(self.centroids, views), batch, labeled))
        return PseudoLabels(q_UK, torch.ones_like(q_UK[:, 0]))


@labeler("product")
class Product(Aligning):
    """Fuzzy membership times the head's prediction, sharpened: both opinions have to agree.

    Args:
        temperature: T of eq. 8, on the renormalised product.
    """

    def __init__(
        self,
        prior_K: Tensor,
        centroids: Any,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.5,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.centroids, self.temperature = centroids, temperature

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK, all of weight 1."""
        q_UK = mean_membership(self.centroids, views) * mean_probs(views)
        q_UK = self.aligned(q_UK / q_UK.sum(-1, keepdim=True).clamp_min(1e-12), batch, labeled)
        q_UK = sharpen(q_UK, self.temperature)
        return PseudoLabels(q_UK, torch.ones_like(q_UK[:, 0]))
