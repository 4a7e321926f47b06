"""Methods with confident pseudo-labels: Pseudo-Label, FixMatch, FreeMatch, UDA.

FlexMatch, SoftMatch and AdaMatch are FixMatch with another labeler: they are recipes and need no code here.
B labelled batch, U unlabelled batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmctl.methods._probe import probe_view, update_probe
from mmctl.ops import argmax_one_hot, ema_update_, global_mean
from mmctl.plugin import Batch, LossTerm, Output, StepOutput, method


@method("pseudo_label")
class PseudoLabel(nn.Module):
    """Confident predictions become pseudo-labels for the same images (Pseudo-Label; Lee 2013, MixMatch's threshold)."""

    slots = {"labeled": LossTerm("soft_cross_entropy"), "unlabeled": LossTerm("soft_cross_entropy", 1.0, 0.4)}
    views = {"x": ("weak",), "u": ("weak",)}
    default_labeler = "threshold"

    def __init__(self, model: nn.Module, labeler: nn.Module, losses: SimpleNamespace) -> None:
        super().__init__()
        self.model, self.labeler, self.losses = model, labeler, losses

    def step(self, batch: Batch) -> StepOutput:
        """One forward gives both pseudo-label and prediction; images below the threshold add zero to the mean."""
        x, u = self.model.branches(batch.x[0], batch.u[0], bn="first")  # type: ignore[operator]
        guess = self.labeler(u, batch=batch, labeled=x)
        terms = {"labeled": self.losses.labeled(x, batch.y), "unlabeled": self.losses.unlabeled(u, *guess)}
        return StepOutput(terms, pseudo_labels=guess)


@method("fixmatch")
class FixMatch(nn.Module):
    """Confident pseudo-labels from the weak view are the targets of the strong view of the same image (FixMatch).

    If the recipe has a policy [augment.probe] (CTAugment), it learns from the EMA network, if there is one.

    Args:
        bn_groups: Batch norm groups: "joint" = one forward of all images, in which the weak view has a gradient too
            (the references); "each" = one forward for labelled images, one for strong views, and one without
            gradient for weak views, which does not update the running statistics; this is cheaper.
    """

    slots = {"labeled": LossTerm("soft_cross_entropy"), "unlabeled": LossTerm("soft_cross_entropy")}
    views: dict[str, tuple[str, ...]] = {"x": ("weak",), "u": ("weak", "strong")}
    default_labeler = "threshold"

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        augments: Mapping[str, Any],
        ema: nn.Module | None = None,  # None if the recipe has no average
        *,
        bn_groups: Literal["joint", "each"] = "joint",
    ) -> None:
        super().__init__()
        self.model, self.ema, self.labeler, self.losses = model, ema, labeler, losses
        self.augments, self.bn_groups = augments, bn_groups
        self.views = {"x": ("weak", *probe_view(augments)), "u": ("weak", "strong")}

    def forwards(self, batch: Batch) -> tuple[Output, Output, Output]:
        """Outputs for the labelled images, and for the weak and the strong view of the unlabelled ones."""
        update_probe(self.augments, self.ema or self.model, batch)
        model: Any = self.model
        if self.bn_groups == "joint":
            x, weak, strong = model.branches(batch.x[0], *batch.u, bn="update", bn_groups="joint")
        else:
            with torch.no_grad():
                weak = model(batch.u[0], bn="batch")
            x, strong = model.branches(batch.x[0], batch.u[1], bn="update")
        return x, weak, strong

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of labelled images, and of strong views with the pseudo-labels of the weak views."""
        x, weak, strong = self.forwards(batch)
        guess = self.labeler(weak, batch=batch, labeled=x)
        terms = {"labeled": self.losses.labeled(x, batch.y), "unlabeled": self.losses.unlabeled(strong, *guess)}
        return StepOutput(terms, pseudo_labels=guess)


@method("freematch")
class FreeMatch(FixMatch):
    """FixMatch with adaptive thresholds and a fairness term that keeps predicted classes balanced (FreeMatch).

    Args:
        momentum: EMA momentum of the mean prediction and of the class histogram in the fairness term.
    """

    slots = {**FixMatch.slots, "fairness": LossTerm(None, 0.001)}
    default_labeler = "free"
    mean_K: Tensor
    hist_K: Tensor

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        augments: Mapping[str, Any],
        num_classes: int,
        ema: nn.Module | None = None,
        *,
        bn_groups: Literal["joint", "each"] = "joint",
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999,
    ) -> None:
        super().__init__(model, labeler, losses, augments, ema, bn_groups=bn_groups)
        self.momentum = momentum
        self.register_buffer("mean_K", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("hist_K", torch.full((num_classes,), 1 / num_classes))

    def step(self, batch: Batch) -> StepOutput:
        """FixMatch's terms, and the fairness term L_f = sum_c a_c log b_c, with the sign of the paper.

        a and b are the mean prediction divided by the class histogram, scaled to sum 1: a over all weak views so far,
        b over this batch's strong views that are kept. A class that no kept strong view is predicted as adds nothing
        (the authors' code adds log 1e-12, which has no gradient either); nor does a batch in which none is kept.
        """
        x, weak, strong = self.forwards(batch)
        guess = self.labeler(weak, batch=batch, labeled=x)
        ema_update_(self.mean_K, global_mean(weak.probs), self.momentum)
        ema_update_(self.hist_K, global_mean(argmax_one_hot(weak.probs)), self.momentum)
        kept_U1 = guess.weight[:, None]
        batch_mean_K = global_mean(kept_U1 * strong.probs)
        batch_hist_K = global_mean(kept_U1 * argmax_one_hot(strong.probs))
        a_K, b_K = balance(self.mean_K, self.hist_K), balance(batch_mean_K, batch_hist_K)
        # Classes that are not predicted get log 1 = 0: finite, and with a finite gradient.
        log_K = torch.where(batch_hist_K > 0, b_K, 1.0).clamp_min(1e-12).log()
        terms = {
            "labeled": self.losses.labeled(x, batch.y),
            "unlabeled": self.losses.unlabeled(strong, *guess),
            "fairness": (a_K * log_K).sum(),
        }
        return StepOutput(terms, pseudo_labels=guess)


def balance(mean_K: Tensor, hist_K: Tensor) -> Tensor:
    """Mean prediction / histogram, scaled to sum 1; 0 for a class with histogram 0 (FreeMatch's SumNorm)."""
    ratio_K = torch.where(hist_K > 0, mean_K / torch.where(hist_K > 0, hist_K, 1.0), 0.0)
    return ratio_K / ratio_K.sum().clamp_min(1e-12)


@method("uda")
class UDA(FixMatch):
    """Strong views are trained towards sharpened predictions of weak views; TSA drops easy labelled images (UDA).

    Args:
        tsa: Schedule of training signal annealing: labelled images whose class is more probable than a limit do not
            count. The limit grows from 1/K to 1: "linear", "log" (early) or "exp" (late); "none" = no limit.
    """

    slots = {
        "labeled": LossTerm("soft_cross_entropy"),
        "unlabeled": LossTerm("kl"),
        "entropy": LossTerm("entropy", 0.0),
    }
    default_labeler = "threshold"

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        augments: Mapping[str, Any],
        num_classes: int,
        steps: int,
        ema: nn.Module | None = None,
        *,
        tsa: Literal["none", "linear", "log", "exp"] = "none",
    ) -> None:
        super().__init__(model, labeler, losses, augments, ema)
        self.num_classes, self.steps, self.tsa = num_classes, steps, tsa

    def step(self, batch: Batch) -> StepOutput:
        """KL divergence of strong views from the pseudo-labels, entropy of weak views, and cross-entropy with TSA."""
        x, weak, strong = self.forwards(batch)
        guess = self.labeler(weak, batch=batch, labeled=x)
        keep_B = None
        if self.tsa != "none":
            keep_B = ((x.probs * batch.y).sum(-1) <= self.limit(batch.step)).to(x.logits.dtype)
            keep_B = keep_B / global_mean(keep_B).clamp_min(1e-6)  # so that the mean is over the kept images only
        terms = {
            "labeled": self.losses.labeled(x, batch.y, keep_B),
            "unlabeled": self.losses.unlabeled(strong, *guess),
            "entropy": self.losses.entropy(weak, guess.target),
        }
        return StepOutput(terms, pseudo_labels=guess)

    def limit(self, step: Tensor) -> Tensor:
        """The limit of training signal annealing at this step."""
        t = step / self.steps
        progress = {"linear": t, "log": 1 - torch.exp(-5 * t), "exp": torch.exp(5 * (t - 1))}[self.tsa]
        return progress * (1 - 1 / self.num_classes) + 1 / self.num_classes
