"""Temporal Ensembling (Laine and Aila, ICLR 2017). B labelled, U unlabelled batch, K classes, N unlabelled images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, lerp, nn, zeros

from mmctl.ops import remember
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("temporal_ensembling")
class TemporalEnsembling(nn.Module):
    """The target of an image is the average of its earlier predictions (Temporal Ensembling; Laine and Aila, 2017).

    Z <- a Z + (1 - a) p(u) each time an image is used; after t times its target is Z / (1 - a^t). An image that is used
    for the first time has no target and adds zero. The paper updates Z once per epoch, which is the same. It uses
    labelled images in the consistency term too: set split.unlabeled = "all" for that.

    Args:
        momentum: a, the weight of the earlier predictions.
        bn_groups: Batch norm groups: "each" = one per batch, labelled images update the running statistics;
            "joint" = all images in one batch (the paper).
    """

    views = {"x": ("weak",), "u": ("weak",)}
    # The paper's weight, and its ramp over 80 of 300 epochs.
    slots = {"labeled": LossTerm("soft_cross_entropy"), "consistency": LossTerm("brier", 30.0, 0.267, "sigmoid")}
    default_labeler = None
    mean_NK: Tensor
    visits_N: Tensor

    def __init__(
        self,
        model: nn.Module,
        losses: SimpleNamespace,
        num_classes: int,
        num_unlabeled: int,
        *,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.6,
        bn_groups: Literal["each", "joint"] = "each",
    ) -> None:
        super().__init__()
        self.model, self.losses, self.momentum, self.bn_groups = model, losses, momentum, bn_groups
        self.register_buffer("mean_NK", zeros(num_unlabeled, num_classes))
        self.register_buffer("visits_N", zeros(num_unlabeled))

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of labelled images, squared difference from the earlier predictions of unlabelled ones."""
        x, u = self.model.branches(*batch.x, *batch.u, bn="first", bn_groups=self.bn_groups)  # type: ignore[operator]
        mean_UK, visits_U = self.mean_NK[batch.index_u], self.visits_N[batch.index_u]
        target_UK = mean_UK / (1 - self.momentum**visits_U).clamp_min(1e-6)[:, None]
        remember(self.mean_NK, batch.index_u, lerp(u.probs.detach(), mean_UK, self.momentum))
        remember(self.visits_N, batch.index_u, visits_U + 1)
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "consistency": self.losses.consistency(u, target_UK, (visits_U > 0).to(target_UK.dtype)),
        })  # fmt: skip
