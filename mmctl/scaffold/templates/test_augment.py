"""Tests of the augmentation my_component: what mmctl expects of every one, and what this one promises."""

from __future__ import annotations

import torch

from mmctl.scaffold.templates.augment import MyComponent
from mmctl.testing import AugmentContract


class TestMyComponent(AugmentContract):
    component = "my_component"
    params = ({}, {"strength": 1.0})


def test_each_image_has_its_own_factor() -> None:
    x_BCHW = torch.full((2, 1, 4, 4), 100, dtype=torch.uint8)
    out = MyComponent().apply(x_BCHW, factor=torch.tensor([0.5, 3.0]))
    assert out[:, 0, 0, 0].tolist() == [50, 255]
