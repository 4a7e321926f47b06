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


def component(**params: Any) -> Any:
    index = Index(REPO / "plugins", sources="local")
    return index.load(index.find("augment", "paper_texture"))(**params)


def textured(x_BCHW: torch.Tensor, **params: Any) -> torch.Tensor:
    texture = component(**params)
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


def test_the_grain_is_grey_and_as_strong_as_drawn() -> None:
    texture = component(strength=0.5, grain=3)
    x_BCHW = torch.full((4, 3, 16, 20), 128, dtype=torch.uint8)
    draws = {k: torch.from_numpy(v) for k, v in texture.draw(np.random.default_rng(1), 4).items()}
    draws["strength"] = torch.tensor([0.3, 0.1, 0.5, 0.2])
    y_BCHW = texture.apply(x_BCHW, **draws)
    assert torch.equal(y_BCHW[:, 0], y_BCHW[:, 1])
    assert torch.equal(y_BCHW.float().std((1, 2, 3)).argsort(), draws["strength"].argsort())
    assert (y_BCHW.float().mean() - 128).abs() < 2
    draws["strength"] = torch.zeros(4)
    assert torch.equal(texture.apply(x_BCHW, **draws), x_BCHW)


def test_show_explains_it(mm: Any) -> None:
    assert "Largest strength of the grain" in mm("plugins", "show", "paper_texture").out
