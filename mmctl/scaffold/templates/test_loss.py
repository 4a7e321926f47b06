"""Tests of the loss my_component: what mmctl expects of every loss, and what this one promises."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mmctl.plugin import Output
from mmctl.scaffold.templates.loss import MyComponent
from mmctl.testing import LossContract


class TestMyComponent(LossContract):
    component = "my_component"
    params = ({}, {"smoothing": 0.0})


def test_it_is_torchs_cross_entropy_with_label_smoothing() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
    label = torch.tensor([0, 2])
    out = Output(logits, torch.zeros(2, 4))
    target_BK = torch.eye(3)[label]
    expected = F.cross_entropy(logits, label, label_smoothing=0.2).item()
    assert MyComponent(3, smoothing=0.2)(out, target_BK).item() == pytest.approx(expected)
