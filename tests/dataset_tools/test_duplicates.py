"""Equal images, constant ones, grey ones, and classes that must not be mirrored."""

from __future__ import annotations

import numpy as np
import pytest

from mmctl.dataset_tools.duplicates import constant_images, equal_images, grey
from mmctl.dataset_tools.flips import unsafe_flip
from mmctl.plugin import Images


def images(pixels: np.ndarray, targets: list[int], name: str = "a") -> Images:
    return Images.of(pixels, np.array(targets), ("cat", "dog"), [f"{name}{n}" for n in range(len(targets))])


def noise(n: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, 4, 4), np.uint8)


def test_equal_images_are_found_in_and_across_parts() -> None:
    train, test = noise(6), noise(3, seed=1)
    train[4], test[2] = train[1], train[0]
    found = equal_images({"train": images(train, [0, 1, 0, 1, 0, -1]), "test": images(test, [0, 0, 1], "t")})
    assert [[(one.part, one.id, one.label) for one in group] for group in found] == [
        [("train", "a0", 0), ("test", "t2", 1)],
        [("train", "a1", 1), ("train", "a4", 0)],
    ]


def test_one_changed_pixel_makes_another_image() -> None:
    pixels = noise(2)
    pixels[1] = pixels[0]
    pixels[1, 2, 3, 3] ^= 1
    assert equal_images({"train": images(pixels, [0, 0])}) == []


def test_constant_images() -> None:
    pixels = noise(3)
    pixels[1] = np.array([9, 0, 200], np.uint8)[:, None, None]
    assert constant_images(images(pixels, [0, 0, 0])) == ["a1"]


def test_grey() -> None:
    one = noise(5, channels=1)
    same = np.repeat(one, 3, 1)
    assert grey(images(same, [0] * 5))
    assert not grey(images(one, [0] * 5)), "has one channel already"
    same[4, 1, 0, 0] ^= 1
    assert not grey(images(same, [0] * 5))


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
