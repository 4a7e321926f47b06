"""Pseudo-labels by generalised distances to the classes. U unlabelled batch, K classes."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from mmctl.labelers.centroid import mean_membership
from mmctl.ops import Distance, GeneralizedDistance, sharpen
from mmctl.plugin import Batch, Output, PseudoLabels, labeler


@labeler("generalized_fuzzy")
class GeneralizedFuzzy(nn.Module):
    """Fuzzy memberships by a distance that need not be Euclidean, as in kernel k-means (eq. 4-8; MarginMix, 3.2).

    With centroids.estimator = "memory" a class is the set of its labelled images (eq. 4, 5; kernel k-means). Each call
    then compares all pairs of them: for 4,000 of 128 dimensions this takes 0.2 ("euclidean") to 1.4 ("manhattan")
    seconds on one core of an AMD EPYC. With any other estimator a class is one point, its centroid. With distance =
    "euclidean" and centroids.normalize_centroids = false, this is `fuzzy`.

    Args:
        distance: Squared distance of two embeddings: "euclidean", "manhattan" (the sum of absolute differences),
            "cosine" (2 - 2 cos), or "gaussian" (kernel k-means with a Gaussian kernel).
        bandwidth: Standard deviation of the Gaussian kernel; embeddings of length 1 are at most 2 apart.
        temperature: T of eq. 8: memberships to the power 1/T, renormalised; 1 = no sharpening.
    """

    def __init__(
        self,
        centroids: Any,
        *,
        distance: Distance = "gaussian",
        bandwidth: Annotated[float, Field(gt=0)] = 1.0,
        temperature: Annotated[float, Field(gt=0)] = 0.25,
    ) -> None:
        super().__init__()
        self.distances, self.temperature = GeneralizedDistance(centroids, distance, bandwidth), temperature

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK, all of weight 1."""
        q_UK = sharpen(mean_membership(self.distances, views), self.temperature)
        return PseudoLabels(q_UK, torch.ones_like(q_UK[:, 0]))
