"""ReMixMatch (Berthelot et al., ICLR 2020). B labelled batch, U unlabelled batch, C channels, H height, W width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from pydantic import Field
from torch import Tensor, nn

from mmctl.methods._probe import probe_view, update_probe
from mmctl.ops import concat_views, draw_mixup, global_mean, local_rows, mixup
from mmctl.plugin import Batch, LossTerm, StepOutput, method


@method("remixmatch")
class ReMixMatch(nn.Module):
    """MixMatch with aligned pseudo-labels from a weak view for several strong views, and a rotation task (ReMixMatch).

    If the recipe has a policy [augment.probe] (CTAugment), it learns from the EMA network, if there is one.

    Args:
        num_strong: Strongly augmented views of each unlabelled image (K in the paper).
        alpha: MixUp's lambda comes from Beta(alpha, alpha), then max(lambda, 1 - lambda).
        labeled_view: Augmentation policy of labelled images: "strong" as in the paper and its code, or "weak" as in
            TorchSSL and USB.
        bn_groups: Batch norm groups of the mixed forward: "interleave" (the reference), "joint" or "each".
    """

    slots = {
        "labeled": LossTerm("soft_cross_entropy"),
        "unlabeled": LossTerm("soft_cross_entropy", 1.5, 16_384),
        "strong": LossTerm("soft_cross_entropy", 0.5, 16_384),
        "rotation": LossTerm(None, 0.5),
    }
    views: dict[str, tuple[str, ...]] = {"x": (), "u": ("weak", "strong")}
    default_labeler = "aligned"

    def __init__(
        self,
        model: nn.Module,
        labeler: nn.Module,
        losses: SimpleNamespace,
        augments: Mapping[str, Any],
        embed_dim: int,
        image_size: int | Sequence[int],
        ema: nn.Module | None = None,  # None if the recipe has no average
        *,
        num_strong: Annotated[int, Field(ge=1, le=100)] = 8,
        alpha: Annotated[float, Field(gt=0)] = 0.75,
        labeled_view: Literal["strong", "weak"] = "strong",
        bn_groups: Literal["interleave", "joint", "each"] = "interleave",
    ) -> None:
        super().__init__()
        if not isinstance(image_size, int):
            raise ValueError(
                f"remixmatch rotates images by 90 degrees, so they must be square, not {tuple(image_size)} px"
            )
        self.model, self.ema, self.labeler, self.losses, self.augments = model, ema, labeler, losses, augments
        self.num_strong, self.alpha, self.bn_groups = num_strong, alpha, bn_groups
        self.rotate = nn.Linear(embed_dim, 4)
        nn.init.xavier_normal_(self.rotate.weight)
        nn.init.zeros_(self.rotate.bias)
        self.views = {"x": (labeled_view, *probe_view(augments)), "u": ("weak", *["strong"] * num_strong)}

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """MixUp's random numbers over all views; each of the four rotations for a quarter of the unlabelled images."""
        return {"mix": draw_mixup(rng, (x, *[u] * (1 + self.num_strong)), self.alpha), "turn": np.arange(u) * 4 // u}

    def step(self, batch: Batch) -> StepOutput:
        """Pseudo-labels from the weak view, MixUp of all views; then the first strong view, unmixed and rotated."""
        update_probe(self.augments, self.ema or self.model, batch)
        model: Any = self.model
        weak, strong, *_ = batch.u
        with torch.no_grad():
            guess = self.labeler(model(weak, bn="batch"), batch=batch)
        xs, (y, *qs) = mixup((batch.x[0], *batch.u), (batch.y, *[guess.target] * len(batch.u)), batch.draws["mix"])
        x, *us = model.branches(*xs, bn="last", bn_groups=self.bn_groups)
        turn = local_rows(batch.draws["turn"])
        plain, turned = model.branches(strong, rotated(strong, turn), bn="batch")
        rotation_U = F.cross_entropy(self.rotate(turned.emb), turn, reduction="none")
        terms = {
            "labeled": self.losses.labeled(x, y),
            "unlabeled": self.losses.unlabeled(*concat_views(us, qs)),
            "strong": self.losses.strong(plain, *guess),
            "rotation": global_mean(rotation_U),
        }
        return StepOutput(terms, pseudo_labels=guess)


def rotated(x_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Each image rotated counter-clockwise by its number of quarter turns."""
    all_4BCHW = torch.stack([torch.rot90(x_BCHW, k, (2, 3)) for k in range(4)])
    return all_4BCHW[turn_B, torch.arange(len(x_BCHW), device=x_BCHW.device)]
