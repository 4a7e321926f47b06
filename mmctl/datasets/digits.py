"""Data set of 1,797 real handwritten digits that is part of scikit-learn: no download is needed."""

from __future__ import annotations

import gzip
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mmctl.plugin import DataError, Images, dataset

CLASSES = tuple("0123456789")


@dataset("digits")
def digits(
    root: Path | None = None, *, test: Annotated[int, Field(ge=10)] = 500, test_seed: Annotated[int, Field(ge=0)] = 0
) -> dict[str, Images]:
    """1,797 handwritten digits of 8 x 8 px in 10 classes, from scikit-learn; `root` is not used.

    Args:
        test: Number of test images, drawn class-proportionally; all others are training images.
        test_seed: Seed for drawing the test images; independent of the run's seed, so all runs share one test set.
    """
    values, targets = _load()
    if test > len(targets) - len(CLASSES):
        raise DataError(
            f"digits: dataset.test = {test} leaves too few images to train; use at most {len(targets) - len(CLASSES)}"
        )
    pixels_NCHW = np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    chosen = np.zeros(len(targets), bool)
    chosen[_stratified(targets, test_seed)[:test]] = True
    parts = {"train": np.flatnonzero(~chosen), "test": np.flatnonzero(chosen)}
    return {
        part: Images.of(pixels_NCHW[rows], targets[rows], CLASSES, [f"digit{row:04d}" for row in rows])
        for part, rows in parts.items()
    }


def _load() -> tuple[np.ndarray, np.ndarray]:
    """Pixels of 0 to 16, and classes, from scikit-learn's file: to import its reader takes longer than to read it."""
    found = find_spec("sklearn")
    places = found.submodule_search_locations if found else None
    path = Path(next(iter(places or [""]))) / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        with gzip.open(path, "rt") as file:
            rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1], rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # in a version that keeps the file elsewhere

    values, targets = load_digits(return_X_y=True)
    return values, targets.astype(np.int64)


def _stratified(targets: np.ndarray, seed: int) -> np.ndarray:
    """All rows in a random order in which the first n rows are class-proportional, for every n.

    The rows are shuffled; then the i-th row of a class of n gets the position (i + 1/2) / n, and rows are sorted by it.
    """
    key = int.from_bytes(blake2b(f"{seed}/digits/test".encode(), digest_size=16).digest(), "little")
    shuffled = np.random.Generator(np.random.Philox(key=key)).permutation(len(targets))
    position = np.empty(len(targets))
    for label in range(len(CLASSES)):
        rows = np.flatnonzero(targets[shuffled] == label)
        position[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return shuffled[np.argsort(position, kind="stable")]
