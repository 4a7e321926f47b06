"""A labeler: it gives the pseudo-labels of unlabelled images.

U unlabelled batch, K classes.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mmctl.ops import sharpen
from mmctl.plugin import Batch, Output, PseudoLabels, labeler


@labeler("my_component")
class MyComponent(nn.Module):
    """The mean prediction over all views, made more confident.

    Args:
        temperature: T: probabilities to the power 1/T, renormalised; values below 1 make labels more confident.
    """

    # Arguments before the * are supplied by mmctl: a labeler may ask for num_classes, embed_dim, num_labeled,
    # num_unlabeled, prior_K, steps and centroids; this one needs none.
    # Arguments after the * are parameters of the recipe; mmctl checks their types and bounds.
    def __init__(self, *, temperature: Annotated[float, Field(gt=0)] = 0.5) -> None:
        super().__init__()
        self.temperature = temperature

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK, whose rows sum to 1, and weights U: 1 = use the image, 0 = leave it out."""
        mean_UK = torch.stack([view.probs for view in views]).mean(0)
        return PseudoLabels(sharpen(mean_UK, self.temperature), mean_UK.new_ones(len(mean_UK)))
