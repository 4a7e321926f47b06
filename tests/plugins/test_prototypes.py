"""The plugin prototypes against a loop over its formula, and its temperature against calibrated labels."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.paths import REPO
from helpers.reference_math import centroids, randn, squared, unit
from mmctl.plugin import Output, PluginError
from mmctl.registry.index import Index
from mmctl.testing import LabelerContract

B, U, D, K = 8, 6, 5, 4


class TestPrototypes(LabelerContract):
    component = "prototypes"
    params = ({}, {"rate": 0.0, "tau": 0.0}, {"temperature": 2.0, "rate": 1.0})


def prototypes(at: Any, **params: Any) -> Any:
    index = Index(REPO / "plugins", sources="local")
    return index.load(index.find("labeler", "prototypes"))(at, **params).double()


def shown(n: int, seed: int) -> Output:
    return Output(torch.zeros(n, K, dtype=torch.float64), randn(n, D, seed=seed))


def batch(y_BK: Tensor) -> Any:
    return SimpleNamespace(y=y_BK)


def test_labels_are_the_formula() -> None:
    mean, view = randn(K, D), shown(U, 1)
    y = torch.eye(K, dtype=torch.float64)[torch.arange(B) % K]
    got = prototypes(centroids(mean), temperature=0.5, rate=0.0, tau=0.4)(view, batch=batch(y), labeled=shown(B, 2))
    for i in range(U):
        raised = [math.exp(-squared(unit(view.emb[i].tolist()), unit(c)) / 0.5) for c in mean.tolist()]
        expected = [v / sum(raised) for v in raised]
        assert got.target[i].tolist() == pytest.approx(expected, rel=1e-6)
        assert got.weight[i].item() == float(max(expected) >= 0.4)


def test_one_step_is_the_gradient_of_the_cross_entropy() -> None:
    at, labeled = centroids(randn(K, D)), shown(B, 2)
    y = torch.eye(K, dtype=torch.float64)[torch.arange(B) % K]
    log_t = torch.tensor(math.log(0.8), dtype=torch.float64, requires_grad=True)
    entropy = -(y * (-at.squared(labeled.emb) / log_t.exp()).log_softmax(-1)).sum(-1).mean()
    entropy.backward()
    labeler = prototypes(at, temperature=0.8, rate=0.03)
    labeler(shown(U, 1), batch=batch(y), labeled=labeled)
    assert labeler.log_temperature.item() == pytest.approx(log_t.item() - 0.03 * log_t.grad.item(), rel=1e-6)


@pytest.mark.parametrize("start", [0.05, 5.0])
def test_the_temperature_becomes_that_of_the_labels(start: float) -> None:
    """Labels drawn at T = 0.7 are learned back, from above and from below."""
    at, labeled = centroids(randn(K, D)), shown(4000, 2)
    probs = (-at.squared(labeled.emb) / 0.7).softmax(-1)
    generator = torch.Generator().manual_seed(0)
    y = torch.eye(K, dtype=torch.float64)[torch.multinomial(probs, 1, generator=generator)[:, 0]]
    labeler = prototypes(at, temperature=start, rate=0.5)
    for _ in range(200):
        labeler(shown(U, 1), batch=batch(y), labeled=labeled)
    assert labeler.log_temperature.exp().item() == pytest.approx(0.7, rel=0.1)


def test_a_class_without_a_centroid_gets_nothing_and_disturbs_nothing() -> None:
    labeler = prototypes(centroids(randn(K, D), seen=[True, True, False, True]), rate=0.5)
    y = torch.full((B, K), 1 / K, dtype=torch.float64)
    target = labeler(shown(U, 1), batch=batch(y), labeled=shown(B, 2)).target
    assert (target[:, 2] == 0).all()
    assert torch.isfinite(target).all()
    assert torch.isfinite(labeler.log_temperature)


def test_a_method_without_labelled_predictions_is_refused() -> None:
    with pytest.raises(PluginError, match="use the method fixmatch"):
        prototypes(centroids(randn(K, D)))(shown(U, 1), batch=None)
