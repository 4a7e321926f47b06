"""Tests of the data set my_component: what mmctl expects of every data set, and what this one promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmctl.plugin import DataError
from mmctl.scaffold.templates.dataset import my_component
from mmctl.testing import DatasetContract


def write_images(root: Path) -> Path:
    """Two classes of 12 training and 6 test images, and 4 images without a label."""
    rng = np.random.default_rng(0)
    numbers = {"train/cat": 12, "train/dog": 12, "test/cat": 6, "test/dog": 6, "unlabeled": 4}
    for name, number in numbers.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            pixels = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    return root


class TestMyComponent(DatasetContract):
    component = "my_component"
    params = ({}, {"size": 8, "grey": True})

    def make_root(self, folder: Path) -> Path | None:
        return write_images(folder / "data")


def test_folders_give_the_labels(tmp_path: Path) -> None:
    images = my_component(write_images(tmp_path / "data"), size=8)
    assert images["train"].classes == ("cat", "dog")
    assert images["train"].targets.tolist() == [0] * 12 + [1] * 12 + [-1] * 4
    assert images["test"].pixels.shape == (12, 3, 8, 8)
    assert images["test"].ids[0] == "test/cat/00.png"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train: there is no such folder"):
        my_component(tmp_path)
