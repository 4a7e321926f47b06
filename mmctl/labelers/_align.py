"""What labelers share: the mean prediction over views, and distribution alignment.

U unlabelled batch, K classes, W batches of a window.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmctl.ops import ema_update_, global_mean
from mmctl.plugin import Batch, Output, PluginError

Align = Literal["none", "train_prior", "uniform"]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Window = Annotated[int, Field(ge=0, le=10**6)]
EPS = 1e-6  # added to numerator and denominator, as in ReMixMatch's code: no division by zero


def mean_probs(views: tuple[Output, ...]) -> Tensor:
    """The head's probabilities, averaged over the views."""
    return torch.stack([v.probs for v in views]).mean(0)


class Aligning(nn.Module):
    """A labeler with distribution alignment: it moves pseudo-labels towards a given class distribution.

    q = p * wanted / seen, renormalised, where `seen` is the mean of p so far (ReMixMatch, section 3.1): classes that
    are predicted too often get less.

    Args:
        align: Class distribution that pseudo-labels are aligned to: "train_prior" = frequencies of the labelled set,
            "uniform" = equal frequencies, "none" = no alignment.
        align_momentum: EMA momentum of the mean prediction used in alignment; the EMA starts with the first batch.
        window: Use the mean prediction over the last `window` batches instead of the EMA (ReMixMatch: 128); batches
            before the first count as uniform. 0 = EMA.
    """

    wanted_K: Tensor
    seen_K: Tensor
    window_WK: Tensor

    def __init__(self, prior_K: Tensor, align: str, align_momentum: float, window: int) -> None:
        super().__init__()
        self.align, self.align_momentum, self.window = align, align_momentum, window
        if align == "none":
            return
        uniform_K = torch.full_like(prior_K, 1 / len(prior_K))
        wanted_K = prior_K.clone() if align == "train_prior" else uniform_K
        self.register_buffer("wanted_K", wanted_K, persistent=align == "labeled")  # otherwise it is constant
        if window:
            self.register_buffer("window_WK", uniform_K.repeat(window, 1))
        else:
            self.register_buffer("seen_K", torch.zeros_like(prior_K))  # zeros: nothing seen yet

    def aligned(self, p_UK: Tensor, batch: Batch, labeled: Output | None = None) -> Tensor:
        """The predictions after alignment; the mean prediction includes this batch."""
        if self.align == "none":
            return p_UK
        mean_K = global_mean(p_UK)
        if self.window:
            self.window_WK.index_copy_(0, (batch.step % self.window)[None], mean_K[None].to(self.window_WK.dtype))
            seen_K = self.window_WK.mean(0)
        else:
            running_K = torch.lerp(mean_K.to(self.seen_K.dtype), self.seen_K, self.align_momentum)
            seen_K = self.seen_K.copy_(torch.where(self.seen_K.sum() > 0, running_K, mean_K))
        if self.align == "labeled":
            ema_update_(self.wanted_K, global_mean(known(self, labeled).probs), self.align_momentum)
        q_UK = p_UK * ((self.wanted_K + EPS) / (seen_K + EPS)).to(p_UK.dtype)
        return q_UK / q_UK.sum(-1, keepdim=True)


def known(labeler: nn.Module, labeled: Output | None) -> Output:
    """The predictions for the labelled images; raises PluginError if the method does not give them."""
    if labeled is None:
        _, name = labeler.__mmctl__  # type: ignore[misc]
        raise PluginError(
            f"labeler {name} needs the predictions for labelled images, and this method does "
            "not give them: use a method that does, such as fixmatch, or another labeler."
        )
    return labeled
