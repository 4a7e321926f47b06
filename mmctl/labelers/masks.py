"""Masking labelers: pseudo-labels from the head, and which images count. U unlabelled batch, K classes, N images.

Labels are one-hot unless stated otherwise; an image below its threshold has weight 0. Methods that mix all
pseudo-labels (MixMatch, MarginMix) cannot leave an image out, so a recipe cannot combine them with these labelers.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmctl.labelers._align import Align, Aligning, Momentum, Window, known, mean_probs
from mmctl.ops import argmax_one_hot, ema_update_, global_mean, remember, sharpen, world_size
from mmctl.plugin import Batch, Output, PseudoLabels, labeler

Tau = Annotated[float, Field(ge=0, le=1.1)]  # above 1 = keep no image
Share = Annotated[float, Field(ge=0, le=1)]


@labeler("threshold")
class Threshold(Aligning):
    """Keeps confident predictions only: top probability >= tau (Pseudo-Label, UDA, FixMatch).

    Args:
        tau: Confidence threshold: least probability of the top class; 0 keeps all images, 1.1 none.
        target: "hard" = the top class, one-hot; "soft" = the prediction, sharpened.
        temperature: T of soft targets: probabilities to the power 1/T, renormalised. The threshold is applied before.
    """

    masks = True

    def __init__(
        self,
        prior_K: Tensor,
        *,
        tau: Tau = 0.95,
        target: Literal["hard", "soft"] = "hard",
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.tau, self.target, self.temperature = tau, target, temperature

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK; weight 1 where the top probability reaches tau."""
        p_UK = self.aligned(mean_probs(views), batch, labeled)
        keep_U = p_UK.amax(-1) >= self.tau
        return PseudoLabels(
            argmax_one_hot(p_UK) if self.target == "hard" else sharpen(p_UK, self.temperature), keep_U.to(p_UK.dtype)
        )


