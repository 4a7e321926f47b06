"""A method: the losses of one training step.

B labelled batch, U unlabelled batch, K classes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("my_component")
class MyComponent(nn.Module):
    """The pseudo-labels of one view of an unlabelled image are the targets of its other views.

    Args:
        num_views: Views of each unlabelled image; the first one gives the pseudo-label.
    """

    # What a recipe can change: the loss of each term, its weight, and the number of steps in which it grows.
    slots = {"labeled": LossTerm("soft_cross_entropy"), "unlabeled": LossTerm("brier", 10.0, 0.4)}
    # The augmentations of each view: tables [augment.NAME] of the recipe; "clean" = none.
    views: dict[str, tuple[str, ...]] = {"x": ("weak",), "u": ("weak", "weak")}
    default_labeler = "softmax"

    # Arguments before the * are supplied by mmctl; `mmctl plugins show mixmatch` and others show more of them.
    # Arguments after the * are parameters of the recipe; mmctl checks their types and bounds.
    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        *,
        num_views: Annotated[int, Field(ge=2)] = 2,
    ) -> None:
        super().__init__()
        self.model, self.labeler, self.losses = model, labeler, losses
        self.views = {"x": ("weak",), "u": ("weak",) * num_views}

    def step(self, batch: Batch) -> StepOutput:
        """One value for each of `slots`; the training loop applies weights and adds them up."""
        model: Any = self.model
        # Each forward says what batch norm does: here the labelled images alone update its running statistics.
        x, guessed, *others = model.branches(*batch.x, *batch.u, bn="first")
        guess = self.labeler(guessed, batch=batch, labeled=x)
        unlabeled = [self.losses.unlabeled(view, guess.target, guess.weight) for view in others]
        terms = {
            "labeled": self.losses.labeled(x, batch.y),
            "unlabeled": sum(unlabeled[1:], start=unlabeled[0]) / len(unlabeled),
        }
        return StepOutput(terms, pseudo_labels=guess)
