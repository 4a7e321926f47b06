"""Tests of the loss gce: what mmctl expects of every loss, and what this one promises."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mmctl.plugin import Output
from mmctl.testing import LossContract
from mmctl_gce.gce import Gce


class TestGce(LossContract):
    component = "gce"
    params = ({}, {"q": 0.01}, {"q": 1.0})


def shown() -> tuple[Output, torch.Tensor]:
    """Predictions for 5 images of 3 classes, and the numbers of their classes."""
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Output(logits, torch.zeros(5, 4)), torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_it_is_the_formula(q: float) -> None:
    out, label = shown()
    p = out.probs[torch.arange(5), label]
    expected = ((1 - p**q) / q).mean().item()
    assert Gce(q=q)(out, torch.eye(3)[label]).item() == pytest.approx(expected)


def test_near_zero_it_is_cross_entropy() -> None:
    out, label = shown()
    assert Gce(q=1e-6)(out, torch.eye(3)[label]).item() == pytest.approx(
        F.cross_entropy(out.logits, label).item(), 1e-5
    )


def test_a_label_that_the_network_finds_improbable_pulls_less_than_in_cross_entropy() -> None:
    logits = torch.tensor([[4.0, 0.0, 0.0]], requires_grad=True)
    wrong = torch.tensor([[0.0, 1.0, 0.0]])
    pulls = []
    for value in (Gce(q=0.7)(Output(logits, logits), wrong), -(wrong * logits.log_softmax(-1)).sum()):
        (gradient,) = torch.autograd.grad(value, logits)
        pulls.append(gradient.norm().item())
    assert pulls[0] < 0.1 * pulls[1]
