"""Losses on the predicted distribution. B batch, K classes."""

from __future__ import annotations

from torch import Tensor, xlogy

from mmctl.ops import global_mean
from mmctl.plugin import Output, loss


@loss("soft_cross_entropy")
def soft_cross_entropy():  # type: ignore[no-untyped-def]
    """Cross-entropy between the prediction and a target distribution over the classes."""

    def value(out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        loss_B = -(target_BK * out.logits.log_softmax(-1)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)

    return value


@loss("brier")
def brier():  # type: ignore[no-untyped-def]
    """Squared error between predicted and target probabilities, mean over classes (MixMatch's loss L_U)."""

    def value(out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        loss_B = (out.probs - target_BK).square().mean(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)

    return value


@loss("kl")
def kl():  # type: ignore[no-untyped-def]
    """Kullback-Leibler divergence KL(target || prediction): 0 if they are equal."""

    def value(out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        # xlogy: a class with target 0 adds 0.
        loss_B = (xlogy(target_BK, target_BK) - target_BK * out.logits.log_softmax(-1)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)

    return value


@loss("entropy")
def entropy():  # type: ignore[no-untyped-def]
    """Entropy of the prediction; the target is not used (entropy minimisation, Grandvalet and Bengio 2004)."""

    def value(out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        loss_B = -(out.probs * out.logits.log_softmax(-1)).sum(-1)
        return global_mean(loss_B if weight_B is None else loss_B * weight_B)

    return value
