"""Pixels in a memory map: the same numbers as in memory, and no more memory than what is used."""

from __future__ import annotations

import mmap
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.tiny_project import recipe
from mmctl.data import gather as gather_module
from mmctl.data.gather import gather, spans
from mmctl.data.images import Normalization, Pictures, one_hot
from mmctl.plugin import Images
from mmctl.runs.build import build_training, data_of, read_data
from mmctl.training.loop import Evaluated, Event, train

CPU = torch.device("cpu")


def mapped(path: Path, pixels: np.ndarray) -> np.ndarray:
    np.save(path, pixels)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


@pytest.mark.parametrize("rows", [[], [3], [5, 2, 5, 399, 0], list(range(400)), [7, 8, 9, 300]])
def test_rows_of_a_map_are_those_in_memory(tmp_path: Path, rows: list[int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 3, 9, 7)).astype(np.uint8)
    at = np.array(rows, np.int64)
    part = mapped(tmp_path / "p.npy", pixels)[100:]
    found = gather(part, at)
    assert type(found) is np.ndarray
    assert np.array_equal(found, pixels[100:][at])
    assert found.flags.writeable
    assert np.array_equal(gather(pixels, at), pixels[at])
    assert torch.equal(gather(torch.from_numpy(pixels), at), torch.from_numpy(pixels[at]))
    assert np.array_equal(gather(part[:, :, ::2], at), pixels[100:, :, ::2][at])  # a view with gaps


def test_where_rows_are_in_the_file(tmp_path: Path) -> None:
    page = mmap.PAGESIZE
    assert list(spans(128, page, np.array([9, 3, 4, 4, 17]))) == [
        (3 * page, 5 * page + 128), (9 * page, 10 * page + 128), (17 * page, 18 * page + 128),
    ]  # fmt: skip
    assert list(spans(128, 10, np.arange(50))) == [(0, 628)]
    part = mapped(tmp_path / "p.npy", np.zeros((20, 1, 32, 128), np.uint8))[5:]
    assert _announced(part) == [(part.base.offset + 5 * page) // page * page]  # a part of a map begins further on


def _announced(part: Any) -> list[int]:
    """Where the pages of its first row begin."""
    found: list[int] = []
    real = gather_module.spans
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather_module, "spans", lambda *a: [found.append(s[0]) or s for s in real(*a)])
        gather(part, np.array([0]))
    return found


def test_a_part_of_the_targets() -> None:
    for targets in (np.array([1, -1, 0, 2]), np.eye(3)[[1, 1, 0, 2]]):
        some = Images(np.zeros((4, 1, 2, 2), np.uint8), targets, ("a", "b", "c"), "abcd", "f")
        assert np.array_equal(one_hot(some, np.array([3, 1])), one_hot(some)[[3, 1]])


def test_memory_is_bounded_by_the_batch_and_not_by_the_images(tmp_path: Path) -> None:
    n, classes = 3000, 500
    pixels = mapped(tmp_path / "p.npy", np.zeros((n, 3, 32, 32), np.uint8))  # 9 MB, its targets 6 MB
    names = tuple(map(str, range(classes)))
    images = Images(pixels, np.arange(n) % classes, names, [str(i) for i in range(n)], "f")
    Normalization.of(images, object())
    list(Pictures(images, Normalization((0,) * 3, (1,) * 3), CPU, batch=8).subset(8))
    tracemalloc.start()
    try:
        for _ in Pictures(images, Normalization((0,) * 3, (1,) * 3), CPU, batch=8).interleaved():
            pass
        assert tracemalloc.get_traced_memory()[1] < 0.5e6
    finally:
        tracemalloc.stop()


def test_counting_pixels_takes_little_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest piece is bounded for any size of image; counting makes numbers of eight bytes of it."""
    sizes: list[int] = []
    real = np.bincount
    monkeypatch.setattr(np, "bincount", lambda x, **k: sizes.append(len(x)) or real(x, **k))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 300, 300)).astype(np.uint8)
    images = Images(pixels, np.zeros(40, np.int64), ("a",), [str(i) for i in range(40)], "f")
    norm = Normalization.of(images, object())
    assert norm.mean == pytest.approx(pixels.mean((0, 2, 3)) / 255)
    assert norm.std == pytest.approx(pixels.std((0, 2, 3)) / 255)
    assert max(sizes) <= 2**22
    assert len(sizes) > 3


def test_a_run_from_a_map_has_the_losses_of_one_in_memory(tmp_path: Path) -> None:
    made = recipe("fixmatch", "average.buffers=recompute", "train.steps=6", "train.log_every=1", "eval.every=3")
    torch.set_num_threads(1)
    memory = read_data(made)
    maps = {
        name: replace(part, pixels=mapped(tmp_path / f"{name}.npy", part.pixels.numpy()))
        for name, part in memory.images.items()
    }
    seen: list[list[Event]] = []
    for data in (memory, data_of(made, maps)):
        run = build_training(made, data, CPU, None)
        assert run.loader.resident == (data is memory)
        seen.append(list(train(run, lambda: False)))
    assert [without_time(e) for e in seen[0]] == [without_time(e) for e in seen[1]]
    assert sum(isinstance(e, Evaluated) for e in seen[0]) > 1


def without_time(event: Event) -> Any:
    return {k: v for k, v in event._asdict().items() if "second" not in k} if hasattr(event, "_asdict") else event
