"""Equal images, constant ones, grey ones, and classes that must not be mirrored."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mmctl.dataset_tools import duplicates
from mmctl.dataset_tools.duplicates import look_at_pixels
from mmctl.dataset_tools.flips import unsafe_flip
from mmctl.plugin import Images


def images(pixels: np.ndarray, targets: list[int], name: str = "a") -> Images:
    return Images.of(pixels, np.array(targets), ("cat", "dog"), [f"{name}{n}" for n in range(len(targets))])


def noise(n: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, 4, 4), np.uint8)


def test_equal_images_are_found_in_and_across_parts() -> None:
    train, test = noise(6), noise(3, seed=1)
    train[4], test[2] = train[1], train[0]
    found = look_at_pixels({"train": images(train, [0, 1, 0, 1, 0, -1]), "test": images(test, [0, 0, 1], "t")}).equal
    assert [[(one.part, one.id, one.label) for one in group] for group in found] == [
        [("train", "a0", 0), ("test", "t2", 1)],
        [("train", "a1", 1), ("train", "a4", 0)],
    ]


def test_one_changed_pixel_makes_another_image() -> None:
    pixels = noise(2)
    pixels[1] = pixels[0]
    pixels[1, 2, 3, 3] ^= 1
    assert look_at_pixels({"train": images(pixels, [0, 0])}).equal == []


def test_constant_images() -> None:
    pixels = noise(3)
    pixels[1] = np.array([9, 0, 200], np.uint8)[:, None, None]
    assert look_at_pixels({"train": images(pixels, [0, 0, 0])}).constant == {"train": ["a1"]}


def test_grey() -> None:
    one = noise(5, channels=1)
    same = np.repeat(one, 3, 1)
    test = images(noise(2), [0, 1], "t")
    assert look_at_pixels({"train": images(same, [0] * 5)}).grey
    assert not look_at_pixels({"train": images(one, [0] * 5)}).grey, "has one channel already"
    assert not look_at_pixels({"train": images(same, [0] * 5), "test": test}).grey
    same[4, 1, 0, 0] ^= 1
    assert not look_at_pixels({"train": images(same, [0] * 5)}).grey


def test_pixels_are_read_once_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of gigabytes is on the disk, and larger than the memory."""
    read: list[int] = []

    class Counted(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            read.append(len(found))
            return np.asarray(found)

    monkeypatch.setattr(duplicates, "CHUNK", 4)
    pixels = noise(10)
    pixels[9] = pixels[2]
    part = dataclasses.replace(images(pixels, [0] * 10), pixels=pixels.view(Counted))
    assert [[place.id for place in group] for group in look_at_pixels({"train": part}).equal] == [["a2", "a9"]]
    assert read == [4, 4, 2]


@pytest.mark.parametrize("classes", [
    ("left", "right"), ("turn-left", "turn-right", "straight"), ("Left_hand", "Right_hand"),
    ("clockwise", "counterclockwise"), tuple("0123456789"), ("digit 1", "digit 2"), ("A", "B", "C"),
    ("class_3", "class_7"),
])  # fmt: skip
def test_flips_that_change_the_class(classes: tuple[str, ...]) -> None:
    assert unsafe_flip(classes)


@pytest.mark.parametrize("classes", [
    ("cat", "dog"), ("left", "dog"), ("bright", "leftover"), ("10", "20", "banana"), ("happy", "a"),
])  # fmt: skip
def test_flips_that_do_not(classes: tuple[str, ...]) -> None:
    assert unsafe_flip(classes) is None
