"""Pi-Model (Laine and Aila, ICLR 2017)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

from torch import nn

from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("pi_model")
class PiModel(nn.Module):
    """Two views of an unlabelled image should get the same prediction (Pi-Model; Laine and Aila, ICLR 2017).

    L = H(y, p(x)) + w(t) mean_c (p(v) - p(u))^2. Weight and ramp are those of MixMatch's baselines (100 and a
    Gaussian ramp in the paper). The paper uses labelled images in the second term too: set split.unlabeled = "all".

    Args:
        through: Views that the gradient flows through: the "second" only, with the first as its target (all later
            programs), or "both" (the paper).
        bn_groups: Batch norm groups: "each" = one per batch, labelled images update the running statistics
            (MixMatch's baselines); "joint" = all images in one batch (the paper).
    """

    views = {"x": ("weak",), "u": ("weak", "weak")}
    slots = {"labeled": LossTerm("soft_cross_entropy"), "consistency": LossTerm("brier", 20.0, 0.4)}
    default_labeler = None

    def __init__(
        self,
        model: nn.Module,
        losses: SimpleNamespace,
        *,
        through: Literal["second", "both"] = "second",
        bn_groups: Literal["each", "joint"] = "each",
    ) -> None:
        super().__init__()
        self.model, self.losses, self.through, self.bn_groups = model, losses, through, bn_groups

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of labelled images, squared difference between two views of unlabelled ones."""
        x, u, v = self.model.branches(*batch.x, *batch.u, bn="first", bn_groups=self.bn_groups)  # type: ignore[operator]
        target = u.probs if self.through == "both" else u.probs.detach()
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "consistency": self.losses.consistency(v, target),
        })  # fmt: skip
