"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import torch
from torch import nn

from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("mean_teacher")
class MeanTeacher(nn.Module):
    """The averaged network teaches the live one on unlabelled images (Mean Teacher; Tarvainen and Valpola, 2017).

    L = H(y, p(x)) + w(t) mean_c (p(v) - p'(u))^2, with p' by the [average] network in training mode, without gradient.
    Weight and ramp are those of MixMatch's baselines (100 and a sigmoid ramp in the paper); for the paper's
    consistency on labelled images too set split.unlabeled = "all".

    Args:
        bn_groups: Batch-norm groups of teacher and student: "each" branch its own, with running statistics of the
            labelled one (MixMatch's baselines), or "joint" (the authors' one batch).
    """

    views = {"x": ("weak",), "u": ("weak", "weak")}
    slots = {"labeled": LossTerm("soft_cross_entropy"), "consistency": LossTerm("brier", 50.0, 0.4)}
    default_labeler = None

    def __init__(
        self, model: nn.Module, ema: nn.Module, losses: SimpleNamespace, *, bn_groups: Literal["each", "joint"] = "each"
    ) -> None:
        super().__init__()
        self.model, self.ema, self.losses, self.bn_groups = model, ema, losses, bn_groups

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy on the labelled images, squared difference from the teacher on the others."""
        first, second = batch.u
        beside = batch.x if self.bn_groups == "joint" else ()
        student, teacher = self.model, self.ema
        with torch.no_grad():
            *_, taught = teacher.branches(*beside, first, bn="batch", group=self.bn_groups)  # type: ignore[operator]
        x, u = student.branches(*batch.x, second, bn="first", group=self.bn_groups)  # type: ignore[operator]
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "consistency": self.losses.consistency(u, taught.probs),
        })  # fmt: skip
