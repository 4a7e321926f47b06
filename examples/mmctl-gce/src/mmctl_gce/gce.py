"""A loss that wrong labels harm less than cross-entropy.

B batch, K classes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mmctl.ops import global_mean
from mmctl.plugin import Output, loss


@loss("gce")
class Gce(nn.Module):
    """Generalised cross-entropy sum_c y_c (1 - p_c^q) / q: wrong labels weigh less (Zhang and Sabuncu 2018).

    The gradient of an image is that of cross-entropy times p^q: an image whose label the network finds improbable,
    perhaps a wrong pseudo-label, pulls less.

    Args:
        q: Between cross-entropy (near 0) and the mean absolute error (1).
    """

    def __init__(self, *, q: Annotated[float, Field(gt=0, le=1)] = 0.7) -> None:
        super().__init__()
        self.q = q

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """The mean over the global batch, 0-d; an image of weight 0 counts as zero."""
        # From the logarithm: 1 - p^q is exact for p near 1, and p = 0 gives no infinite gradient.
        missing_BK = -(self.q * out.logits.log_softmax(-1)).expm1() / self.q
        loss_B = (target_BK * missing_BK).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)
