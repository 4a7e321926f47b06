"""Pseudo-labels from the softmax head, all of weight 1. U unlabelled batch, K classes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mmctl.labelers._align import Align, Aligning, Momentum, Window, mean_probs
from mmctl.ops import sharpen
from mmctl.plugin import Batch, Output, PseudoLabels, labeler


@labeler("softmax")
class Softmax(Aligning):
    """The head's prediction, averaged over views and sharpened (MixMatch).

    Args:
        temperature: T of sharpening: probabilities to the power 1/T, renormalised; 1 = no sharpening.
    """

    def __init__(
        self,
        prior_K: Tensor,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.5,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.temperature = temperature

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK, all of weight 1."""
        q_UK = sharpen(self.aligned(mean_probs(views), batch, labeled), self.temperature)
        return PseudoLabels(q_UK, torch.ones_like(q_UK[:, 0]))


@labeler("aligned")
class Aligned(Softmax):
    """The head's prediction, aligned to the class frequencies of the labelled set, then sharpened (ReMixMatch)."""

    def __init__(
        self,
        prior_K: Tensor,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.5,
        align: Align = "train_prior",
        align_momentum: Momentum = 0.999,
        window: Window = 128,
    ) -> None:
        super().__init__(
            prior_K, temperature=temperature, align=align, align_momentum=align_momentum, window=window
        )  # fmt: skip
