"""Data set EuroSAT: 27,000 satellite images of 64 px in 10 classes of land use, in colour.

Helber et al., IEEE JSTARS 2019. There is no official split; results without the name of one cannot be compared:

    vtab   60 % train, 20 % val, 20 % test, in the order of TensorFlow Datasets (Zhai et al., arXiv 1910.04867), which
           sorts by an MD5 of each file's name
    usb    of each class the first 80 % train, the others test, in the order of torchvision's ImageFolder
           (microsoft/Semi-supervised-learning); it has no validation images
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmctl.datasets._image_folders import class_files, decoded
from mmctl.datasets._published import Files
from mmctl.image_files.files import ImageFile
from mmctl.plugin import DataError, Images, dataset

CLASSES = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential",
    "River", "SeaLake",
)  # fmt: skip
PLACES = ("2750", "EuroSAT/2750", "EuroSAT", "EuroSAT_RGB", "eurosat/2750", ".")
COUNT = 27_000
SOURCE = (
    "Run `mmctl data get eurosat`, or download https://madm.dfki.de/files/sentinel/EuroSAT.zip and unpack it into "
    "data/eurosat: it has a folder 2750 with a folder for each class."
)


@dataset("eurosat")
def eurosat(
    root: Path,
    *,
    split: Literal["vtab", "usb"],
    size: Annotated[int, Field(ge=8, le=256)] = 64,
    files: Files = "official",
) -> dict[str, Images]:
    """EuroSAT: 27,000 satellite images in 10 classes, 64 px in colour; folders 2750/CLASS of jpg files.

    Args:
        split: There is no official split: "vtab" = 60 % train, 20 % val and 20 % test of all, in the order of
            TensorFlow Datasets; "usb" = the first 80 % of each class train, the others test.
        size: Height and width in pixels; the files have 64.
        files: "official" = all 27,000 images; "any" = also subsets.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. {SOURCE} Set dataset.root to that folder.")
    place = next((p for p in PLACES if (root / p / CLASSES[0]).is_dir()), None)
    if place is None:
        raise DataError(f"{root}: there is no folder 2750/{CLASSES[0]} in it. {SOURCE}")
    found = class_files(root / place, ".", "train", {name: name for name in CLASSES}, SOURCE)
    if files == "official" and len(found) != COUNT:
        raise DataError(
            f"{root / place}: {len(found):,} images, but the published data set has {COUNT:,}. {SOURCE} To train on "
            'what is there, set dataset.files = "any".'
        )
    return decoded(by_vtab(found) if split == "vtab" else by_usb(found), CLASSES, size)


def by_vtab(files: list[ImageFile]) -> list[ImageFile]:
    """60/20/20 in the order of TensorFlow Datasets: by MD5 of the split's name and the example's key."""

    def key(file: ImageFile) -> str:
        name = file.id.rpartition("/")[2]
        return hashlib.md5(f"train{name.partition('_')[0]}_{name}".encode(), usedforsecurity=False).hexdigest()

    ordered = sorted(files, key=key)
    first, second = round(len(files) * 0.6), round(len(files) * 0.8)
    return [
        *(replace(file, part="train") for file in ordered[:first]),
        *(replace(file, part="val") for file in ordered[first:second]),
        *(replace(file, part="test") for file in ordered[second:]),
    ]


def by_usb(files: list[ImageFile]) -> list[ImageFile]:
    """The first 80 % of the files of each class train, the others test; file names are sorted as texts."""
    train, test = [], []
    for _, group in groupby(files, key=lambda file: file.label):
        ones = list(group)
        n = int((0.6 + 0.2) * len(ones))  # as that program computes it
        train += [replace(file, part="train") for file in ones[:n]]
        test += [replace(file, part="test") for file in ones[n:]]
    return [*train, *test]
