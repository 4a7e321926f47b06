"""Training on the labelled images alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

from numpy.random import Generator
from pydantic import Field
from torch import nn

from mmctl.ops import draw_mixup, mixup
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("supervised")
class Supervised(nn.Module):
    """Training on the labelled images only: the baseline for semi-supervised methods.

    Args:
        alpha: MixUp of labelled images with lambda from Beta(alpha, alpha), eq. 9; 0 = no MixUp.
    """

    views = {"x": ("weak",)}
    slots = {"labeled": LossTerm("soft_cross_entropy")}
    default_labeler = None

    def __init__(
        self, model: nn.Module, losses: SimpleNamespace, *, alpha: Annotated[float, Field(ge=0)] = 0.0
    ) -> None:
        super().__init__()
        self.model, self.losses, self.alpha = model, losses, alpha

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's random numbers."""
        return {"mix": draw_mixup(rng, (x,), self.alpha)} if self.alpha else {}

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of (mixed) labelled images."""
        (x,), (y,) = mixup(batch.x, (batch.y,), batch.draws["mix"]) if self.alpha else (batch.x, (batch.y,))
        return StepOutput({"labeled": self.losses.labeled(self.model(x, bn="update"), y)})
