"""How an augmentation that learns is told how well it does (CTAugment; ReMixMatch, section 3.2). B labelled batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mmctl.plugin import Batch


def probe_view(augments: Mapping[str, Any]) -> tuple[str, ...]:
    """One more view of the labelled images where the recipe has a policy called `probe`."""
    if "probe" not in augments:
        return ()
    if not callable(getattr(augments["probe"], "update", None)):
        raise ValueError("[augment.probe] has to be a policy that learns, such as ctaugment_probe")
    return ("probe",)


@torch.no_grad()
def teach(augments: Mapping[str, Any], net: Any, batch: Batch) -> None:
    """The policy hears how near the prediction of its images stays to their labels: 1 - |p - y| / 2 for each.

    The probe is the last view of the labelled images; `net` predicts in eval mode. The scores are those of this rank's
    images, the draws those of the global batch.
    """
    error_B = (net(batch.x[-1], bn="running").probs - batch.y).abs().sum(-1)
    draws = batch.view_draws[f"x{len(batch.x) - 1}"]["probe"]
    augments["probe"].update(1 - 0.5 * error_B, **draws)
