"""Tests of the method my_component: what mmctl expects of every method, and what this one promises."""

from __future__ import annotations

from types import SimpleNamespace

from torch import nn

from mmctl.scaffold.templates.method import MyComponent
from mmctl.testing import MethodContract


class TestMyComponent(MethodContract):
    component = "my_component"
    params = ({}, {"num_views": 3})


def test_num_views_sets_the_views() -> None:
    method = MyComponent(nn.Identity(), nn.Identity(), SimpleNamespace(), num_views=3)
    assert method.views == {"x": ("weak",), "u": ("weak", "weak", "weak")}
