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
Window = Annotated[int, Field(ge=0)]
EPS = 1e-6  # on both sides of the ratio, as in ReMixMatch's code: a class never seen does not divide by zero


def mean_probs(views: tuple[Output, ...]) -> Tensor:
    """The head's probabilities, averaged over the views."""
    return torch.stack([v.probs for v in views]).mean(0)


class Aligning(nn.Module):
    """A labeler that can pull the classes of its labels towards a wanted distribution (ReMixMatch, section 3.1).

    q = p * wanted / seen, renormalised: `seen` is the mean of p so far, so that a class guessed too often gets less.

    Args:
        align: Distribution that the labels are aligned to: "train_prior" = the labelled class frequencies,
            "uniform" = all classes alike, "none" = labels are left as they are.
        align_momentum: How slowly the mean prediction moves that alignment divides by; it starts at the first batch.
        window: That mean is over the last `window` batches instead (ReMixMatch: 128), uniform ones before the first;
            0 = the running mean.
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
        follows = align == "labeled"  # a state then, and not a constant
        wanted_K = prior_K.clone() if align == "train_prior" else uniform_K
        self.register_buffer("wanted_K", wanted_K, persistent=follows)
        if window:
            self.register_buffer("window_WK", uniform_K.repeat(window, 1))
        else:
            self.register_buffer("seen_K", torch.zeros_like(prior_K))  # zeros: nothing seen yet

    def aligned(self, p_UK: Tensor, batch: Batch, labeled: Output | None = None) -> Tensor:
        """The predictions after alignment; this batch counts into the mean that it is divided by."""
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
    """What the network says of the labelled images, for a labeler that cannot do without."""
    if labeled is None:
        raise PluginError(
            f"labeler {type(labeler).__name__.lower()} compares with the predictions on labelled images, and this "
            "method gives it none: use a method that does, such as fixmatch, or another labeler."
        )
    return labeled
