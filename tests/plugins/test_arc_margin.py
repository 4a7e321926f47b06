"""The plugin arc_margin against a loop over the published formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.paths import REPO
from helpers.reference_math import centroids, randn, unit
from mmctl.plugin import Output
from mmctl.registry.index import Index
from mmctl.testing import LossContract

B, D, K = 6, 5, 4


class TestArcMargin(LossContract):
    component = "arc_margin"
    params = ({}, {"margin": 0.0}, {"margin": 1.0, "scale": 30.0})


def arc_margin(at: Any, **params: Any) -> Any:
    index = Index(REPO / "plugins", sources="local")
    return index.load(index.find("loss", "arc_margin"))(at, **params)


def shown() -> Output:
    return Output(torch.zeros(B, K, dtype=torch.float64), randn(B, D, seed=2))


def loop(emb: list[float], cs: list[list[float]], c: int, m: float, s: float) -> float:
    """ArcFace's loss of one image of class c."""
    cos = [sum(a * b for a, b in zip(unit(emb), unit(v), strict=True)) for v in cs]
    angle = math.acos(cos[c])
    own = math.cos(angle + m) if angle + m < math.pi else cos[c] - m * math.sin(m)
    logits = [s * (own if j == c else cos[j]) for j in range(len(cs))]
    return math.log(sum(math.exp(v) for v in logits)) - logits[c]


@pytest.mark.parametrize(("margin", "scale"), [(0.0, 1.0), (0.3, 8.0), (0.5, 30.0), (1.4, 4.0)])
def test_it_is_the_formula(margin: float, scale: float) -> None:
    mean, out, target = randn(K, D), shown(), randn(B, K, seed=4).softmax(-1)
    got = arc_margin(centroids(mean), margin=margin, scale=scale)(out, target).item()
    expected = 0.0
    for i in range(B):
        for c in range(K):
            expected += target[i, c].item() * loop(out.emb[i].tolist(), mean.tolist(), c, margin, scale) / B
    assert got == pytest.approx(expected, rel=1e-6)


def test_a_margin_makes_the_loss_larger_and_the_angle_to_the_own_class_smaller() -> None:
    mean, target = randn(K, D), torch.eye(K, dtype=torch.float64)[torch.arange(B) % K]
    values = [arc_margin(centroids(mean), margin=m)(shown(), target).item() for m in (0.0, 0.2, 0.4)]
    assert values == sorted(values)
    emb: Tensor = shown().emb.requires_grad_()
    before = torch.nn.functional.cosine_similarity(emb, mean[torch.arange(B) % K])
    arc_margin(centroids(mean))(Output(shown().logits, emb), target).backward()
    after = torch.nn.functional.cosine_similarity(emb - 0.01 * emb.grad, mean[torch.arange(B) % K])
    assert (after > before).all()


def test_a_class_without_a_centroid_is_left_out() -> None:
    mean, target = randn(K, D), torch.full((B, K), 1 / K, dtype=torch.float64)
    some = arc_margin(centroids(mean, seen=[True, True, False, True]))(shown(), target).item()
    three = [0, 1, 3]
    only = arc_margin(centroids(mean[three]))(shown(), target[:, three]).item()
    assert some == pytest.approx(only, rel=1e-9)
    emb = shown().emb.requires_grad_()
    value = arc_margin(centroids(mean, seen=[False] * K))(Output(shown().logits, emb), target)
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(emb.grad).all()


def test_at_a_centroid_the_gradient_is_finite() -> None:
    mean = randn(K, D)
    for sign in (1, -1):
        emb = (sign * mean[:1]).clone().requires_grad_()
        out = Output(torch.zeros(1, K, dtype=torch.float64), emb)
        arc_margin(centroids(mean))(out, torch.eye(K, dtype=torch.float64)[:1]).backward()
        assert torch.isfinite(emb.grad).all()
