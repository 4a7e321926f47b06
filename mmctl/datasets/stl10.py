"""Data set STL-10: 96 px colour images of 10 classes, 5,000 to train, 8,000 to test, and 100,000 without a label.

Coates, Ng and Lee, AISTATS 2011. The unlabelled images come from a wider range of classes. There are ten official
draws of 1,000 labelled images: `split.rule = "official"`. Some test images are reported to be among the unlabelled
ones (arXiv 2506.03582).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmctl.datasets._mapped import mapped
from mmctl.datasets._published import (
    Files,
    PublishedFile,
    check_file,
    check_labels,
    folder_with,
    numbered,
    read_whole,
    records,
)
from mmctl.plugin import DataError, Images, dataset

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SIDE = 96
LENGTH = 3 * SIDE * SIDE
BLOCK = 512
SOURCE = (
    "Run `mmctl data get stl10`, or download http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz and unpack it "
    "into data/stl10."
)
TRAIN = PublishedFile("train_X.bin", 5_000 * LENGTH, "918c2871b30a85fa023e0c44e0bee87f")
TRAIN_LABELS = PublishedFile("train_y.bin", 5_000, "5a34089d4802c674881badbb80307741")
UNLABELED = PublishedFile("unlabeled_X.bin", 100_000 * LENGTH, "5242ba1fed5e4be9e1e742405eb56ca4")
TEST = PublishedFile("test_X.bin", 8_000 * LENGTH, "7f263ba9f9e0b06b93213547f721ac82")
TEST_LABELS = PublishedFile("test_y.bin", 8_000, "36f9794fa4beb8a2c72628de14fa638e")
FOLDS = "fold_indices.txt"


@dataset("stl10")
def stl10(
    root: Path,
    *,
    unlabeled: bool = True,
    memory: Literal["map", "load"] = "map",
    files: Files = "official",
) -> dict[str, Images]:
    """STL-10: 13,000 colour images of 96 px in 10 classes, and 100,000 without a label; the binary version.

    The training images are the 5,000 labelled ones, then the unlabelled ones. `split.rule = "official"` takes one of
    the ten official draws of 1,000 labels; `split.unlabeled = "without_label"` keeps the other labelled images out of
    the unlabelled pool.

    Args:
        unlabeled: Read the 100,000 images without a label, 2.6 GiB in the user's cache.
        memory: "map" reads the training images from the disk when they are used; "load" keeps them in memory.
        files: "official" = the published files alone, checked by MD5; "any" = also subsets and cleaned copies.
    """
    folder = folder_with(Path(root), (TRAIN.name,), ("stl10_binary", "."), SOURCE)
    labels = _labels(folder, TRAIN_LABELS, files)
    known = _images(folder, TRAIN, len(labels), files)
    test_labels = _labels(folder, TEST_LABELS, files)
    test = _images(folder, TEST, len(test_labels), files)
    parts = {"test": Images.of(test, test_labels, CLASSES, numbered("test", len(test)))}
    folds = _folds(folder, len(labels))
    if not unlabeled:
        train = Images.of(known, labels, CLASSES, numbered("train", len(known)))
    else:
        train = _with_unlabeled(folder, known, labels, files, memory)
    return {"train": replace(train, official=folds)} | parts


def _with_unlabeled(folder: Path, known: np.ndarray, labels: np.ndarray, files: Files, memory: str) -> Images:
    """Labelled, then unlabelled images, as a map. Its fingerprint is made of the MD5s of the files."""
    path = folder / UNLABELED.name
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file. {SOURCE} To do without the unlabelled images, set "
            "dataset.unlabeled = false."
        )
    size = path.stat().st_size
    if files == "official" or size % LENGTH or not size:
        check_file(path, UNLABELED._replace(md5=None), size, "", SOURCE)
    n = size // LENGTH

    def fill(array: np.ndarray) -> list[str]:
        array[: len(known)] = known
        digest, at = hashlib.md5(usedforsecurity=False), len(known)
        for block in _blocks(path):
            digest.update(block)
            rows = _upright(np.frombuffer(block, np.uint8))
            array[at : at + len(rows)] = rows
            at += len(rows)
        if files == "official":
            check_file(path, UNLABELED, size, digest.hexdigest(), SOURCE)
        return [hashlib.sha256(known.tobytes()).hexdigest(), digest.hexdigest()]

    sources = [folder / TRAIN.name, path]
    pixels, hashes = mapped(f"stl10-{files}", sources, (len(known) + n, 3, SIDE, SIDE), fill)
    targets = np.concatenate([labels, np.full(n, -1, np.int64)])
    ids = numbered("train", len(known)) + [f"unlabeled/{row:06d}" for row in range(n)]
    digest = hashlib.sha256(f"{hashes} {CLASSES} {ids[-1]}".encode() + targets.tobytes())
    kept: Any = np.array(pixels) if memory == "load" else pixels
    return Images(kept, targets, CLASSES, ids, digest.hexdigest())


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK * LENGTH):
                yield block
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {SOURCE}") from None


def _upright(values: np.ndarray) -> np.ndarray:
    """Images N x 3 x H x W; the files have them column by column."""
    return values.reshape(-1, 3, SIDE, SIDE).transpose(0, 1, 3, 2)


def _images(folder: Path, file: PublishedFile, n: int, files: Files) -> np.ndarray:
    rows = records(folder / file.name, read_whole(folder, file, files, SOURCE), LENGTH, SOURCE)
    if len(rows) != n:
        raise DataError(f"{folder / file.name}: {len(rows)} images, but {n} labels beside it. {SOURCE}")
    return np.ascontiguousarray(_upright(rows))


def _labels(folder: Path, file: PublishedFile, files: Files) -> np.ndarray:
    values = np.frombuffer(read_whole(folder, file, files, SOURCE), np.uint8)
    return check_labels(folder / file.name, values, 1, len(CLASSES), SOURCE)


def _folds(folder: Path, n: int) -> tuple[np.ndarray, ...]:
    """The rows of each official draw of labelled images; none if the file is not there."""
    path = folder / FOLDS
    if not path.is_file():
        return ()
    try:
        folds = tuple(np.array(line.split(), np.int64) for line in path.read_text("ascii").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a list of row numbers ({error}). {SOURCE}") from None
    for number, rows in enumerate(folds):
        if len(np.unique(rows)) != len(rows) or not 0 <= int(rows.min(initial=0)) <= int(rows.max(initial=0)) < n:
            raise DataError(f"{path}:{number + 1}: rows must be different numbers from 0 to {n - 1}. {SOURCE}")
    return folds
