"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import torch
from torch import nn

from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("mean_teacher")
class MeanTeacher(nn.Module):
    """The EMA teacher gives targets for unlabelled images (Mean Teacher; Tarvainen and Valpola, 2017).

    L = H(y, p(x)) + w(t) mean_c (p(v) - p'(u))^2, with p' from the EMA teacher ([average]) with batch statistics,
    without gradient. Weight and ramp are those of MixMatch's baselines (100 and a sigmoid ramp in the paper); the paper
    uses labelled images in the consistency term too: set split.unlabeled = "all" for that.

    Args:
        bn_groups: Batch norm groups of teacher and student: "each" = one per batch, labelled images update the
            running statistics (MixMatch's baselines); "joint" = all images in one batch (the authors).
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
        """Cross-entropy of labelled images, squared difference from the teacher for unlabelled ones."""
        first, second = batch.u
        joined = batch.x if self.bn_groups == "joint" else ()
        with torch.no_grad():
            *_, teacher = self.ema.branches(*joined, first, bn="batch", bn_groups=self.bn_groups)  # type: ignore[operator]
        x, u = self.model.branches(*batch.x, second, bn="first", bn_groups=self.bn_groups)  # type: ignore[operator]
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "consistency": self.losses.consistency(u, teacher.probs),
        })  # fmt: skip
