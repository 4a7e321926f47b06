"""Finds the images of RAF-DB and their labels, in the published layout and in two others that are passed on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mmctl.datasets._image_folders import class_files, image_names
from mmctl.image_files.files import ImageFile, OnDisk, Part
from mmctl.plugin import DataError

SIDE = 100
CLASSES = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
COUNTS = {"train": 12_271, "test": 3_068}
PARTS: tuple[Part, ...] = ("train", "test")
LIST = "EmoLabel/list_patition_label.txt"
SOURCE = (
    "RAF-DB is given on request: ask for it at http://www.whdeld.cn/whdeld/RAF/model1.html, unpack its basic set, and "
    "put EmoLabel and Image/aligned into data/rafdb, or the folders train/1 ... train/7 and test/1 ... test/7."
)


def find(root: Path) -> list[ImageFile]:
    """All images, training images first, in the order of their names; DataError if no layout is there."""
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. {SOURCE} Set dataset.root to that folder.")
    for folder in (root, root / "basic", root / "DATASET"):
        if (folder / LIST).is_file():
            return _from_list(folder)
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            if not any((folder / "train" / name).is_dir() for name in ("1", CLASSES[0], CLASSES[0].lower())):
                return _from_csv(root, folder)
            return [file for part in PARTS for file in _from_folders(folder, part)]
    raise DataError(f"{root}: there is neither {LIST} in it nor train and test. {SOURCE}")


def _from_list(folder: Path) -> list[ImageFile]:
    """The published layout: lines such as `train_00001.jpg 5`, and the image train_00001_aligned.jpg."""
    path = folder / LIST
    place = "Image/aligned"
    if not (folder / place).is_dir():
        raise DataError(f"{folder / place}: there is no such folder; the aligned images are needed. {SOURCE}")
    there, files, seen = set(image_names(folder / place)), [], set[str]()
    for line, text in _lines(path):
        cells = text.split()
        if len(cells) != 2:
            raise DataError(f"{path}:{line}: a line is a name and a label, such as train_00001.jpg 5. {SOURCE}")
        stem = cells[0].rpartition(".")[0]
        part: Part | None = next((p for p in PARTS if stem.startswith(f"{p}_")), None)
        if part is None:
            raise DataError(f"{path}:{line}: {cells[0]!r} begins with neither train_ nor test_. {SOURCE}")
        name = next((n for n in (f"{stem}_aligned.jpg", f"{stem}_aligned.png", cells[0]) if n in there), None)
        if name is None:
            raise DataError(f"{path}:{line}: there is no image {stem}_aligned.jpg in {folder / place}. {SOURCE}")
        if stem in seen:
            raise DataError(f"{path}:{line}: {cells[0]} is listed twice. {SOURCE}")
        seen.add(stem)
        label = _label(f"{path}:{line}", cells[1])
        files.append(ImageFile(name, OnDisk(folder / place / name), part, label, f"{path.name}:{line}"))
    return _ordered(path, files)


def _from_folders(folder: Path, part: Part) -> list[ImageFile]:
    numbers = {str(k + 1): name for k, name in enumerate(CLASSES)}
    for names in (numbers, {name: name for name in CLASSES}, {name.lower(): name for name in CLASSES}):
        if any((folder / part / name).is_dir() for name in names):
            return class_files(folder, part, part, names, SOURCE)
    raise DataError(f"{folder / part}: there are no class folders 1 to 7 in it. {SOURCE}")


def _from_csv(root: Path, folder: Path) -> list[ImageFile]:
    """A CSV file with the columns image and label for each part, beside the folders or above them."""
    files: list[ImageFile] = []
    for part in PARTS:
        path = next((p for p in (folder / f"{part}_labels.csv", root / f"{part}_labels.csv") if p.is_file()), None)
        if path is None:
            raise DataError(
                f"{folder / part}: has no class folders 1 to 7, and there is no {part}_labels.csv beside it. {SOURCE}"
            )
        there = set(image_names(folder / part))
        for line, text in list(_lines(path)):
            cells = [cell.strip() for cell in next(csv.reader([text]))]
            if line == 1 and cells[:2] == ["image", "label"]:
                continue
            if len(cells) != 2 or cells[0] not in there:
                what = (
                    f"there is no image {cells[0]!r} in {folder / part}" if len(cells) == 2 else "it has not 2 columns"
                )
                raise DataError(f"{path}:{line}: {what}. {SOURCE}")
            label = _label(f"{path}:{line}", cells[1])
            one = f"{part}/{cells[0]}"
            files.append(ImageFile(one, OnDisk(folder / part / cells[0]), part, label, f"{path.name}:{line}"))
    return _ordered(folder, files)


def _ordered(where: Path, files: list[ImageFile]) -> list[ImageFile]:
    if not files:
        raise DataError(f"{where}: there is no image in it. {SOURCE}")
    if len({file.id for file in files}) < len(files):
        raise DataError(f"{where}: an image is listed twice. {SOURCE}")
    return sorted(files, key=lambda file: (PARTS.index(file.part), file.id))


def _label(where: str, text: str) -> str:
    if text not in {str(n + 1) for n in range(len(CLASSES))}:
        raise DataError(f"{where}: label {text!r} is not a number from 1 to 7 (1 = Surprise ... 7 = Neutral). {SOURCE}")
    return CLASSES[int(text) - 1]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        for line, text in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
            if text.strip():
                yield line, text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}). {SOURCE}") from None
