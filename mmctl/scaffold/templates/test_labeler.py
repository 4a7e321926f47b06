"""Tests of the labeler my_component: what mmctl expects of every labeler, and what this one promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmctl.plugin import Output
from mmctl.scaffold.templates.labeler import MyComponent
from mmctl.testing import LabelerContract


class TestMyComponent(LabelerContract):
    component = "my_component"
    params = ({}, {"temperature": 1.0})


def test_a_low_temperature_makes_labels_more_confident() -> None:
    batch: Any = None  # this labeler does not look at it
    view = Output(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 4))
    at_1 = MyComponent(temperature=1.0)(view, batch=batch).target[0, 1].item()
    assert at_1 == pytest.approx(view.probs[0, 1].item())
    assert MyComponent(temperature=0.5)(view, batch=batch).target[0, 1].item() > at_1
