"""The words of folders and label files: names of parts, ids of files, the order of classes, and problems found."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from mmctl.errors import DataError
from mmctl.image_files.files import Part
from mmctl.text import display_path, short_literal

PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "unlabeled": "unlabeled",
    "unlabelled": "unlabeled",
    "unsup": "unlabeled",
    "no_label": "unlabeled",  # CVAT writes images without a label there
}
"""Names of folders, and values of a split column, in lower case."""
PARTS_SAID = "train, val (valid, validation), test or unlabeled (unlabelled, unsup)"
LONGEST_CLASS = 200
"""Characters of a class name: what is longer is a description of the image, not its class."""


def part_of(name: str) -> Part | None:
    """The part that a folder name or a cell says, in any case of letters; None if it says none."""
    return PARTS.get(name.strip().lower())


def part_in(path: str) -> Part | None:
    """The part that a word inside of a file name says, else of its folders: data/train-00000-of-00002.parquet."""
    for piece in reversed(path.lower().split("/")):
        for word in re.split(r"[^a-z]+", piece):
            if word in PARTS:
                return PARTS[word]
    return None


def file_id(path: str) -> str:
    """A path as an id: normal form C, and bytes that are not UTF-8 written as `\\xff`."""
    if path.isascii():
        return path
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:  # not from a disk, but from JSON
        data = path.encode("utf-8", "surrogatepass")
    return unicodedata.normalize("NFC", data.decode("utf-8", "backslashreplace"))


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts class2 before class10. Numbers are compared as text, since they may have any number of digits."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    return [
        (0, len(digits := piece.lstrip("0")), digits) if i % 2 else (1, 0, piece)
        for i, piece in enumerate(pieces)
        if piece
    ], name


def quoted(text: str) -> str:
    """A name for messages: in quotes, without control characters, and short."""
    return short_literal(text.encode("utf-8", "backslashreplace").decode())


def images(count: int) -> str:
    """A number of images in words."""
    return f"{count:,} image{'s' * (count != 1)}"


class Problems:
    """Collects what is wrong, so that one message shows the first problems and how many there are."""

    SHOWN, MOST = 5, 1000

    def __init__(self, root: Path) -> None:
        self.root, self.first, self.count = root, list[str](), 0

    def add(self, text: str) -> None:
        """One problem: where, what, what to do."""
        self.count += 1
        if self.count <= self.SHOWN:
            self.first.append(text)
        if self.count == self.MOST:  # the folder or the label file is the wrong one
            self.check()

    def check(self) -> None:
        """DataError if there are any."""
        if self.count > 1:
            more = [f"  ... and {self.count - self.SHOWN} more"] if self.count > self.SHOWN else []
            count = f"{self.count}{' or more' if self.count >= self.MOST else ''}"
            lines = [f"  {text}" for text in self.first]
            raise DataError(f"{self.where()}{count} problems:", *lines, *more)
        if self.count:
            raise DataError(f"{self.where()}{self.first[0]}")

    def where(self) -> str:
        """The folder, to put before a message; nothing for the current one."""
        shown = display_path(self.root)
        return "" if shown == "." else f"{shown}: "
