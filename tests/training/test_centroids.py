"""Every estimator and geometry of the centroids against plain float64 loops of equations 1 and 6."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from helpers.reference_math import centroids, membership, randn, settings, squared, unit
from mmctl.errors import UserError
from mmctl.training.centroids import Centroids
from mmctl.training.model import Model

K, D = 4, 5


def batches(soft: bool = False) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Six labelled batches (embedding, target, rows); class 3 comes late, classes go missing, one row comes twice."""
    made = []
    labels = [[0, 0, 1, 2], [1, 1, 1, 1], [0, 2, 2, 0], [3, 0, 3, 1], [2, 2, 2, 3], [0, 1, 2, 3]]
    rows = [[0, 1, 2, 3], [2, 4, 5, 2], [0, 3, 6, 1], [7, 0, 8, 2], [3, 6, 9, 7], [1, 2, 3, 8]]
    for i, (label, row) in enumerate(zip(labels, rows, strict=True)):
        target = torch.nn.functional.one_hot(torch.tensor(label), K).double()
        if soft:
            target = 0.7 * target + 0.3 * randn(4, K, seed=50 + i).softmax(-1)
        made.append((randn(4, D, seed=i), target, torch.tensor(row)))
    return made


def plainly(estimator: str, rate: float, raw: bool, soft: bool) -> list[list[float]]:
    """Eq. 1 with each estimator, in loops."""
    mean = [[0.0] * D for _ in range(K)]
    seen = [False] * K
    memory: dict[int, tuple[list[float], list[float]]] = {}
    for emb, target, rows in batches(soft):
        members = [list(e) if raw else unit(e) for e in emb.tolist()]
        pairs = list(zip(members, target.tolist(), strict=True))
        if estimator == "memory":
            for row, pair in zip(rows.tolist(), pairs, strict=True):
                memory[row] = pair
            pairs = list(memory.values())
        for c in range(K):
            n = sum(y[c] for _, y in pairs)
            if n == 0:
                continue
            m = [sum(y[c] * e[d] for e, y in pairs) / n for d in range(D)]
            by = {"running": rate * n / (1 + n), "ema": rate, "batch": 1.0, "memory": 1.0}[estimator]
            by = by if seen[c] else 1.0
            mean[c] = [a + by * (b - a) for a, b in zip(mean[c], m, strict=True)]
            seen[c] = True
    return mean


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("member", ["unit", "raw"])
@pytest.mark.parametrize("estimator", ["running", "ema", "batch", "memory"])
def test_estimators_are_their_loops(estimator: str, member: str, soft: bool) -> None:
    made = Centroids(
        K, D, settings(estimator=estimator, normalize_embeddings=member == "unit", rate=0.3), num_labeled=10
    ).double()
    assert made.per_step
    for emb, target, rows in batches(soft):
        made.update(emb, target, rows)
    expected = plainly(estimator, 0.3, member == "raw", soft)
    assert torch.allclose(made.mean_KD, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert made.seen_K.all()


def test_the_first_batch_of_a_class_sets_its_centroid() -> None:
    made = Centroids(K, D, settings()).double()
    emb = randn(3, D)
    made.update(emb, torch.eye(K, dtype=torch.float64)[[0, 0, 2]])
    assert made.seen_K.tolist() == [True, False, True, False]
    assert made.mean_KD[2].tolist() == pytest.approx(unit(emb[2].tolist()))
    assert made.mean_KD[1].abs().sum() == 0


@pytest.mark.parametrize("estimator", ["running", "ema", "batch", "memory"])
def test_an_absent_class_keeps_its_centroid(estimator: str) -> None:
    made = Centroids(K, D, settings(estimator=estimator), num_labeled=8).double()
    made.update(randn(4, D), torch.eye(K, dtype=torch.float64), torch.arange(4))
    before = made.mean_KD.clone()
    made.update(randn(2, D, seed=1), torch.eye(K, dtype=torch.float64)[[1, 1]], torch.tensor([4, 5]))
    kept = [0, 2, 3]
    assert torch.equal(made.mean_KD[kept], before[kept])
    assert not torch.allclose(made.mean_KD[1], before[1])


@pytest.mark.parametrize("estimator", ["learned", "exact"])
def test_estimators_without_a_batch_ignore_batches(estimator: str) -> None:
    made = Centroids(K, D, settings(estimator=estimator)).double()
    before = made.mean_KD.clone()
    made.update(randn(4, D), torch.eye(K, dtype=torch.float64))
    assert not made.per_step
    assert torch.equal(made.mean_KD, before)


def test_learned_centroids_are_a_parameter_with_its_own_rate() -> None:
    made = Centroids(K, D, settings(estimator="learned", rate=0.7))
    assert isinstance(made.mean_KD, nn.Parameter)
    assert made.optim == {"lr": 0.7, "momentum": 0.0, "weight_decay": 0.0}
    assert made.seen_K.all()
    made.squared(randn(2, D, dtype=torch.float32)).sum().backward()
    assert made.mean_KD.grad is not None
    assert made.mean_KD.grad.abs().sum() > 0
    with pytest.raises(UserError, match="normalize_centroids"):
        Centroids(K, D, settings(estimator="learned", normalize_centroids=False))


def test_other_centroids_are_constants_of_the_loss() -> None:
    made = centroids(randn(K, D))
    emb = randn(3, D, seed=1).requires_grad_()
    made.distance(emb).sum().backward()
    assert emb.grad is not None
    assert not any(p.requires_grad for p in made.parameters())
    assert made.centers().grad_fn is None


class Flat(nn.Module):
    """Embeds an image as its pixels."""

    embed_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("member", ["unit", "raw"])
def test_refit_gives_exact_means_in_eval_mode(member: str) -> None:
    net = Model(Flat(), 3).double()
    x = randn(7, 1, 2, 2) * 3 + 1
    y = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1, 1, 0, 1]]
    made = Centroids(3, 4, settings(estimator="exact", normalize_embeddings=member == "unit")).double()
    made.mean_KD[2] = 9.0  # no image of class 2: kept, and still unseen
    made.refit(net, [(x[:4], y[:4]), (x[4:], y[4:])])
    emb = (x.flatten(1) / math.sqrt(1 + 1e-5)).tolist()  # batch norm at its start: mean 0, variance 1
    members = emb if member == "raw" else [unit(e) for e in emb]
    for c, rows in ((0, (0, 1, 5)), (1, (2, 3, 4, 6))):
        mean = [sum(members[r][d] for r in rows) / len(rows) for d in range(4)]
        assert made.mean_KD[c].tolist() == pytest.approx(mean, abs=1e-12)
    assert made.mean_KD[2].tolist() == [9.0] * 4
    assert made.seen_K.tolist() == [True, True, False]
    assert int(net.backbone.norm.num_batches_tracked) == 0  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("distance", ["squared", "plain"])
