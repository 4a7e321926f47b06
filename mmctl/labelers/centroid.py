"""Pseudo-labels from the distances to the class centroids. U unlabelled batch, K classes."""

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


def divided_by_norm(y_UK: Tensor, temperature: float) -> Tensor:
    """Eq. 8 as printed: y_c / psi^T with psi = sum_k y_k^(1/T), that is y divided by its norm of order 1/T."""
    top_U1 = y_UK.amax(-1, keepdim=True)  # the scale cancels; so no power underflows
    ratio_UK = y_UK / top_U1
    return ratio_UK / ratio_UK.pow(1 / temperature).sum(-1, keepdim=True).pow(temperature)


@labeler("fuzzy")
class Fuzzy(Aligning):
    """Fuzzy memberships by distance to the class centroids, averaged over views, sharpened (eq. 6-8; MarginMix).

    Args:
        temperature: T of eq. 8: memberships to the power 1/T, renormalised; 1 = no sharpening. Together with eq. 6
            this is fuzzy c-means with fuzzifier 1 + T.
        sharpening: "power" = MixMatch's, y_c^(1/T) / sum_k y_k^(1/T); "printed" = eq. 8 as printed,
            y_c / (sum_k y_k^(1/T))^T: the labels keep their ratios, and for T < 1 they sum to more than 1.
        prior: "running" multiplies the memberships by an EMA of the pseudo-labels, which starts with the class
            frequencies of the labelled set: rare classes get fewer labels, common ones more. Not in the paper. It
            works against `align`, so a recipe can use only one of the two.
        momentum: EMA momentum of the running prior.
    """

    prior_K: Tensor

    def __init__(
        self,
        prior_K: Tensor,
        centroids: Any,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.25,
        sharpening: Literal["power", "printed"] = "power",
        prior: Literal["none", "running"] = "none",
        momentum: Momentum = 0.99,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        if prior == "running" and sharpening == "printed":
            raise ValueError('prior = "running" renormalises the labels, which undoes sharpening = "printed"')
        if prior == "running" and align != "none":
            raise ValueError(f'prior = "running" and align = "{align}" work against each other: use one of them')
        self.centroids = centroids
        self.temperature, self.sharpening, self.prior, self.momentum = temperature, sharpening, prior, momentum
        self.unnormalized = sharpening == "printed"
        if prior == "running":
            self.register_buffer("prior_K", prior_K.clone())

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK, all of weight 1."""
        y_UK = self.aligned(mean_membership(self.centroids, views), batch, labeled)
        q_UK = (sharpen if self.sharpening == "power" else divided_by_norm)(y_UK, self.temperature)
        if self.prior == "running":
            q_UK = q_UK * self.prior_K
            q_UK = q_UK / q_UK.sum(-1, keepdim=True).clamp_min(1e-12)
            ema_update_(self.prior_K, global_mean(q_UK), self.momentum)
        return PseudoLabels(q_UK, torch.ones_like(q_UK[:, 0]))


@labeler("nearest_centroid")
class NearestCentroid(Aligning):
    """One-hot label of the nearest class centroid (the paper compares it with fuzzy labels in table 5)."""

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
    """Fuzzy membership times the head's prediction, sharpened: a class needs support from both. Not in the paper.

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
