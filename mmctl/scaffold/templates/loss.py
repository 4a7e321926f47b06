"""A loss on the predictions for a batch.

B batch, K classes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mmctl.ops import global_mean
from mmctl.plugin import Output, loss


@loss("my_component")
class MyComponent(nn.Module):
    """Cross-entropy with label smoothing: the target is mixed with the uniform distribution.

    Args:
        smoothing: Share of the uniform distribution in the target; 0 = plain cross-entropy.
    """

    # Arguments before the * are supplied by mmctl: a loss may ask for num_classes, embed_dim and centroids.
    # Arguments after the * are parameters of the recipe; mmctl checks their types and bounds.
    def __init__(self, num_classes: int, *, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1) -> None:
        super().__init__()
        self.num_classes, self.smoothing = num_classes, smoothing

    def forward(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """The mean over the global batch, 0-d; an image of weight 0 counts as zero."""
        smooth_BK = (1 - self.smoothing) * target_BK + self.smoothing / self.num_classes
        loss_B = -(smooth_BK * out.logits.log_softmax(-1)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)
