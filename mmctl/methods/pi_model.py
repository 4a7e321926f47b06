"""Pi-Model (Laine and Aila, ICLR 2017)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

from torch import nn

from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("pi_model")
class PiModel(nn.Module):
    """Two views of an unlabelled image are to be predicted alike (Pi-Model; Laine and Aila, ICLR 2017).

    L = H(y, p(x)) + w(t) mean_c (p(v) - p(u))^2. Weight and ramp are those of MixMatch's baselines (100 and a
    Gaussian ramp in the paper); for the paper's "all images, labelled or not" set split.unlabeled = "all".

    Args:
        through: Where the gradient flows: the "second" view alone, with the first as its target (all later programs),
            or "both" (the paper).
        bn_groups: Batch-norm groups: "each" branch its own, with running statistics of the labelled one (MixMatch's
            baselines), or "joint" (the paper's one batch).
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
        """Cross-entropy on the labelled images, squared difference between two views of the others."""
        x, u, v = self.model.branches(*batch.x, *batch.u, bn="first", group=self.bn_groups)  # type: ignore[operator]
        target = u.probs if self.through == "both" else u.probs.detach()
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "consistency": self.losses.consistency(v, target),
        })  # fmt: skip
