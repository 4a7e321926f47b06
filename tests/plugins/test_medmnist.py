"""The plugin medmnist, on small files of the archives' format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.paths import REPO
from mmctl.plugin import DataError
from mmctl.registry.index import Index
from mmctl.testing import DatasetContract

CLASSES = 8
COUNTS = {"train": 48, "val": 16, "test": 16}


def write_archive(path: Path, channels: int = 3, **changed: np.ndarray) -> Path:
    """An archive as MedMNIST publishes it: compressed, labels N x 1, grey images without an axis for the channel."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in COUNTS.items():
        shape = (n, 28, 28, channels) if channels > 1 else (n, 28, 28)
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % CLASSES)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays | changed)
    return path


class TestMedmnist(DatasetContract):
    component = "medmnist"
    params = ({}, {"archive": "pneumoniamnist"})

    def make_root(self, folder: Path) -> Path | None:
        write_archive(folder / "bloodmnist.npz")
        write_archive(folder / "pneumoniamnist.npz", channels=1)
        return folder


def medmnist(root: Path, **params: Any) -> Any:
    index = Index(REPO / "plugins", sources="local")
    return index.load(index.find("dataset", "medmnist"))(root, **params)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_and_labels_are_those_of_the_archive(tmp_path: Path, channels: int) -> None:
    path = write_archive(tmp_path / "bloodmnist.npz", channels)
    found = medmnist(tmp_path)
    with np.load(path) as arrays:
        for split, n in COUNTS.items():
            assert found[split].pixels.shape == (n, channels, 28, 28)
            pixels = arrays[f"{split}_images"][5]
            assert (np.asarray(found[split].pixels[5]).transpose(1, 2, 0).squeeze() == pixels).all()
            assert found[split].targets.tolist() == arrays[f"{split}_labels"][:, 0].tolist()
            assert found[split].classes == tuple("01234567")
            assert found[split].ids[5] == f"{split}/5"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file.*zenodo"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "not an archive of MedMNIST, or damaged"),
        (lambda path: path.write_bytes(write_archive(path).read_bytes()[:-900]), "or damaged"),
        (lambda path: np.savez(path, x=np.zeros(3)), "not an archive of MedMNIST.*train_images"),
        (lambda path: write_archive(path, train_labels=np.zeros((48, 14), np.uint8)), r"labels \[48, 14\]"),
        (lambda path: write_archive(path, val_images=np.zeros((16, 28, 28), np.float32)), "val has images float32"),
        (lambda path: write_archive(path, train_labels=np.array([[None]] * 48)), "or damaged"),  # would be a pickle
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "bloodmnist.npz")
    with pytest.raises(DataError, match=message) as raised:
        medmnist(tmp_path)
    assert str(tmp_path / "bloodmnist.npz") in str(raised.value)
