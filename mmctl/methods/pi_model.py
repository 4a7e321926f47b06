"""Pi-Model (Laine and Aila, ICLR 2017)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

from torch import nn

from mmctl.ops import concat_views
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("pi_model")
class PiModel(nn.Module):
    """Two views of an unlabelled image should get the same prediction (Pi-Model; Laine and Aila, ICLR 2017).

    L = H(y, p(x)) + w(t) mean_c (p(v) - p(u))^2. Weight and ramp are those of MixMatch's baselines (100 and a
    Gaussian ramp in the paper). The paper uses labelled images in the second term too: consistency_on = "all".

    Args:
        consistency_on: Images of the second term: the "unlabeled" ones (MixMatch's baselines), or "all" images of the
            step, the labelled ones too, in two views each (the paper).
        through: Views that the gradient flows through: the "second" only, with the first as its target (all later
            programs), or "both" (the paper).
        bn_groups: Batch norm groups: "each" = one per batch, labelled images update the running statistics
            (MixMatch's baselines); "view" = one per view, labelled and unlabelled images together, each updates them
            (Fast-SWA's program); "joint" = all images in one batch.
    """

    views: dict[str, tuple[str, ...]] = {"x": ("weak",), "u": ("weak", "weak")}
    slots = {"labeled": LossTerm("soft_cross_entropy"), "consistency": LossTerm("brier", 20.0, 0.4)}
    default_labeler = None

    def __init__(
        self,
        model: nn.Module,
        losses: SimpleNamespace,
        *,
        through: Literal["second", "both"] = "second",
        consistency_on: Literal["unlabeled", "all"] = "unlabeled",
        bn_groups: Literal["each", "view", "joint"] = "each",
    ) -> None:
        super().__init__()
        self.model, self.losses, self.through, self.bn_groups = model, losses, through, bn_groups
        self.views = {"x": ("weak",) * (2 if consistency_on == "all" else 1), "u": ("weak", "weak")}

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of labelled images, squared difference between two views of unlabelled (or of all) images."""
        model: Any = self.model
        x, *other = batch.x  # the second view of the labelled images, if there is one, belongs to the targets
        u, v = batch.u
        if self.bn_groups == "view":
            targets = model.branches(*other, u, bn="update", bn_groups="joint")
            said = model.branches(x, v, bn="update", bn_groups="joint")
        else:
            first, *targets, last = model.branches(x, *other, u, v, bn="first", bn_groups=self.bn_groups)
            said = (first, last)
        out, target = concat_views(said[-len(targets) :], [t.probs for t in targets])
        return StepOutput({
            "labeled": self.losses.labeled(said[0], batch.y),
            "consistency": self.losses.consistency(out, target if self.through == "both" else target.detach()),
        })  # fmt: skip
