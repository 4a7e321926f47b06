"""Published sets of image files: the files of class folders, and their pixels by `mmctl.image_files`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmctl.image_files.cache import read_pixels
from mmctl.image_files.files import ImageFile, OnDisk, Part
from mmctl.image_files.parts import images_of
from mmctl.image_files.pixels import Decoding
from mmctl.plugin import DataError, Images

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def class_files(root: Path, place: str, part: Part, names: Mapping[str, str], source: str) -> list[ImageFile]:
    """The image files of root/place/FOLDER, for each folder name and its class in `names`; ids are below root."""
    try:
        with os.scandir(root / place) as entries:
            found = {entry.name: Path(entry.path) for entry in entries if entry.is_dir() and entry.name[0] != "."}
    except OSError as error:
        raise DataError(f"{root / place}: cannot be read ({error.strerror}). {source}") from None
    if unknown := sorted(set(found) - set(names)):
        raise DataError(
            f"{root / place}: there is no class {unknown[0]!r} in this data set; its class folders are "
            f"{', '.join(names)}. {source}"
        )
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{root / place}: the class folder {missing[0]!r} is missing. {source}")
    above = "" if place in ("", ".") else f"{place}/"
    files = []
    for folder, label in names.items():
        for name in image_names(found[folder]):
            one = f"{above}{folder}/{name}"
            files.append(ImageFile(one, OnDisk(found[folder] / name), part, label, f"folder {above}{folder}"))
    return files


def image_names(folder: Path) -> list[str]:
    """Names of the image files in a folder, sorted; DataError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES) and e.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}).") from None


def check_counts(root: Path, files: Sequence[ImageFile], wanted: Mapping[str, int], source: str) -> None:
    """DataError if a part has another number of images than the published one."""
    found = Counter(file.part for file in files)
    for part, n in wanted.items():
        if found[part] != n:  # type: ignore[index]
            raise DataError(
                f"{root}: {part} has {found[part]:,} images, but the published data set has {n:,}. {source} To "  # type: ignore[index]
                'train on what is there, set dataset.files = "any".'
            )


def decoded(
    files: Sequence[ImageFile],
    classes: Sequence[str],
    side: int,
    *,
    resize: Literal["fit", "crop", "stretch"] = "stretch",
    memory: Literal["auto", "load", "map"] = "auto",
) -> dict[str, Images]:
    """The parts of the data set with square images of `side` px in colour; a damaged file is an error."""
    decoding = Decoding(
        size=(side, side), resize=resize, interpolation="bicubic", background=(0, 0, 0), channels=3, range=None
    )
    return images_of(files, classes, read_pixels(files, decoding, on_bad="stop", memory=memory))
