"""Data sets CIFAR-10 and CIFAR-100: 32 px colour images, 50,000 to train and 10,000 to test.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The Python and the binary version hold the
same images in the same order, and give the same data set here. The Python version is a pickle, which can run code:
its MD5 is compared before a byte of it is interpreted, and then nothing but arrays, lists and texts is made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from mmctl.datasets._cifar_files import (
    CLASSES_10,
    COARSE_100,
    FINE_100,
    Version,
    class_folders,
    read_version,
    version_of,
)
from mmctl.datasets._published import Files, numbered
from mmctl.plugin import Images, dataset

SOURCE_10 = (
    "Run `mmctl data get cifar10`, or download https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz (or "
    "cifar-10-binary.tar.gz) and unpack it into data/cifar10."
)
SOURCE_100 = (
    "Run `mmctl data get cifar100`, or download https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz (or "
    "cifar-100-binary.tar.gz) and unpack it into data/cifar100."
)


@dataset("cifar10")
def cifar10(root: Path, *, files: Files = "official") -> dict[str, Images]:
    """CIFAR-10: 60,000 colour images of 32 px in 10 classes; the Python version, the binary one, or class folders.

    Args:
        files: "official" = the published files alone, checked by MD5 or size; "any" = also subsets and folders
            train/CLASS and test/CLASS of image files. Their results are not CIFAR-10 figures: jpg loses detail.
    """
    root = Path(root)
    if (found := version_of(root, 10, files, SOURCE_10)) is None:
        return class_folders(root, CLASSES_10, SOURCE_10)
    return _parts(found, files, CLASSES_10, -1, SOURCE_10)


@dataset("cifar100")
def cifar100(root: Path, *, labels: Literal["fine", "coarse"] = "fine", files: Files = "official") -> dict[str, Images]:
    """CIFAR-100: 60,000 colour images of 32 px in 100 classes; the Python version, the binary one, or class folders.

    Args:
        labels: "fine" = 100 classes; "coarse" = the 20 superclasses of the same images.
        files: "official" = the published files alone, checked by MD5 or size; "any" = also subsets and folders
            train/CLASS and test/CLASS of image files. Their results are not CIFAR-100 figures: jpg loses detail.
    """
    root, classes = Path(root), FINE_100 if labels == "fine" else COARSE_100
    if (found := version_of(root, 100, files, SOURCE_100)) is None:
        return class_folders(root, classes, SOURCE_100)
    return _parts(found, files, classes, -1 if labels == "fine" else 0, SOURCE_100)


def _parts(found: Version, files: Files, classes: tuple[str, ...], column: int, source: str) -> dict[str, Images]:
    parts = {}
    for part in ("train", "test"):
        pixels, labels_NL = read_version(found, part, files, source)
        targets = labels_NL[:, column]
        parts[part] = Images.of(pixels, np.ascontiguousarray(targets), classes, numbered(part, len(targets)))
    return parts