@labeler("flex")
class Flex(Aligning):
    """A confidence threshold per class, lower for classes that are learned more slowly (FlexMatch).

    Args:
        tau: Highest threshold: that of the class in which most images have reached it.
        warmup: Count images that have not reached tau in any class as one more class: while it is the largest, all
            thresholds stay low. Without warm-up, the first class that is reached gets the full threshold at once.
    """

    masks = True

    last_N: Tensor

    def __init__(
        self,
        num_unlabeled: int,
        prior_K: Tensor,
        *,
        tau: Tau = 0.95,
        warmup: bool = True,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.tau, self.warmup, self.num_classes = tau, warmup, len(prior_K)
        # The class in which each image last reached tau; K = in none yet.
        self.register_buffer("last_N", torch.full((num_unlabeled,), len(prior_K)))

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK; weight 1 where the top probability reaches tau * M(beta), M(b) = b / (2 - b)."""
        p_UK = self.aligned(mean_probs(views), batch, labeled)
        top_U, class_U = p_UK.max(-1)
        classes = torch.arange(self.num_classes + 1, device=p_UK.device)
        count = (self.last_N[:, None] == classes).sum(0).to(p_UK.dtype)
        learned_K = count[: self.num_classes]
        beta_K = learned_K / (count if self.warmup else learned_K).amax().clamp_min(1)
        keep_U = top_U >= (self.tau * beta_K / (2 - beta_K))[class_U]
        reached_U = torch.where(top_U >= self.tau, class_U, self.last_N[batch.index_u])
        remember(self.last_N, batch.index_u, reached_U)
        return PseudoLabels(argmax_one_hot(p_UK), keep_U.to(p_UK.dtype))


@labeler("free")
class Free(Aligning):
    """A threshold that follows the mean confidence, lower for rarely predicted classes (FreeMatch's SAT).

    Args:
        momentum: EMA momentum of the global threshold and of the mean prediction; both start at 1/K.
        low: Lower limit of the global threshold.
        high: Upper limit of the global threshold.
    """

    masks = True

    tau: Tensor
    mean_K: Tensor

    def __init__(
        self,
        prior_K: Tensor,
        *,
        momentum: Momentum = 0.999,
        low: Share = 0.0,
        high: Share = 1.0,
        align: Align = "none",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        if low > high:
            raise ValueError(f"low = {low} is above high = {high}")
        self.momentum, self.low, self.high = momentum, low, high
        self.register_buffer("mean_K", torch.full_like(prior_K, 1 / len(prior_K)))
        self.register_buffer("tau", self.mean_K[0].clone())

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK; weight 1 where the top probability reaches tau * mean_c / max_k mean_k."""
        p_UK = self.aligned(mean_probs(views), batch, labeled)
        top_U, class_U = p_UK.max(-1)
        ema_update_(self.tau, global_mean(top_U), self.momentum)
        self.tau.clamp_(self.low, self.high)
        ema_update_(self.mean_K, global_mean(p_UK), self.momentum)
        keep_U = top_U >= (self.tau * (self.mean_K / self.mean_K.amax()))[class_U]
        return PseudoLabels(argmax_one_hot(p_UK), keep_U.to(p_UK.dtype))


@labeler("soft")
class Soft(Aligning):
    """Weights by a truncated Gaussian: the further the confidence is below its mean, the less (SoftMatch).

    Alignment changes only the weights; the label is the top class of the prediction without alignment.

    Args:
        sigmas: The standard deviation of the Gaussian is that of the confidence, divided by this (n in the paper).
        momentum: EMA momentum of mean and variance of the confidence; they start at 1/K and 1.
    """

    masks = True

    mean: Tensor
    var: Tensor

    def __init__(
        self,
        prior_K: Tensor,
        *,
        sigmas: Annotated[float, Field(gt=0)] = 2.0,
        momentum: Momentum = 0.999,
        align: Align = "uniform",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.sigmas, self.momentum = sigmas, momentum
        self.register_buffer("mean", torch.full_like(prior_K[0], 1 / len(prior_K)))
        self.register_buffer("var", torch.ones_like(prior_K[0]))

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK; weight exp(-(n * min(top - mean, 0))^2 / (2 var))."""
        p_UK = mean_probs(views)
        top_U = self.aligned(p_UK, batch, labeled).amax(-1)
        n, mean = len(top_U) * world_size(), global_mean(top_U)
        ema_update_(self.mean, mean, self.momentum)
        ema_update_(self.var, global_mean((top_U - mean).square()) * (n / max(1, n - 1)), self.momentum)
        below_U = (top_U - self.mean).clamp_max(0) * self.sigmas
        return PseudoLabels(
            argmax_one_hot(p_UK), torch.exp(-below_U.square() / (2 * self.var.clamp_min(1e-12))).to(p_UK.dtype)
        )


@labeler("relative")
class Relative(Aligning):
    """A threshold relative to the confidence on labelled images (AdaMatch).

    Args:
        tau: The threshold is tau times the mean top probability on the labelled batch.
        align: Class distribution that pseudo-labels are aligned to: "labeled" = an EMA of the predictions on labelled
            images, which starts uniform; "train_prior" = frequencies of the labelled set, "uniform" = equal
            frequencies, "none" = no alignment.
    """

    masks = True

    def __init__(
        self,
        prior_K: Tensor,
        *,
        tau: Tau = 0.9,
        align: Literal["labeled", "train_prior", "uniform", "none"] = "labeled",
        align_momentum: Momentum = 0.999,
        window: Window = 0,
    ) -> None:
        super().__init__(prior_K, align, align_momentum, window)
        self.tau = tau

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK; weight 1 where the aligned top probability reaches tau * mean top probability on x."""
        q_UK = self.aligned(mean_probs(views), batch, labeled)
        threshold = self.tau * global_mean(known(self, labeled).probs.amax(-1))
        return PseudoLabels(argmax_one_hot(q_UK), (q_UK.amax(-1) >= threshold).to(q_UK.dtype))
