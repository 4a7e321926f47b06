"""Losses on the embedding by distance to the class centroids. B batch, D embedding, K classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmctl.ops import global_mean
from mmctl.plugin import Output, loss


@loss("large_margin")
class LargeMargin(nn.Module):
    """Near to the own class centroid, far from the others on average (eq. 2 and 3; MarginMix)."""

    def __init__(self, centroids: Any) -> None:
        super().__init__()
        self.centroids = centroids

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean over the batch of sum_c y_c (D_c - mean_{j != c} D_j).

        The loss is linear in y, so that a mixed label (eq. 9) needs no case of its own: the weight of D_c is
        y_c - (1 - y_c) / (K - 1), which is 0 for a uniform label. A class that no centroid stands for yet neither
        pulls nor pushes.
        """
        seen_K = self.centroids.seen_K.to(target_BK.dtype)
        y_BK = target_BK * seen_K
        others = (seen_K.sum() - 1).clamp_min(1)
        w_BK = seen_K * (y_BK - (y_BK.sum(-1, keepdim=True) - y_BK) / others)
        loss_B = (w_BK * self.centroids.distance(out.emb)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)


@loss("center")
class Center(nn.Module):
    """Half the distance to the own class centroid (Wen et al. 2016; eq. 1): the paper's control without a margin."""

    def __init__(self, centroids: Any) -> None:
        super().__init__()
        self.centroids = centroids

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean over the batch of sum_c y_c D_c / 2; a class without a centroid counts as zero."""
        y_BK = target_BK * self.centroids.seen_K.to(target_BK.dtype)
        loss_B = 0.5 * (y_BK * self.centroids.distance(out.emb)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)
