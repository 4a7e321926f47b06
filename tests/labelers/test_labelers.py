"""Labelers against float64 loops of equations 6 to 8, and where their formulas have no answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.reference_math import centroids, membership, output, power, randn, settings, softmax, unit
from helpers.tiny_project import recipe
from mmctl.errors import RecipeError
from mmctl.labelers.centroid import Fuzzy, NearestCentroid, Product
from mmctl.labelers.softmax import Softmax
from mmctl.plugin import Output, PseudoLabels
from mmctl.training.centroids import Centroids

K, D, U = 4, 5, 6
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def every(at: Centroids) -> dict[str, Any]:
    """All labelers over these centroids."""
    prior = torch.full((at.num_classes,), 1 / at.num_classes, dtype=at.mean_KD.dtype)
    return {
        "fuzzy": Fuzzy(prior, at),
        "fuzzy_running": Fuzzy(prior, at, prior="running"),
        "nearest_centroid": NearestCentroid(prior, at),
        "product": Product(prior, at),
        "softmax": Softmax(prior),
    }


NAMES = ("fuzzy", "fuzzy_running", "nearest_centroid", "product", "softmax")
BY_DISTANCE = ("fuzzy", "fuzzy_running", "nearest_centroid", "product")


def views(n: int = 2) -> list[Output]:
    """The same images, seen n times."""
    return [Output(2 * randn(U, K, seed=20 + i), randn(U, D, seed=30 + i)) for i in range(n)]


def label(labeler: Any, *shown: Output) -> PseudoLabels:
    return labeler(*shown, batch=None)  # type: ignore[no-any-return]


def mean_of(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def memberships(shown: list[Output], mean_KD: Tensor, i: int) -> list[float]:
    """Eq. 7 for image i: eq. 6 averaged over views."""
    cs = [unit(c) for c in mean_KD.tolist()]
    return mean_of([membership(unit(v.emb[i].tolist()), cs) for v in shown])


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_fuzzy_is_equations_6_to_8(n: int, temperature: float) -> None:
    mean, shown = randn(K, D), views(n)
    target, weight = label(Fuzzy(PRIOR, centroids(mean), temperature=temperature), *shown)
    for i in range(U):
        assert target[i].tolist() == pytest.approx(power(memberships(shown, mean, i), temperature), rel=1e-9)
    assert weight.tolist() == [1.0] * U


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2])
def test_fuzzy_as_it_is_printed(n: int, temperature: float) -> None:
    """Eq. 6 to 8 by the letter: raw e and c, a sum over the views, and y_c / psi^T."""
    mean, shown = 0.4 * randn(K, D), views(n)
    raw = centroids(mean, normalize_embeddings=False, normalize_centroids=False)
    target, weight = label(Fuzzy(PRIOR, raw, temperature=temperature, sharpening="printed"), *shown)
    for i in range(U):
        y = [sum(m) for m in zip(*(membership(v.emb[i].tolist(), mean.tolist()) for v in shown), strict=True)]
        psi = sum(v ** (1 / temperature) for v in y)
        assert target[i].tolist() == pytest.approx([v / psi**temperature for v in y], rel=1e-9)
        # Nothing is sharpened: ratios stay, and labels sum to more than 1.
        assert (target[i] / target[i].sum()).tolist() == pytest.approx([v / n for v in y], rel=1e-9)
        assert target[i].sum() > 1.1 or temperature == 1.0
    assert weight.tolist() == [1.0] * U


def test_a_sure_label_and_a_tiny_temperature_are_finite() -> None:
    sure = Output(randn(1, K), torch.eye(K, D, dtype=torch.float64)[:1])
    at = centroids(torch.eye(K, D, dtype=torch.float64))
    for temperature in (1e-3, 0.25):
        target = label(Fuzzy(PRIOR, at, temperature=temperature, sharpening="printed"), sure).target
        assert target[0].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-9)


def test_the_running_prior_would_undo_eq_8_as_printed() -> None:
    with pytest.raises(ValueError, match="renormalises the labels"):
        Fuzzy(PRIOR, centroids(randn(K, D)), prior="running", sharpening="printed")


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0])
def test_sharpened_membership_is_fuzzy_c_means_with_fuzzifier_one_plus_t(temperature: float) -> None:
    mean, (shown,) = randn(K, D), views(1)
    fuzzifier = 1 + temperature
    target = label(Fuzzy(PRIOR, centroids(mean), temperature=temperature), shown).target
    cs = [unit(c) for c in mean.tolist()]
    for row, e in zip(target.tolist(), shown.emb.tolist(), strict=True):
        assert row == pytest.approx(membership(unit(e), cs, exponent=2 / (fuzzifier - 1)), rel=1e-9)


def test_confidence_falls_with_the_number_of_classes() -> None:
    # Top label where the own squared distance is .5 and all others are 2, at T = .25.
    for k, top in ((7, 0.977), (10, 0.966), (100, 0.72)):
        d = torch.full((1, k), 2.0, dtype=torch.float64)
        d[0, 0] = 0.5
        at = centroids(torch.eye(k, dtype=torch.float64))
        at.squared = lambda emb, d=d: d  # type: ignore[method-assign, assignment, misc]
        got = label(Fuzzy(torch.ones(k) / k, at), output(torch.zeros(1, k, dtype=torch.float64), k=k)).target
        assert got[0, 0].item() == pytest.approx(top, abs=0.005)


def test_the_running_prior_reweighs_and_follows() -> None:
    mean = randn(K, D)
    labeler = Fuzzy(PRIOR, centroids(mean), temperature=0.5, prior="running", momentum=0.8)
    prior = PRIOR.tolist()
    for step in range(3):
        shown = [Output(v.logits, v.emb + step) for v in views()]
        target = label(labeler, *shown).target
        rows = []
        for i in range(U):
            q = [a * b for a, b in zip(power(memberships(shown, mean, i), 0.5), prior, strict=True)]
            rows.append([v / sum(q) for v in q])
            assert target[i].tolist() == pytest.approx(rows[-1], rel=1e-9)
        prior = [0.8 * a + 0.2 * b for a, b in zip(prior, mean_of(rows), strict=True)]
        assert labeler.prior_K.tolist() == pytest.approx(prior, rel=1e-9)
    assert "prior_K" in labeler.state_dict()
    assert PRIOR.tolist() == [0.4, 0.3, 0.2, 0.1]  # the given one is not touched
    assert not Fuzzy(PRIOR, centroids(mean)).state_dict().get("prior_K")


def test_nearest_centroid_is_the_largest_membership() -> None:
    mean, shown = randn(K, D), views()
    target = label(NearestCentroid(PRIOR, centroids(mean)), *shown).target
    for i in range(U):
        q = memberships(shown, mean, i)
        assert target[i].tolist() == [float(c == q.index(max(q))) for c in range(K)]


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_softmax_sharpens_the_mean_prediction(temperature: float) -> None:
    shown = views(3)
    target = label(Softmax(PRIOR, temperature=temperature), *shown).target
    for i in range(U):
        p = mean_of([softmax(v.logits[i].tolist()) for v in shown])
        assert target[i].tolist() == pytest.approx(power(p, temperature), rel=1e-9)


def test_product_needs_both_opinions() -> None:
    mean, shown = randn(K, D), views()
    target = label(Product(PRIOR, centroids(mean), temperature=0.5), *shown).target
    for i in range(U):
        p = mean_of([softmax(v.logits[i].tolist()) for v in shown])
        q = [a * b for a, b in zip(memberships(shown, mean, i), p, strict=True)]
        assert target[i].tolist() == pytest.approx(power([v / sum(q) for v in q], 0.5), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_distributions_without_gradient(name: str) -> None:
    shown = [Output(v.logits.requires_grad_(), v.emb.requires_grad_()) for v in views()]
    target, weight = label(every(centroids(randn(K, D)))[name], *shown)
    assert target.sum(-1).tolist() == pytest.approx([1.0] * U)
    assert target.min() >= 0
    assert weight.shape == (U,)
    assert not target.requires_grad
    assert not weight.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_labels_follow_the_order_of_images_and_of_classes(name: str) -> None:
    mean, shown = randn(K, D), views()
    target = label(every(centroids(mean))[name], *shown).target
    order = torch.tensor([4, 2, 0, 5, 3, 1])
    moved = label(every(centroids(mean))[name], *[Output(v.logits[order], v.emb[order]) for v in shown]).target
    assert torch.allclose(moved, target[order], atol=1e-12)
    swap = torch.tensor([2, 0, 3, 1])
    renamed = label(every(centroids(mean[swap]))[name], *[Output(v.logits[:, swap], v.emb) for v in shown]).target
    assert torch.allclose(renamed, target[:, swap], atol=1e-12)
    assert torch.allclose(label(every(centroids(mean))[name], *reversed(shown)).target, target, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_outputs_give_finite_labels(name: str, dtype: torch.dtype) -> None:
    mean = randn(K, D).to(dtype)
    logits = torch.tensor([[1e4, -1e4, 0, 0], [-1e4] * K, [0] * K, [80, 79, -200, 0]], dtype=dtype)
    emb = torch.stack([mean[0], torch.zeros(D, dtype=dtype), 1e18 * mean[1], -1e-18 * mean[2]])
    target, _ = label(every(centroids(mean))[name], Output(logits, emb))
    assert torch.isfinite(target).all()
    assert target.sum(-1).tolist() == pytest.approx([1.0] * 4, abs=1e-5)


@pytest.mark.parametrize("name", ["fuzzy", "fuzzy_running"])
def test_nothing_seen_yet_gives_uniform_labels(name: str) -> None:
    none = Centroids(K, D, settings()).double()
    target = label(every(none)[name], *views()).target
    assert torch.allclose(target, torch.full((U, K), 1 / K, dtype=torch.float64))


def test_the_product_is_the_head_while_nothing_is_seen() -> None:
    shown = views()
    got = label(Product(PRIOR, Centroids(K, D, settings()).double(), temperature=0.5), *shown).target
    assert torch.allclose(got, label(Softmax(PRIOR, temperature=0.5), *shown).target)


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_a_class_without_a_centroid_gets_no_label(name: str) -> None:
    seen = [True, False, True, True]
    target = label(every(centroids(randn(K, D), seen))[name], *views()).target
    assert target[:, 1].abs().max().item() < 1e-12
    assert target.sum(-1).tolist() == pytest.approx([1.0] * U)


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_an_image_on_a_centroid_gets_its_label(name: str) -> None:
    mean = randn(K, D)
    target = label(every(centroids(mean))[name], output(7 * mean[[2, 0]], k=K)).target
    assert target.tolist() == [pytest.approx([0, 0, 1, 0], abs=1e-6), pytest.approx([1, 0, 0, 0], abs=1e-6)]


def test_coincident_centroids_share_a_label() -> None:
    mean = randn(K, D)
    mean[1] = mean[0]
    target = label(Fuzzy(PRIOR, centroids(mean)), output(mean[[0]], k=K)).target
    assert target[0].tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=1e-6)


def test_a_zero_embedding_gets_a_uniform_label() -> None:
    target = label(Fuzzy(PRIOR, centroids(randn(K, D))), output(torch.zeros(1, D, dtype=torch.float64), k=K)).target
    assert target[0].tolist() == pytest.approx([1 / K] * K)


def test_equation_6_squares_whatever_distance_the_loss_takes() -> None:
    mean, shown = randn(K, D), views()
    a, b = (label(Fuzzy(PRIOR, centroids(mean, distance=d)), *shown).target for d in ("squared", "plain"))
    assert torch.equal(a, b)


def test_raw_embeddings_against_unit_centroids_go_uniform() -> None:
    # The trap of mixing geometries: far from the sphere all distances are alike, and sharpening cannot undo it.
    mean, far = randn(K, D), output(1e4 * randn(U, D, seed=3), k=K)
    raw = label(Fuzzy(PRIOR, centroids(mean, normalize_embeddings=False)), far).target
    same = label(Fuzzy(PRIOR, centroids(mean)), far).target
    assert raw.amax(-1).mean() < 0.27
    assert same.amax(-1).mean() > 0.5


def test_a_temperature_near_zero_is_the_nearest_centroid() -> None:
    mean, shown = randn(K, D), views()
    cold = label(Fuzzy(PRIOR, centroids(mean), temperature=1e-3), *shown).target
    assert torch.allclose(cold, label(NearestCentroid(PRIOR, centroids(mean)), *shown).target, atol=1e-6)


@pytest.mark.parametrize("temperature", ["0.0", "-0.5"])
def test_a_temperature_of_zero_is_refused(temperature: str) -> None:
    with pytest.raises(RecipeError, match=r"labeler\.temperature"):
        recipe("marginmix", f"labeler.temperature={temperature}")
