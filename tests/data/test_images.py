"""Images as networks see them: normalisation, targets, and the rows that are shown."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.small_images import images
from mmctl.data.images import Normalization, Pictures, check_images, one_hot
from mmctl.errors import DataError
from mmctl.plugin import Images

CPU = torch.device("cpu")


def test_norm_is_the_moments_of_the_pixels() -> None:
    data = images(5000)  # more than one chunk
    norm = Normalization.of(data, object())
    pixels = data.pixels.double().numpy() / 255
    assert norm.mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert norm.std == pytest.approx(pixels.std((0, 2, 3)))
    x = norm.on(CPU)(data.pixels)
    assert x.mean((0, 2, 3)).abs().max() < 1e-4
    assert x.std((0, 2, 3)).tolist() == pytest.approx([1, 1], abs=1e-3)
    constant = Images(torch.full((3, 1, 2, 2), 7, dtype=torch.uint8), np.zeros(3, np.int64), ("a",), "abc", "f")
    assert torch.isfinite(Normalization.of(constant, object()).on(CPU)(constant.pixels)).all()


def test_the_pixels_of_a_memory_map_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = images()
    np.save(tmp_path / "pixels.npy", loaded.pixels)
    data = replace(loaded, pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"), fingerprint="counted once")
    norm = Normalization.of(data, object())
    assert norm == Normalization.of(loaded, object())
    count = np.bincount
    monkeypatch.setattr(np, "bincount", None)
    assert Normalization.of(replace(data), object()) == norm
    monkeypatch.setattr("mmctl.data.images._known", {})  # another process
    assert Normalization.of(replace(data), object()) == norm
    with pytest.raises(TypeError):
        Normalization.of(replace(data, fingerprint="other pixels"), object())
    os.utime(tmp_path / "pixels.npy", ns=(1, 1))  # written again by a plugin whose fingerprint stays
    with pytest.raises(TypeError):
        Normalization.of(data, object())
    monkeypatch.setattr(np, "bincount", count)
    Normalization.of(data, object())
    (kept,) = (tmp_path / "cache" / "mmctl").glob("*.json")
    whole = kept.read_text()
    assert whole.count("[[") == 2
    for damage in ("{", "[]", "{}", whole.replace("[[", "[[NaN, "), whole.replace("[[", "[0, [")):
        kept.write_text(damage)
        monkeypatch.setattr("mmctl.data.images._known", {})
        assert Normalization.of(data, object()) == norm, damage


def test_without_a_cache_a_memory_map_is_counted_in_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = images()
    np.save(tmp_path / "pixels.npy", loaded.pixels)
    data = replace(loaded, pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"), fingerprint="no cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "pixels.npy"))  # cannot be a folder
    assert Normalization.of(data, object()) == Normalization.of(loaded, object())


def test_norm_of_pretrained_weights_is_theirs() -> None:
    class Pretrained:
        mean, std = np.array([0.1, 0.2]), np.array([0.3, 0.4])

    assert Normalization.of(images(), Pretrained()) == Normalization((0.1, 0.2), (0.3, 0.4))


def test_one_hot_of_numbers_and_of_distributions() -> None:
    assert one_hot(images())[[0, 1, -1]].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    shares = np.array([[0.25, 0.75], [0, 0]])
    soft = Images(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), shares, ("a", "b"), "ab", "f")
    assert one_hot(soft).tolist() == shares.tolist()
    assert one_hot(soft).dtype == np.float32


def test_images_without_a_label_are_shown_if_asked() -> None:
    pictures = Pictures(images(), Normalization((0, 0), (1, 1)), CPU, batch=16, unlabeled=True)
    targets = torch.cat([y for _, y in pictures])
    assert len(pictures) == len(targets) == 40
    assert targets.sum(-1).tolist() == [1] * 38 + [0, 0]


@pytest.mark.parametrize(("batch", "sizes"), [(16, [13, 13, 12]), (40, [38]), (37, [19, 19]), (1, [1] * 38)])
def test_images_are_dealt_into_batches_of_one_size(batch: int, sizes: list[int]) -> None:
    pictures = Pictures(images(), Normalization((0, 0), (1, 1)), CPU, batch=batch)
    dealt = pictures.interleaved()
    assert [len(x) for x, _ in dealt] == sizes
    assert sorted(dealt.rows.tolist()) == pictures.rows.tolist()
    first = dealt.rows[: sizes[0]]
    assert set(np.diff(first)) <= {len(sizes)}  # each batch from all over the rows
    for x, y in dealt:
        assert len(x) == len(y)
    assert torch.cat([y for _, y in dealt]).argmax(-1).tolist() == images().targets[dealt.rows].tolist()


def test_images_are_the_labelled_rows_in_order() -> None:
    data, norm = images(), Normalization((0, 0), (1, 1))
    pictures = Pictures(data, norm, CPU, batch=16)
    assert len(pictures) == 38  # two have no label
    shown = list(pictures)
    assert [len(x) for x, _ in shown] == [16, 16, 6]
    assert torch.allclose(torch.cat([x for x, _ in shown]), data.pixels[:38].float() / 255)
    assert torch.cat([y for _, y in shown]).argmax(-1).tolist() == data.targets[:38].tolist()
    rows = np.array([39, 5, 2])
    assert Pictures(data, norm, CPU, batch=2, rows=rows).rows.tolist() == [5, 2]


def test_few_images_are_spread_evenly() -> None:
    pictures = Pictures(images(), Normalization((0, 0), (1, 1)), CPU, batch=16)
    assert pictures.subset(38) is pictures
    few = pictures.subset(5)
    assert few.rows.tolist() == [0, 9, 18, 28, 37]
    assert few.labels() == [pictures.labels()[i] for i in (0, 9, 18, 28, 37)]
    assert len(pictures) == 38
    assert sum(len(x) for x, _ in few) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ("c", "b", "a")}, "classes"),
        ({"pixels": torch.zeros(40, 2, 4, 4)}, "uint8"),
        ({"pixels": torch.zeros(40, 2, 4, dtype=torch.uint8)}, "N x C x H x W"),
        ({"pixels": torch.zeros(40, 2, 4, 5, dtype=torch.uint8)}, "its images are [2, 4, 5]"),
        ({"pixels": torch.zeros(39, 2, 4, 4, dtype=torch.uint8)}, "do not match"),
        ({"targets": np.zeros((40, 2), np.float32)}, "do not match"),
        ({"targets": np.full(40, 3)}, "-1 .. 2"),
        ({"targets": np.full(40, -2)}, "-1 .. 2"),
    ],
)
def test_what_a_data_set_gives_is_checked(change: dict[str, object], says: str) -> None:
    good = images()
    check_images({"train": good, "test": images()}, "mine")
    with pytest.raises(DataError, match=r'dataset "mine", test: ') as caught:
        check_images({"train": good, "test": replace(good, **change)}, "mine")  # type: ignore[arg-type]
    assert says in str(caught.value)
