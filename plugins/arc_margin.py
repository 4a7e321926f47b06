"""An example of your own loss, to copy: ArcFace's angular margin, on the class centroids of the run.

    [loss.margin]
    name = "plugins:arc_margin"
    margin = 0.3

Deng et al., "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019. The MarginMix paper names it
in section 3.2 as another margin loss for its embedding. B batch, D embedding, K classes.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmctl.ops import global_mean
from mmctl.plugin import Output, loss


@loss("arc_margin")
class ArcMargin(nn.Module):
    """Cross-entropy on the angles to the class centroids, where the angle to the own class counts as larger (ArcFace).

    A centroid takes the place of the weight vector that ArcFace learns for each class, so that the loss shapes the
    embedding that the labelers of MarginMix measure in. A label that is mixed by MixUp gives the mixed loss of its
    classes. Classes without a centroid yet are left out.

    Args:
        margin: The angle m that is added to the angle of the own class, in radians; 0 = plain cosine softmax.
        scale: Length s of all embeddings after normalisation; a larger one makes the softmax sharper.
    """

    def __init__(
        self,
        centroids: Any,
        *,
        margin: Annotated[float, Field(ge=0, lt=1.5)] = 0.3,
        scale: Annotated[float, Field(gt=0)] = 8.0,
    ) -> None:
        super().__init__()
        self.centroids, self.margin, self.scale = centroids, margin, scale

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Mean over the batch of sum_c y_c (-log softmax_c), with the margin on the angle of class c."""
        seen_K = self.centroids.seen_K
        centers_KD = F.normalize(self.centroids.centers().to(out.emb.dtype), dim=-1, eps=1e-6)
        cos_BK = F.normalize(out.emb, dim=-1, eps=1e-6) @ centers_KD.T
        # Not quite -1..1: at the ends the sine, a square root, has no gradient.
        cos_BK = cos_BK.clamp(-1 + 1e-6, 1 - 1e-6)
        own_BK = self.with_margin(cos_BK)
        # The logits of the classes j if c is the own class: only that of c itself has the margin.
        logits_BKK = cos_BK[:, None, :] + torch.diag_embed(own_BK - cos_BK)
        logits_BKK = (self.scale * logits_BKK).masked_fill(~seen_K, -1e4)
        loss_BK = logits_BKK.logsumexp(-1) - self.scale * own_BK
        loss_B = (target_BK * seen_K * loss_BK).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)

    def with_margin(self, cos: Tensor) -> Tensor:
        """cos(angle + m); beyond pi - m, where it would rise again, the authors' straight line."""
        m = self.margin
        shifted = cos * math.cos(m) - (1 - cos.square()).sqrt() * math.sin(m)
        return torch.where(cos > math.cos(math.pi - m), shifted, cos - m * math.sin(m))
