"""Pseudo-labels above a threshold: Pseudo-Label, and FixMatch with those that build on it.

FlexMatch, SoftMatch and AdaMatch are FixMatch with another labeler, so they are recipes and stand nowhere here.
B labelled batch, U unlabelled batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmctl.methods._probe import probe_view, teach
from mmctl.ops import argmax_one_hot, ema_update_, global_mean
from mmctl.plugin import Batch, LossTerm, Output, StepOutput, method


@method("pseudo_label")
class PseudoLabel(nn.Module):
    """The network's own confident predictions serve as labels (Lee 2013, with MixMatch's threshold)."""

    slots = {"labeled": LossTerm("soft_cross_entropy"), "unlabeled": LossTerm("soft_cross_entropy", 1.0, 0.4)}
    views = {"x": ("weak",), "u": ("weak",)}
    default_labeler = "threshold"

    def __init__(self, model: nn.Module, labeler: nn.Module, losses: SimpleNamespace) -> None:
        super().__init__()
        self.model, self.labeler, self.losses = model, labeler, losses

    def step(self, batch: Batch) -> StepOutput:
        """One forward gives both label and prediction; images below the threshold count as zero in the mean."""
        x, u = self.model.branches(batch.x[0], batch.u[0], bn="first")  # type: ignore[operator]
        guess = self.labeler(u, batch=batch, labeled=x)
        terms = {"labeled": self.losses.labeled(x, batch.y), "unlabeled": self.losses.unlabeled(u, *guess)}
        return StepOutput(terms, pseudo_labels=guess)


@method("fixmatch")
class FixMatch(nn.Module):
    """Labels from a weakly augmented view for a strongly augmented one, where they are sure (FixMatch).

    A policy [augment.probe] that learns (CTAugment) is taught by the averaged network, where there is one.

    Args:
        bn_groups: "joint" = one forward with one set of batch-norm statistics, in which the weak view has a gradient
            too (the references); "each" = a forward each for labelled and strong images, and for the weak ones one
            without gradient that leaves the running statistics alone, which is cheaper.
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
        ema: nn.Module | None = None,  # None where the recipe keeps no average
        *,
        bn_groups: Literal["joint", "each"] = "joint",
    ) -> None:
        super().__init__()
        self.model, self.ema, self.labeler, self.losses = model, ema, labeler, losses
        self.augments, self.bn_groups = augments, bn_groups
        self.views = {"x": ("weak", *probe_view(augments)), "u": ("weak", "strong")}

    def forwards(self, batch: Batch) -> tuple[Output, Output, Output]:
        """What the network says of the labelled images and of both views of the unlabelled ones."""
        if len(batch.x) > 1:
            teach(self.augments, self.ema or self.model, batch)
        model: Any = self.model
        if self.bn_groups == "joint":
            x, weak, strong = model.branches(batch.x[0], *batch.u, bn="update", group="joint")
        else:
            with torch.no_grad():
                weak = model(batch.u[0], bn="batch")
            x, strong = model.branches(batch.x[0], batch.u[1], bn="update")
        return x, weak, strong

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy on labelled images, and of strong views to the labels of weak ones."""
        x, weak, strong = self.forwards(batch)
        guess = self.labeler(weak, batch=batch, labeled=x)
        terms = {"labeled": self.losses.labeled(x, batch.y), "unlabeled": self.losses.unlabeled(strong, *guess)}
        return StepOutput(terms, pseudo_labels=guess)


@method("freematch")
class FreeMatch(FixMatch):
    """FixMatch with thresholds that adapt, and a term that keeps the predicted classes balanced (FreeMatch).

    Args:
        momentum: How slowly the mean prediction and the class histogram move that the fairness term compares with.
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
        """FixMatch's terms, and L_f = sum_c a_c log b_c, with the sign of the paper: training raises -L_f.

        a and b are mean prediction over class histogram, scaled to sum 1: a of all weak views so far, b of this
        batch's kept strong views. A class that none of these is predicted as adds nothing (no gradient comes from it
        in the authors' code either, which adds its log 1e-12), nor does a batch that keeps no image.
        """
        x, weak, strong = self.forwards(batch)
        guess = self.labeler(weak, batch=batch, labeled=x)
        ema_update_(self.mean_K, global_mean(weak.probs), self.momentum)
        ema_update_(self.hist_K, global_mean(argmax_one_hot(weak.probs)), self.momentum)
        kept_U1 = guess.weight[:, None]
        here_K = global_mean(kept_U1 * strong.probs)
        bins_K = global_mean(kept_U1 * argmax_one_hot(strong.probs))
        a_K, b_K = balance(self.mean_K, self.hist_K), balance(here_K, bins_K)
        # The inner choice keeps the logarithm, and with it the gradient, finite where the outer one drops the class.
        log_K = torch.where(bins_K > 0, b_K, 1.0).clamp_min(1e-12).log()
        terms = {
            "labeled": self.losses.labeled(x, batch.y),
            "unlabeled": self.losses.unlabeled(strong, *guess),
            "fairness": (a_K * log_K).sum(),
        }
        return StepOutput(terms, pseudo_labels=guess)


def balance(mean_K: Tensor, hist_K: Tensor) -> Tensor:
    """Mean prediction over histogram, scaled to sum 1; a class of no count has none (FreeMatch's SumNorm)."""
    ratio_K = torch.where(hist_K > 0, mean_K / torch.where(hist_K > 0, hist_K, 1.0), 0.0)
    return ratio_K / ratio_K.sum().clamp_min(1e-12)


@method("uda")
class UDA(FixMatch):
    """Predictions on strong views follow sharpened ones on weak views; easy labels are held back (UDA).

    Args:
        tsa: How fast training signal annealing lets go of labelled images whose class is already that probable: the
            limit grows from 1/K to 1 on a "linear", "log" (early) or "exp" (late) schedule; "none" = no limit.
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
        """KL of strong views to the labels of weak ones, the weak views' entropy, and cross-entropy by TSA."""
        x, weak, strong = self.forwards(batch)
        guess = self.labeler(weak, batch=batch, labeled=x)
        keep_B = None
        if self.tsa != "none":
            keep_B = ((x.probs * batch.y).sum(-1) <= self.limit(batch.step)).to(x.logits.dtype)
            keep_B = keep_B / global_mean(keep_B).clamp_min(1e-6)  # the mean over those kept, on all ranks
        terms = {
            "labeled": self.losses.labeled(x, batch.y, keep_B),
            "unlabeled": self.losses.unlabeled(strong, *guess),
            "entropy": self.losses.entropy(weak, guess.target),
        }
        return StepOutput(terms, pseudo_labels=guess)

    def limit(self, step: Tensor) -> Tensor:
        """Annealing's limit on the probability of a labelled image's own class at this step."""
        t = step / self.steps
        grown = {"linear": t, "log": 1 - torch.exp(-5 * t), "exp": torch.exp(5 * (t - 1))}[self.tsa]
        return grown * (1 - 1 / self.num_classes) + 1 / self.num_classes
