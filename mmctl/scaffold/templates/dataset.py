"""A data set: images in folders, one folder for each class.

    ROOT/train/CLASS/*.png      labelled training images
    ROOT/test/CLASS/*.png       test images
    ROOT/unlabeled/*.png        training images without a label; this folder may be missing

N images, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from mmctl.plugin import DataError, Images, dataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


# Arguments before the * are supplied by mmctl: `root` is dataset.root of the recipe, else data/my_component.
# Arguments after the * are parameters of the recipe; mmctl checks their types and bounds.
@dataset("my_component")
def my_component(root: Path, *, size: Annotated[int, Field(ge=4)] = 32, grey: bool = False) -> dict[str, Images]:
    """Images in folders, one folder for each class, scaled to squares.

    Args:
        size: Height and width that images are scaled to, in pixels.
        grey: Read images as grey; otherwise as red, green and blue.
    """
    train = root / "train"
    if not train.is_dir():
        raise DataError(f"{train}: there is no such folder. Put images into train/CLASS/ and test/CLASS/ of {root}.")
    classes = tuple(sorted(folder.name for folder in train.iterdir() if folder.is_dir()))
    mode = "L" if grey else "RGB"
    labelled = {split: _labelled(root / split, classes) for split in ("train", "test")}
    unlabelled = [(path, -1) for path in _files(root / "unlabeled")]
    return {
        "train": _images(root, labelled["train"] + unlabelled, classes, size, mode),
        "test": _images(root, labelled["test"], classes, size, mode),
    }


def _labelled(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The files of all classes, each with the number of its class."""
    found = [(path, label) for label, name in enumerate(classes) for path in _files(folder / name)]
    if not found:
        raise DataError(f"{folder}: there are no images in its folders. Known types: {', '.join(sorted(SUFFIXES))}.")
    return found


def _files(folder: Path) -> list[Path]:
    # Sorted: the order of images must be the same on every machine.
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def _images(root: Path, files: list[tuple[Path, int]], classes: tuple[str, ...], size: int, mode: str) -> Images:
    pixels_NHWC = np.stack([_read(path, size, mode) for path, _ in files])
    targets = np.array([label for _, label in files], np.int64)  # -1 = no label
    ids = [path.relative_to(root).as_posix() for path, _ in files]
    return Images.of(pixels_NHWC.transpose(0, 3, 1, 2), targets, classes, ids)


def _read(path: Path, size: int, mode: str) -> np.ndarray:
    """The pixels of one file, uint8 HWC."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode).resize((size, size)))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    return pixels.reshape(size, size, -1)
