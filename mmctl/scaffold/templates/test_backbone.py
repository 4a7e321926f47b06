"""Tests of the backbone my_component: what mmctl expects of every backbone, and what this one promises."""

from __future__ import annotations

import torch

from mmctl.scaffold.templates.backbone import MyComponent
from mmctl.testing import BackboneContract


class TestMyComponent(BackboneContract):
    component = "my_component"
    params = ({}, {"width": 8})


def test_width_sets_the_embedding() -> None:
    net = MyComponent(1, width=8)
    assert net.embed_dim == 16
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 16)
