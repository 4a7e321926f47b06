"""Losses on the distances between embeddings and class centroids. B batch, D embedding, K classes."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from mmctl.ops import global_mean
from mmctl.plugin import Output, loss


def margin(distance_BK: Tensor, seen_K: Tensor, target_BK: Tensor) -> Tensor:
    """Eq. 2 and 3 for each image: sum_c y_c (D_c - mean_{j != c} D_j).

    It is linear in y, so mixed labels (eq. 9) need no special case: the weight of D_c is y_c - (1 - y_c) / (K - 1),
    which is 0 for a uniform label. A class without a centroid yet is left out.
    """
    seen_K = seen_K.to(target_BK.dtype)
    y_BK = target_BK * seen_K
    others = (seen_K.sum() - 1).clamp_min(1)
    w_BK = seen_K * (y_BK - (y_BK.sum(-1, keepdim=True) - y_BK) / others)
    return (w_BK * distance_BK).sum(-1)


@loss("large_margin")
class LargeMargin(nn.Module):
    """Large margin: near to the centroid of the own class, far from the others on average (eq. 2, 3; MarginMix).

    Args:
        normalize: What is scaled to length 1: "centroids_table" = what the table [centroids] says; "both" = embeddings
            and centroids (eq. 2 as printed); "embeddings" = embeddings only (eq. 3 as printed).
    """

    def __init__(
        self, centroids: Any, *, normalize: Literal["centroids_table", "both", "embeddings"] = "centroids_table"
    ) -> None:
        super().__init__()
        self.centroids = centroids
        self.unit = {"centroids_table": (None, None), "both": (True, True), "embeddings": (True, False)}[normalize]
        if normalize == "embeddings" and centroids.estimator == "learned":
            raise ValueError(
                'normalize = "embeddings" cannot be used with centroids.estimator = "learned": the loss would push '
                'learned centroids away without bound; use normalize = "both" or another estimator'
            )

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean over the batch (a sum in the paper: a matter of the term's weight)."""
        loss_B = margin(self.centroids.distance(out.emb, *self.unit), self.centroids.seen_K, target_BK)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)


@loss("center")
class Center(nn.Module):
    """Half the distance to the centroid of the own class (center loss, Wen et al. 2016; eq. 1): no margin."""

    def __init__(self, centroids: Any) -> None:
        super().__init__()
        self.centroids = centroids

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean over the batch of sum_c y_c D_c / 2; a class without a centroid adds zero."""
        y_BK = target_BK * self.centroids.seen_K.to(target_BK.dtype)
        loss_B = 0.5 * (y_BK * self.centroids.distance(out.emb)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)
