"""Labels from the softmax head. U unlabelled batch, K classes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mmctl.ops import sharpen
from mmctl.plugin import Batch, Guess, Output, labeler


@labeler("softmax")
class Softmax(nn.Module):
    """The head's prediction, averaged over views and sharpened (MixMatch's label guess).

    Args:
        temperature: T: probabilities to the power 1/T, renormalised; 1 leaves them as they are.
    """

    def __init__(self, *, temperature: Annotated[float, Field(gt=0)] = 0.5) -> None:
        super().__init__()
        self.temperature = temperature

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> Guess:
        """Labels UK, all of weight 1."""
        q_UK = sharpen(torch.stack([v.probs for v in views]).mean(0), self.temperature)
        return Guess(q_UK, torch.ones_like(q_UK[:, 0]))
