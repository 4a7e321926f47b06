"""An example of your own data set, to copy: the archives of MedMNIST, 28 px medical images of many kinds.

    [dataset]
    name = "plugins:medmnist"
    archive = "bloodmnist"             # reads data/medmnist/bloodmnist.npz

Yang et al., "MedMNIST v2", Scientific Data 2023. Archives: https://zenodo.org/records/10519652 (bloodmnist.npz has
36 MB). An archive holds train_images, train_labels, and the same for val and test: images N x 28 x 28 (grey) or
N x 28 x 28 x 3, labels N x 1, all uint8. N images, C channels, H height, W width.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mmctl.plugin import DataError, Images, dataset

SOURCE = "Download the archives from https://zenodo.org/records/10519652."


@dataset("medmnist")
def medmnist(root: Path, *, archive: Annotated[str, Field(pattern="^[a-z0-9_]+$")] = "bloodmnist") -> dict[str, Images]:
    """One archive of MedMNIST: 28 px images with one label each, split into train, val and test.

    Args:
        archive: Name of the archive, for example "bloodmnist", "dermamnist" or "pathmnist"; the name of its file
            without .npz.
    """
    path = root / f"{archive}.npz"
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {SOURCE} Put the file there, or set dataset.root.")
    try:
        # Without pickle: an archive from the internet must not run code.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            parts = {
                split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "val", "test")
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not an archive of MedMNIST, or damaged: {error}. {SOURCE}") from error
    for split, (pixels, labels) in parts.items():
        if (
            pixels.dtype != np.uint8
            or pixels.ndim not in (3, 4)
            or labels.shape not in ((len(pixels), 1), (len(pixels),))
        ):
            raise DataError(
                f"{path}: {split} has images {pixels.dtype} {list(pixels.shape)} and labels {list(labels.shape)}; "
                "needed are uint8 N x H x W or N x H x W x C and one label for each (chestmnist has several)."
            )
    # The archive has no names of classes.
    classes = tuple(str(c) for c in range(1 + max(int(labels.max(initial=0)) for _, labels in parts.values())))
    return {split: _images(split, pixels, labels, classes) for split, (pixels, labels) in parts.items()}


def _images(split: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Images:
    pixels_NHWC = pixels[..., None] if pixels.ndim == 3 else pixels
    ids = [f"{split}/{row}" for row in range(len(labels))]
    return Images.of(pixels_NHWC.transpose(0, 3, 1, 2), labels.reshape(-1).astype(np.int64), classes, ids)