@pytest.mark.parametrize("norm", ["unit", "raw"])
@pytest.mark.parametrize("member", ["unit", "raw"])
def test_distances_in_every_geometry(member: str, norm: str, distance: str) -> None:
    mean, emb = 2 * randn(K, D), 3 * randn(6, D, seed=1)
    made = centroids(mean, normalize_embeddings=member == "unit", normalize_centroids=norm == "unit", distance=distance)
    es = [e if member == "raw" else unit(e) for e in emb.tolist()]
    cs = [c if norm == "raw" else unit(c) for c in mean.tolist()]
    expected = torch.tensor([[squared(e, c) for c in cs] for e in es], dtype=torch.float64)
    assert torch.allclose(made.squared(emb), expected, atol=1e-12)
    assert torch.allclose(made.distance(emb), expected.sqrt() if distance == "plain" else expected, atol=1e-12)
    for row, e in zip(made.membership(emb).tolist(), es, strict=True):
        assert row == pytest.approx(membership(e, cs), rel=1e-9)


@pytest.mark.parametrize("k", [2, 100])
def test_membership_for_few_and_many_classes(k: int) -> None:
    mean, emb = randn(k, 8), randn(5, 8, seed=1)
    got = centroids(mean).membership(emb)
    for row, e in zip(got.tolist(), emb.tolist(), strict=True):
        assert row == pytest.approx(membership(unit(e), [unit(c) for c in mean.tolist()]), rel=1e-9)
        assert sum(row) == pytest.approx(1)


