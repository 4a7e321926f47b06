"""The large margin with generalised distances to the classes. B batch, K classes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from mmctl.losses.margin import margin
from mmctl.ops import Distance, GeneralizedDistance, global_mean
from mmctl.plugin import Output, loss


@loss("generalized_margin")
class GeneralizedMargin(nn.Module):
    """The large margin (eq. 2, 3) by a distance that need not be Euclidean, as in kernel k-means (MarginMix, 3.2).

    With centroids.estimator = "memory" a class is the set of its labelled images (eq. 4, 5; kernel k-means). Each call
    then compares all pairs of them: for 4,000 of 128 dimensions this takes 0.2 ("euclidean") to 1.4 ("manhattan")
    seconds on one core of an AMD EPYC. With any other estimator a class is one point, its centroid. With distance =
    "euclidean" and centroids.normalize_centroids = false, this is `large_margin`.

    Args:
        distance: Squared distance of two embeddings: "euclidean", "manhattan" (the sum of absolute differences),
            "cosine" (2 - 2 cos), or "gaussian" (kernel k-means with a Gaussian kernel).
        bandwidth: Standard deviation of the Gaussian kernel; embeddings of length 1 are at most 2 apart.
    """

    def __init__(
        self,
        centroids: Any,
        *,
        distance: Distance = "gaussian",
        bandwidth: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__()
        self.distances = GeneralizedDistance(centroids, distance, bandwidth)

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean over the batch of the margin of eq. 2, 3."""
        loss_B = margin(self.distances.distance(out.emb), self.distances.seen_K, target_BK)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)
