"""The plugin paper_texture: grain on a share of the images, the others as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from helpers.paths import REPO
from mmctl.registry.index import Index
from mmctl.testing import AugmentContract


class TestPaperTexture(AugmentContract):
    component = "paper_texture"
    params = ({}, {"strength": 1.0, "grain": 1}, {"share": 0.5, "grain": 5})


def textured(x_BCHW: torch.Tensor, **params: Any) -> torch.Tensor:
    index = Index(REPO / "plugins", sources="local")
    texture = index.load(index.find("augment", "paper_texture"))(**params)
    draws = texture.draw(np.random.default_rng(0), len(x_BCHW))
    return texture.apply(x_BCHW, **{name: torch.from_numpy(value) for name, value in draws.items()})  # type: ignore[no-any-return]


def test_share_says_how_many_images_change() -> None:
    x_BCHW = torch.full((400, 1, 8, 8), 128, dtype=torch.uint8)
    for share in (0.0, 0.25, 1.0):
        changed = (textured(x_BCHW, strength=0.5, share=share) != x_BCHW).flatten(1).any(1).double().mean().item()
        assert abs(changed - share) < 0.07


def test_a_stronger_grain_changes_more_and_the_mean_stays() -> None:
    x_BCHW = torch.full((64, 3, 16, 16), 128, dtype=torch.uint8)
    spread = [textured(x_BCHW, strength=s).double().std().item() for s in (0.05, 0.1, 0.2)]
    assert spread == sorted(spread)
    assert abs(textured(x_BCHW, strength=0.1).double().mean().item() - 128) < 2