def test_unseen_classes_get_no_membership() -> None:
    mean, emb = randn(K, D), randn(3, D, seed=1)
    got = centroids(mean, seen=[True, False, True, True]).membership(emb)
    assert (got[:, 1] == 0).all()
    for row, e in zip(got.tolist(), emb.tolist(), strict=True):
        others = membership(unit(e), [unit(mean[c].tolist()) for c in (0, 2, 3)])
        assert [row[0], row[2], row[3]] == pytest.approx(others)


def test_nothing_seen_yet_is_uniform() -> None:
    got = Centroids(K, D, settings()).membership(randn(3, D, dtype=torch.float32))
    assert torch.allclose(got, torch.full((3, K), 1 / K))


def test_zero_distance_takes_all() -> None:
    mean = randn(K, D)
    got = centroids(mean).membership(mean[[2]] * 5)  # on the sphere: the same point
    assert got[0].tolist() == pytest.approx([0, 0, 1, 0], abs=1e-9)
    assert torch.isfinite(got).all()


def test_coincident_centroids_share() -> None:
    mean = randn(K, D)
    mean[3] = mean[1]
    for emb in (mean[[1]], randn(1, D, seed=4)):
        got = centroids(mean).membership(emb)[0]
        assert got[1].item() == pytest.approx(got[3].item())
    all_one = centroids(mean[:1].expand(K, D).clone()).membership(mean[:1])
    assert torch.allclose(all_one, torch.full((1, K), 1 / K, dtype=torch.float64))


@pytest.mark.parametrize("distance", ["squared", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_embedding_is_finite(distance: str, dtype: torch.dtype) -> None:
    made = centroids(randn(K, D).to(dtype), distance=distance)
    emb = torch.zeros(2, D, dtype=dtype, requires_grad=True)
    assert torch.allclose(made.membership(emb), torch.full((2, K), 1 / K, dtype=dtype))
    made.distance(emb)[:, 0].sum().backward()
    assert emb.grad is not None
    assert torch.isfinite(emb.grad).all()
    assert emb.grad.abs().max() < 1e7  # torch's own eps would give 1e12


def test_the_plain_distance_has_no_gradient_at_zero() -> None:
    made = centroids(randn(K, D), normalize_embeddings=False, normalize_centroids=False, distance="plain")
    emb = made.mean_KD[[1]].clone().requires_grad_()
    distance = made.distance(emb)
    assert distance[0, 1].item() == 0
    (gradient,) = torch.autograd.grad(distance[0, 1], emb)
    assert gradient.tolist() == [[0.0] * D]


def test_gradients_of_distances_are_right() -> None:
    for distance in ("squared", "plain"):
        for member in ("unit", "raw"):
            made = centroids(randn(K, D), normalize_embeddings=member == "unit", distance=distance)
            assert torch.autograd.gradcheck(made.distance, (randn(3, D, seed=2).requires_grad_(),))


def test_half_precision_embeddings() -> None:
    made = centroids(randn(K, D).float())
    exact = made.membership(randn(8, D, seed=1).float())
    half = randn(8, D, seed=1).bfloat16()
    assert torch.allclose(made.membership(half).float(), exact, atol=0.05)
    made.update(half.float(), torch.eye(K)[torch.arange(8) % K])
    assert torch.isfinite(made.mean_KD).all()


def test_signals_show_a_collapse() -> None:
    same = centroids(torch.ones(K, D) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])).signals()
    assert same["centroid_cosine"].item() == pytest.approx(1, abs=1e-6)
    assert same["centroid_length_min"].item() == pytest.approx(math.sqrt(D))
    assert same["centroid_length_max"].item() == pytest.approx(4 * math.sqrt(D))
    apart = centroids(torch.eye(D)[:K], seen=[True, True, True, False]).signals()
    assert apart["centroid_cosine"].item() == pytest.approx(0, abs=1e-6)
    assert apart["centroids_unseen"].item() == pytest.approx(0.25)
    opposite = centroids(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])).signals()
    assert opposite["centroid_cosine"].item() == pytest.approx(-1)
