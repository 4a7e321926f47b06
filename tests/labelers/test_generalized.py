"""The generalised distance of equations 4 and 5: as it is printed, and equal to the Euclidean case in float64."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from helpers.reference_math import centroids, randn, settings
from mmctl.labelers.centroid import Fuzzy
from mmctl.labelers.generalized import GeneralizedFuzzy
from mmctl.losses.generalized import GeneralizedMargin
from mmctl.losses.margin import LargeMargin
from mmctl.ops import Distance, distance_to_means, pairwise_distance
from mmctl.plugin import Output
from mmctl.training.centroids import Centroids

B, N, D, K = 6, 11, 5, 4
DISTANCES = get_args(Distance)


def points() -> tuple[Tensor, Tensor, Tensor]:
    """Points BD, remembered points ND, and memberships NK: soft ones, hard ones, and a row that is not a member."""
    member_NK = randn(N, K, seed=3).softmax(-1)
    member_NK[:4] = torch.eye(K, dtype=torch.float64)
    member_NK[4] = 0
    return randn(B, D, seed=1), randn(N, D, seed=2), member_NK


def pair(x: list[float], y: list[float], distance: str, bandwidth: float) -> float:
    if distance == "manhattan":
        return sum(abs(a - b) for a, b in zip(x, y, strict=True))
    square = sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    if distance == "gaussian":
        return 2 - 2 * math.exp(-square / (2 * bandwidth**2))
    if distance == "cosine":
        return 2 - 2 * sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
    return square


@pytest.mark.parametrize("distance", DISTANCES)
def test_pairs_are_their_formulas(distance: Distance) -> None:
    x, y, _ = points()
    got = pairwise_distance(x, y, distance, 0.7)
    for i in range(B):
        for j in range(N):
            expected = pair(x[i].tolist(), y[j].tolist(), distance, 0.7)
            assert got[i, j].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_distance_is_equation_4_as_it_is_printed(distance: Distance) -> None:
    """-w^T A w / 2 with w = s_c - b_i, over the matrix of all remembered points and the point itself."""
    x, y, member = points()
    got = distance_to_means(pairwise_distance(x, y, distance), pairwise_distance(y, y, distance), member)
    for i in range(B):
        together = torch.cat((y, x[i : i + 1]))
        a = pairwise_distance(together, together, distance)
        for c in range(K):
            s = torch.cat((member[:, c] / member[:, c].sum(), torch.zeros(1, dtype=torch.float64)))
            b = torch.zeros(N + 1, dtype=torch.float64)
            b[N] = 1
            w = s - b
            assert w.sum().item() == pytest.approx(0, abs=1e-12)  # the side condition of eq. 4
            assert got[i, c].item() == pytest.approx((-0.5 * w @ a @ w).item(), rel=1e-9, abs=1e-12)
    assert (got > 0).all()


def test_a_euclidean_matrix_gives_the_distance_to_the_mean_of_equation_5() -> None:
    x, y, member = points()
    got = distance_to_means(pairwise_distance(x, y, "euclidean"), pairwise_distance(y, y, "euclidean"), member)
    mean_KD = member.T @ y / member.sum(0)[:, None]
    expected = (x[:, None] - mean_KD).square().sum(-1)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_a_kernel_gives_the_distance_of_kernel_k_means() -> None:
    """k(x, x) - 2 mean_j k(x, y_j) + mean_jl k(y_j, y_l), for the kernel that the distance is made of."""
    x, y, member = points()
    got = distance_to_means(pairwise_distance(x, y, "gaussian"), pairwise_distance(y, y, "gaussian"), member)
    share = member / member.sum(0)
    cross, within = (1 - pairwise_distance(a, y, "gaussian") / 2 for a in (x, y))
    expected = 1 - 2 * cross @ share + (share * (within @ share)).sum(0)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)


def memory(normalize: bool = True, unseen: bool = False) -> Centroids:
    """Centroids of the estimator `memory` after some images, float64; unseen: the last class has none yet."""
    table = settings(estimator="memory", normalize_embeddings=normalize, normalize_centroids=False)
    made = Centroids(K, D, table, N).to(torch.float64)
    target = torch.eye(K, dtype=torch.float64)[torch.arange(N) % (K - unseen)]
    for rows in (torch.arange(7), torch.arange(5, N)):
        made.update(randn(len(rows), D, seed=len(rows)), target[rows], rows)
    return made


def shown(grad: bool = False) -> Output:
    return Output(torch.zeros(B, K, dtype=torch.float64), randn(B, D, seed=9).requires_grad_(grad))


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_euclidean_components_are_the_usual_ones(normalize: bool, unseen: bool) -> None:
    at = memory(normalize, unseen)
    prior: Tensor = torch.full((K,), 1 / K, dtype=torch.float64)
    batch: Any = None
    ours = GeneralizedFuzzy(at, distance="euclidean")(shown(), shown(), batch=batch)
    usual = Fuzzy(prior, at)(shown(), shown(), batch=batch)
    assert torch.allclose(ours.target, usual.target, rtol=1e-9, atol=1e-12)
    target = randn(B, K, seed=5).softmax(-1)
    weight = torch.rand(B, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, gradients = [], []
    for loss in (GeneralizedMargin(at, distance="euclidean"), LargeMargin(at)):
        out = shown(grad=True)
        value = loss(out, target, weight)
        value.backward()
        values.append(value.item())
        gradients.append(out.emb.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert torch.allclose(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_before_any_image_all_classes_are_equal(distance: Distance) -> None:
    empty = Centroids(K, D, settings(estimator="memory"), N).to(torch.float64)
    batch: Any = None
    labels = GeneralizedFuzzy(empty, distance=distance)(shown(), batch=batch)
    assert torch.allclose(labels.target, torch.full((B, K), 1 / K, dtype=torch.float64))
    assert GeneralizedMargin(empty, distance=distance)(shown(), labels.target).item() == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_with_another_estimator_a_class_is_its_centroid(distance: Distance) -> None:
    at = centroids(randn(K, D, seed=8), seen=[True, True, False, True])
    batch: Any = None
    ours = GeneralizedFuzzy(at, distance=distance)(shown(), batch=batch).target
    pairs = pairwise_distance(at.normalized(shown().emb), at.centers(), distance)[:, [0, 1, 3]]
    expected = (1 / pairs) / (1 / pairs).sum(-1, keepdim=True)  # eq. 6
    expected = expected**4 / (expected**4).sum(-1, keepdim=True)  # eq. 8 at T = 0.25
    assert torch.allclose(ours[:, [0, 1, 3]], expected, rtol=1e-9, atol=1e-12)
    assert (ours[:, 2] == 0).all()
    if distance == "euclidean":
        usual = Fuzzy(torch.full((K,), 1 / K, dtype=torch.float64), at)(shown(), batch=batch).target
        assert torch.allclose(ours, usual, rtol=1e-9, atol=1e-12)
        target = randn(B, K, seed=5).softmax(-1)
        one, other = GeneralizedMargin(at, distance=distance), LargeMargin(at)
        assert one(shown(), target).item() == pytest.approx(other(shown(), target).item(), rel=1e-10)
