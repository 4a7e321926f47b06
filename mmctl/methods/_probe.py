"""Training of augmentations that learn, such as CTAugment (ReMixMatch, section 3.2). B labelled batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mmctl.plugin import Batch


def probe_view(augments: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the extra views of labelled images: `probe` if the recipe has a policy [augment.probe]."""
    if "probe" not in augments:
        return ()
    if not callable(getattr(augments["probe"], "update", None)):
        raise ValueError("[augment.probe] must be a policy that learns, such as ctaugment_probe")
    return ("probe",)


@torch.no_grad()
def update_probe(augments: Mapping[str, Any], net: Any, batch: Batch) -> None:
    """Give the policy [augment.probe], if there is one, a score for each image: 1 - |p - y| / 2.

    The probe is the last view of the labelled images; `net` predicts in eval mode. Scores are of this rank's images,
    draws of the global batch.
    """
    if "probe" not in augments:
        return
    error_B = (net(batch.x[-1], bn="running").probs - batch.y).abs().sum(-1)
    draws = batch.view_draws[f"x{len(batch.x) - 1}"]["probe"]
    augments["probe"].update(1 - 0.5 * error_B, **draws)
