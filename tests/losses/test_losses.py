"""Losses against float64 loops of equations 2 and 3, their closed forms, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.reference_math import centroids, margin, output, randn, softmax, squared, unit
from mmctl.losses.classification import brier, entropy, kl, soft_cross_entropy
from mmctl.losses.margin import Center, LargeMargin
from mmctl.plugin import Output

K, D, B = 4, 5, 6


def soft(n: int = B, k: int = K) -> Tensor:
    """Label distributions."""
    return randn(n, k, seed=11).softmax(-1)


def every() -> dict[str, Any]:
    """All losses, by name."""
    at = centroids(randn(K, D))
    return {
        "soft_cross_entropy": soft_cross_entropy(),
        "brier": brier(),
        "kl": kl(),
        "entropy": entropy(),
        "large_margin": LargeMargin(at),
        "large_margin_plain": LargeMargin(centroids(randn(K, D), distance="plain")),
        "large_margin_unseen": LargeMargin(centroids(randn(K, D), seen=[True, True, False, True])),
        "center": Center(at),
    }


NAMES = list(every())


def shown() -> Output:
    return Output(2 * randn(B, K, seed=1), randn(B, D, seed=2))


def test_soft_cross_entropy_is_its_loop() -> None:
    out, y = shown(), soft()
    expected = 0.0
    for logits, target in zip(out.logits.tolist(), y.tolist(), strict=True):
        expected -= sum(t * math.log(p) for t, p in zip(target, softmax(logits), strict=True)) / B
    assert soft_cross_entropy()(out, y).item() == pytest.approx(expected, rel=1e-12)


def test_brier_is_the_mean_over_classes() -> None:
    out, y = shown(), soft()
    expected = 0.0
    for logits, target in zip(out.logits.tolist(), y.tolist(), strict=True):
        expected += squared(softmax(logits), target) / K / B  # MixMatch divides by the number of classes
    assert brier()(out, y).item() == pytest.approx(expected, rel=1e-12)


def test_kl_is_its_loop_and_zero_for_the_same_distribution() -> None:
    out, y = shown(), soft()
    y[0] = torch.tensor([0.0, 1.0, 0.0, 0.0])  # 0 log 0 is 0
    expected = 0.0
    for logits, target in zip(out.logits.tolist(), y.tolist(), strict=True):
        expected += sum(t * math.log(t / p) for t, p in zip(target, softmax(logits), strict=True) if t) / B
    assert kl()(out, y).item() == pytest.approx(expected, rel=1e-12)
    assert kl()(out, out.probs).item() == pytest.approx(0, abs=1e-12)


def test_entropy_is_of_the_prediction_alone() -> None:
    out = shown()
    expected = -sum(p * math.log(p) for logits in out.logits.tolist() for p in softmax(logits)) / B
    assert entropy()(out, soft()).item() == pytest.approx(expected, rel=1e-12)
    assert entropy()(out, out.probs).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("plain", [False, True])
def test_large_margin_is_equation_2(plain: bool) -> None:
    mean, out = randn(K, D), shown()
    labels = [0, 3, 1, 1, 2, 0]
    y = torch.eye(K, dtype=torch.float64)[labels]
    cs = [unit(c) for c in mean.tolist()]
    expected = sum(margin(unit(e), cs, c, plain) for e, c in zip(out.emb.tolist(), labels, strict=True)) / B
    loss = LargeMargin(centroids(mean, distance="plain" if plain else "squared"))
    assert loss(out, y).item() == pytest.approx(expected, rel=1e-12)


def test_large_margin_with_raw_centroids_is_equation_3() -> None:
    mean, out = 0.4 * randn(K, D), shown()
    cs = mean.tolist()
    expected = sum(margin(unit(e), cs, i % K) for i, e in enumerate(out.emb.tolist())) / B
    loss = LargeMargin(centroids(mean, normalize_centroids=False))
    assert loss(out, torch.eye(K, dtype=torch.float64)[torch.arange(B) % K]).item() == pytest.approx(expected)


@pytest.mark.parametrize("equation", [2, 3])
def test_large_margin_as_it_is_printed(equation: int) -> None:
    """Eq. 2 and 3 by the letter: D not squared, centroids of raw embeddings; their sum is B times our mean."""
    mean, out = 0.4 * randn(K, D), shown()
    labels = [0, 3, 1, 1, 2, 0]
    expected = 0.0
    for e, y in zip(out.emb.tolist(), labels, strict=True):
        e_hat = [v / math.sqrt(sum(a * a for a in e)) for v in e]
        d = []
        for c in mean.tolist():
            length = math.sqrt(sum(a * a for a in c)) if equation == 2 else 1.0
            d.append(math.sqrt(sum((a - b / length) ** 2 for a, b in zip(e_hat, c, strict=True))))
        expected += d[y] - sum(d[j] for j in range(K) if j != y) / (K - 1)
    raw = centroids(mean, normalize_embeddings=False, normalize_centroids=False, distance="plain")
    loss = LargeMargin(raw, normalize="both" if equation == 2 else "embeddings")
    y = torch.eye(K, dtype=torch.float64)[labels]
    assert B * loss(out, y).item() == pytest.approx(expected, rel=1e-12)
    weight = torch.tensor([1.0, 0.0, 0.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    rows = [loss(Output(*(t[[i]] for t in out)), y[[i]]).item() for i in range(B)]
    assert B * loss(out, y, weight).item() == pytest.approx(rows[0] + 0.5 * rows[3] + rows[4])
    logits, emb = (t.requires_grad_() for t in shown())
    assert torch.autograd.gradcheck(lambda a, b: loss(Output(a, b), soft(), weight), (logits, emb))


def test_center_loss_as_eq_1_is_printed() -> None:
    """A sum of distances of raw embeddings, B times our mean; Wen et al. have half of their squares."""
    mean, out, labels = randn(K, D), shown(), [0, 3, 1, 1, 2, 0]
    pairs = [(e, mean[c].tolist()) for e, c in zip(out.emb.tolist(), labels, strict=True)]
    y = torch.eye(K, dtype=torch.float64)[labels]
    for distance, power in (("squared", 1.0), ("plain", 0.5)):
        raw = centroids(mean, normalize_embeddings=False, normalize_centroids=False, distance=distance)
        expected = 0.5 * sum(squared(e, c) ** power for e, c in pairs)
        assert B * Center(raw)(out, y).item() == pytest.approx(expected, rel=1e-12)


def test_raw_learned_centroids_are_refused() -> None:
    """Nothing bounds the loss of eq. 3 in c: they would move away for ever."""
    at = centroids(randn(K, D), estimator="learned")
    assert math.isfinite(LargeMargin(at, normalize="both")(shown(), soft()).item())
    with pytest.raises(ValueError, match='normalize = "embeddings" cannot be used'):
        LargeMargin(at, normalize="embeddings")


def test_soft_labels_weigh_distances_by_the_closed_form() -> None:
    mean, out, y = randn(K, D), shown(), soft()
    cs = [unit(c) for c in mean.tolist()]
    expected = 0.0
    for e, target in zip(out.emb.tolist(), y.tolist(), strict=True):
        expected += sum((K * t - 1) / (K - 1) * squared(unit(e), c) for t, c in zip(target, cs, strict=True)) / B
    assert LargeMargin(centroids(mean))(out, y).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["large_margin", "large_margin_plain", "large_margin_unseen", "center"])
def test_distance_losses_are_linear_in_the_label(name: str) -> None:
    loss, out = every()[name], shown()
    a, b = soft(), torch.eye(K, dtype=torch.float64)[torch.arange(B) % K]
    for lam in (0.0, 0.3, 0.9):
        mixed = lam * loss(out, a) + (1 - lam) * loss(out, b)
        assert loss(out, lam * a + (1 - lam) * b).item() == pytest.approx(mixed.item(), abs=1e-12)


def test_uniform_labels_do_not_move_the_network() -> None:
    emb = randn(B, D).requires_grad_()
    loss = LargeMargin(centroids(randn(K, D, seed=5)))
    value = loss(output(emb), torch.full((B, K), 1 / K, dtype=torch.float64))
    assert value.item() == pytest.approx(0, abs=1e-12)
    (gradient,) = torch.autograd.grad(value, emb)
    assert gradient.abs().max().item() < 1e-12


def simplex(k: int) -> Tensor:
    """k unit vectors as far apart as can be."""
    return torch.nn.functional.normalize(torch.eye(k, dtype=torch.float64) - 1 / k, dim=-1)


@pytest.mark.parametrize("k", [2, 3, 10, 100])
def test_the_optimum_is_the_simplex(k: int) -> None:
    at = simplex(k)
    loss = LargeMargin(centroids(at))
    y = torch.eye(k, dtype=torch.float64)
    assert loss(output(3 * at, k=k), y).item() == pytest.approx(-2 * k / (k - 1), rel=1e-9)
    # At these centroids no embedding does better: the gradient there is zero.
    emb = (3 * at).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(output(emb, k=k), y), emb)
    assert gradient.abs().max().item() < 1e-9


def test_large_margin_is_bounded() -> None:
    worst = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    loss, y = LargeMargin(centroids(worst)), torch.eye(2, dtype=torch.float64)
    assert loss(output(1e6 * worst, k=2), y).item() == pytest.approx(-4)
    assert loss(output(-1e-3 * worst, k=2), y).item() == pytest.approx(4)
    for seed in range(20):
        emb = 10.0 ** (seed - 10) * randn(8, D, seed=seed)
        for target in (soft(8), torch.eye(K, dtype=torch.float64)[torch.arange(8) % K]):
            assert abs(LargeMargin(centroids(randn(K, D, seed=seed)))(output(emb), target).item()) <= 4


def test_an_unseen_class_neither_pulls_nor_pushes() -> None:
    mean, out = randn(K, D), shown()
    seen = [True, True, False, True]
    loss = LargeMargin(centroids(mean, seen))
    labels = [0, 3, 1, 1, 3, 0]
    cs = [unit(mean[c].tolist()) for c in (0, 1, 3)]
    expected = sum(margin(unit(e), cs, min(c, 2)) for e, c in zip(out.emb.tolist(), labels, strict=True)) / B
    assert loss(out, torch.eye(K, dtype=torch.float64)[labels]).item() == pytest.approx(expected)
    # An image of the unseen class itself says nothing.
    only = torch.eye(K, dtype=torch.float64)[[2] * B]
    assert loss(out, only).item() == 0
    assert Center(centroids(mean, seen))(out, only).item() == 0


def test_nothing_seen_yet_gives_zero() -> None:
    none = centroids(torch.zeros(K, D, dtype=torch.float64), [False] * K)
    for loss in (LargeMargin(none), Center(none)):
        emb = randn(B, D).requires_grad_()
        value = loss(output(emb), soft())
        (gradient,) = torch.autograd.grad(value, emb)
        assert value.item() == 0
        assert gradient.abs().sum().item() == 0


@pytest.mark.parametrize("member", ["unit", "raw"])
def test_center_is_half_the_own_distance(member: str) -> None:
    mean, out, y = randn(K, D), shown(), soft()
    expected = 0.0
    for e, target in zip(out.emb.tolist(), y.tolist(), strict=True):
        e = unit(e) if member == "unit" else e
        cs = [unit(c) if member == "unit" else c for c in mean.tolist()]
        expected += 0.5 * sum(t * squared(e, c) for t, c in zip(target, cs, strict=True)) / B
    assert Center(centroids(mean, normalize_embeddings=member == "unit", normalize_centroids=member == "unit"))(
        out, y
    ).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    loss, y = every()[name], soft()
    weight = torch.tensor([1.0, 0.0, 0.5, 1.0, 1.0, 0.2], dtype=torch.float64)
    logits, emb = (t.requires_grad_() for t in shown())
    assert torch.autograd.gradcheck(lambda a, b: loss(Output(a, b), y, weight), (logits, emb))


def test_the_margin_reaches_learned_centroids() -> None:
    at = centroids(randn(K, D), estimator="learned")
    loss, y = LargeMargin(at), soft()

    def value(mean: Tensor) -> Tensor:
        at._parameters["mean_KD"] = mean  # type: ignore[assignment]
        return loss(shown(), y)  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(value, (randn(K, D, seed=8).requires_grad_(),))


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_weight_zero_count_as_zero_in_the_mean(name: str) -> None:
    loss, out, y = every()[name], shown(), soft()
    weight = torch.tensor([1.0, 0.0, 0.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    rows = [loss(Output(*(t[[i]] for t in out)), y[[i]]).item() for i in range(B)]
    assert loss(out, y, weight).item() == pytest.approx((rows[0] + 0.5 * rows[3] + rows[4]) / B)
    assert loss(out, y, torch.zeros(B, dtype=torch.float64)).item() == 0
    assert loss(out, y, torch.ones(B, dtype=torch.float64)).item() == pytest.approx(loss(out, y).item())


@pytest.mark.parametrize("name", NAMES)
def test_order_does_not_matter(name: str) -> None:
    loss, out, y = every()[name], shown(), soft()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert loss(Output(*(t[order] for t in out)), y[order]).item() == pytest.approx(loss(out, y).item())


@pytest.mark.parametrize("name", NAMES)
def test_extreme_outputs_are_finite(name: str) -> None:
    loss = every()[name]
    logits = torch.tensor([[1e4, -1e4, 0.0, 0.0]] * B, dtype=torch.float64).requires_grad_()
    emb = torch.tensor([[1e8] * D, [0.0] * D, [1e-20] * D, *randn(3, D).tolist()], dtype=torch.float64).requires_grad_()
    value = loss(Output(logits, emb), soft())
    assert math.isfinite(value.item())
    for gradient in torch.autograd.grad(value, (logits, emb), allow_unused=True):
        assert gradient is None or torch.isfinite(gradient).all()
