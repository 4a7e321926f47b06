"""Losses on the distances between embeddings and class centroids. B batch, D embedding, K classes."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from mmctl.ops import global_mean, world_size
from mmctl.plugin import Output, loss

Reduction = Literal["mean", "sum"]


def reduced(loss_B: Tensor, weight_B: Tensor | None, reduction: Reduction) -> Tensor:
    """Mean or sum of loss * weight over the global batch."""
    mean = global_mean(loss_B if weight_B is None else loss_B * weight_B)
    return mean if reduction == "mean" else mean * (len(loss_B) * world_size())


@loss("large_margin")
class LargeMargin(nn.Module):
    """Large margin: near to the centroid of the own class, far from the others on average (eq. 2, 3; MarginMix).

    Args:
        normalize: What is scaled to length 1: "centroids_table" = what the table [centroids] says; "both" = embeddings
            and centroids (eq. 2 as printed); "embeddings" = embeddings only (eq. 3 as printed).
        reduction: "mean" over the images, or "sum" (eq. 2 and 3 as printed): then the weight of the term counts as many
            times as the term has images, for example 64 labelled and 2 x 64 unlabelled ones.
    """

    def __init__(
        self,
        centroids: Any,
        *,
        normalize: Literal["centroids_table", "both", "embeddings"] = "centroids_table",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.centroids, self.reduction = centroids, reduction
        self.unit = {"centroids_table": (None, None), "both": (True, True), "embeddings": (True, False)}[normalize]
        if normalize == "embeddings" and centroids.estimator == "learned":
            raise ValueError(
                'normalize = "embeddings" cannot be used with centroids.estimator = "learned": the loss would push '
                'learned centroids away without bound; use normalize = "both" or another estimator'
            )

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean or sum over the batch of sum_c y_c (D_c - mean_{j != c} D_j), eq. 2 or 3.

        The loss is linear in y, so mixed labels (eq. 9) need no special case: the weight of D_c is
        y_c - (1 - y_c) / (K - 1), which is 0 for a uniform label. A class without a centroid yet is left out.
        """
        seen_K = self.centroids.seen_K.to(target_BK.dtype)
        y_BK = target_BK * seen_K
        others = (seen_K.sum() - 1).clamp_min(1)
        w_BK = seen_K * (y_BK - (y_BK.sum(-1, keepdim=True) - y_BK) / others)
        loss_B = (w_BK * self.centroids.distance(out.emb, *self.unit)).sum(-1)
        return reduced(loss_B, weight_B, self.reduction)


@loss("center")
class Center(nn.Module):
    """Half the distance to the centroid of the own class (center loss, Wen et al. 2016; eq. 1): no margin.

    Args:
        reduction: "mean" over the images, or "sum" (eq. 1 as printed, and Wen et al.).
    """

    def __init__(self, centroids: Any, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.centroids, self.reduction = centroids, reduction

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean or sum over the batch of sum_c y_c D_c / 2; a class without a centroid adds zero."""
        y_BK = target_BK * self.centroids.seen_K.to(target_BK.dtype)
        loss_B = 0.5 * (y_BK * self.centroids.distance(out.emb)).sum(-1)
        return reduced(loss_B, weight_B, self.reduction)
