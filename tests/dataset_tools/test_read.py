"""What the tools know of a folder without decoding its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmctl.dataset_tools.read import find_files, unopened
from mmctl.datasets.pictures import pictures


def test_unopened_images_are_those_that_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for n, name in enumerate(["train/dog/b.png", "train/cat/z.png", "unlabeled/a.png", "unlabeled/cat/c.png",
                              "val/cat/a.png", "test/dog/a.png"]):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * n, 0, 0)).save(root / name)
    read, known = pictures(root, size=8)["train"], unopened(find_files(root, {}))
    assert list(known.ids) == list(read.ids)
    assert known.classes == read.classes
    np.testing.assert_array_equal(known.targets, read.targets)
    assert known.pixels.shape[0] == len(read.ids) == 4
