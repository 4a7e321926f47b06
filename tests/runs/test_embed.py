"""Embeddings in two dimensions, and small images: what a report shows of networks and data."""

from __future__ import annotations

import base64
import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmctl.runs.embed import nearest, projections, silhouettes
from mmctl.runs.thumbnails import LARGEST, data_uri


def clouds(n: int, d: int) -> tuple[Any, Any, Any]:
    """Three clouds far from each other, their middles, and which is which."""
    dice = np.random.default_rng(0)
    middle_KD = np.zeros((3, d))
    middle_KD[:, 0] = (0.0, 10.0, 30.0)
    true_N = np.arange(n) % 3
    return middle_KD[true_N] + 0.1 * dice.normal(size=(n, d)), middle_KD, true_N


@pytest.mark.slow
def test_projections_keep_what_belongs_together() -> None:
    emb_ND, middle_KD, true_N = clouds(60, 5)
    pca, tsne = projections(emb_ND, middle_KD, np.arange(3))
    assert (pca["name"], tsne["name"]) == ("PCA", "t-SNE")
    assert pca["about"] == "The two axes hold 100 % of the variance."
    for one in (pca, tsne):
        points_N2 = np.array(one["points"])
        assert points_N2.shape == (60, 2)
        for k, place in one["centroids"].items():
            own = np.linalg.norm(points_N2[true_N == k] - place, axis=1).max()
            others = np.linalg.norm(points_N2[true_N != k] - place, axis=1).min()
            assert own < others, (one["name"], k)
    first, last = (pca["centroids"][k][0] for k in (0, 2))
    assert last - first == pytest.approx(30, abs=0.1), "the largest number of an axis is positive"


def test_projections_are_the_same_each_time() -> None:
    emb_ND, middle_KD, _ = clouds(60, 5)
    assert projections(emb_ND, middle_KD, np.arange(3)) == projections(emb_ND, middle_KD, np.arange(3))


@pytest.mark.parametrize(("n", "d", "names"), [(1, 4, ["PCA"]), (7, 4, ["PCA"]), (9, 1, ["PCA", "t-SNE"])])
def test_projections_of_little(n: int, d: int, names: list[str]) -> None:
    emb_ND, middle_KD, _ = clouds(n, d)
    made = projections(emb_ND, middle_KD, np.array([0, 2]))
    assert [one["name"] for one in made] == names
    for one in made:
        assert len(one["points"]) == n
        assert sorted(one["centroids"]) == [0, 2]
        assert np.isfinite(np.array([*one["points"], *one["centroids"].values()])).all()


def test_projections_of_equal_embeddings() -> None:
    """0.1 has no exact mean: what is left is rounding, of which no t-SNE is drawn."""
    (one,) = projections(np.full((20, 3), 0.1), np.full((2, 3), 0.1), np.arange(2))
    assert np.abs(one["points"]).max() < 1e-12


def test_how_far_classes_are_apart() -> None:
    emb_ND, middle_KD, true_N = clouds(30, 5)
    values = silhouettes(emb_ND, true_N, 4)
    assert values[3] is None
    assert all(value is not None and value > 0.9 for value in values[:3])
    assert silhouettes(emb_ND, np.zeros(30, int), 4) == [None] * 4
    assert nearest(middle_KD, np.array([True, True, True])) == [1, 0, 1]
    assert nearest(middle_KD, np.array([True, False, True])) == [2, None, 0]
    assert nearest(middle_KD, np.array([True, False, False])) == [None] * 3


def test_nearest_centroids_of_many_classes_need_little_memory() -> None:
    center_KD = np.random.default_rng(0).normal(size=(300, 200))
    tracemalloc.start()
    found = nearest(center_KD, np.ones(300, bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "300 x 300 x 200 numbers would be 144 MB"
    apart_N = np.linalg.norm(center_KD[1:] - center_KD[0], axis=1)
    assert found[0] == 1 + int(apart_N.argmin())


def opened(uri: str, kind: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_small_images_are_exact() -> None:
    pixels_CHW = np.random.default_rng(0).integers(0, 256, (1, 8, 8)).astype(np.uint8)
    assert (np.asarray(opened(data_uri(pixels_CHW), "png")) == pixels_CHW[0]).all()
    colour_CHW = np.random.default_rng(0).integers(0, 256, (3, 32, 20)).astype(np.uint8)
    assert (np.asarray(opened(data_uri(colour_CHW), "png")) == colour_CHW.transpose(1, 2, 0)).all()
    assert opened(data_uri(colour_CHW[:2]), "png").mode == "L"


def test_large_images_are_made_smaller() -> None:
    across = np.linspace(0, 255, 200).astype(np.uint8)
    pixels_CHW = np.broadcast_to(across, (3, 100, 200))
    image = opened(data_uri(pixels_CHW), "webp")
    assert image.size == (LARGEST, LARGEST // 2)
    assert len(data_uri(pixels_CHW)) < 2000
