"""Data set FER+: 48 px grey faces with eight expressions, each rated by ten people.

The rules are those of Microsoft's reader (src/ferplus.py). Single votes count as mistakes and are dropped. The majority
label is the expression with more than half of the remaining votes; "unknown" and "NF" (no face) are candidates too.
Images without a majority, or with a majority for one of these two, are dropped.

The two published files of votes differ in the majority label of 260 training images, so the recipe can say which one
to read. The rule `multi_target` (all expressions with 30 % or more are right) is not offered: it needs a loss over
sets of labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from mmctl.datasets._ferplus_files import FOLDERS, SOURCES, USAGES, VOTES, Table, png_pixels, read_fer2013, read_votes
from mmctl.plugin import DataError, Images, dataset

CLASSES = VOTES[:8]
PARTS = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
Labels = Literal["auto", "fer2013new.csv", "label.csv"]


@dataset("ferplus")
def ferplus(
    root: Path, *, votes: Literal["majority", "probability"] = "majority", labels: Labels = "auto"
) -> dict[str, Images]:
    """FER+ faces, 48 px grey, 8 expressions; from fer2013.csv + fer2013new.csv or from folders of PNG files.

    Args:
        votes: Target of training images: the "majority" label, or the "probability" of each expression (of the most
            frequent ones, up to three). Validation and test images always have the majority label.
        labels: File with the votes; "auto" = fer2013new.csv if it exists, else label.csv.
    """
    parts: dict[str, Images] = {}
    for part, (table, rows, pixels) in _read(Path(root), labels).items():
        if part == "train" and votes == "probability":
            share = distribution(table.votes[rows])
            good = share.any(1)
            targets = share[good]
        else:
            label = majority(table.votes[rows])
            good = label >= 0
            targets = label[good]
        if not good.any():
            raise DataError(f"{table.path}: no image of {part} has a majority label; is the file complete? {SOURCES}.")
        parts[part] = Images.of(pixels[good][:, None], targets, CLASSES, table.ids(rows[good].tolist()))
    return parts


def majority(votes_N10: np.ndarray) -> np.ndarray:
    """The expression with more than half of the votes, int64 N; -1 = the image is dropped."""
    votes_N10 = np.where(votes_N10 > 1, votes_N10, 0)
    top = votes_N10.argmax(1)
    clear = 2 * votes_N10.max(1) > votes_N10.sum(1)
    label: np.ndarray = np.where(clear & (top < len(CLASSES)), top, -1)
    return label


def distribution(votes_N10: np.ndarray) -> np.ndarray:
    """Shares of the leading expressions, float32 N x 8; a zero row = the image is dropped.

    Expressions are taken in order of votes (ties together) until they have three quarters of the votes, or there are
    three, or "unknown" or "NF" is next. An image is dropped if "unknown" or "NF" is first, if its expressions have
    half of the votes or less, or if there are more than three.
    """
    left = np.where(votes_N10 > 1, votes_N10, 0)
    total = left.sum(1)
    taken = np.zeros((len(left), len(CLASSES)), np.int64)
    open_N = np.ones(len(left), bool)
    for _ in range(3):
        open_N = open_N & (4 * taken.sum(1) < 3 * total) & ((taken > 0).sum(1) < 3)
        leads = (left == left.max(1, keepdims=True)) & open_N[:, None]
        taken += np.where(leads, left, 0)[:, : len(CLASSES)]
        open_N &= ~leads[:, len(CLASSES) :].any(1)
        left[leads] = 0
    whole = taken.sum(1)
    good = (2 * whole > total) & ((taken > 0).sum(1) <= 3)
    share: np.ndarray = (np.where(good[:, None], taken, 0) / np.maximum(whole, 1)[:, None]).astype(np.float32)
    return share


def _read(root: Path, labels: Labels) -> dict[str, tuple[Table, np.ndarray, np.ndarray]]:
    """For each part: the votes, the rows that have an image, and the pixels of these rows."""
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. {SOURCES}. Set dataset.root to that folder.")
    one = root / "fer2013new.csv"
    if labels == "auto":
        labels = "fer2013new.csv" if one.is_file() else "label.csv"
    folders = any((root / folder).is_dir() for folder in FOLDERS.values())
    if folders and not ((root / "fer2013.csv").is_file() and next((root / FOLDERS["Training"]).glob("*.png"), 0) == 0):
        return _read_folders(root, read_votes(one) if labels == "fer2013new.csv" else None)
    if not (root / "fer2013.csv").is_file():
        raise DataError(f"{root}: this folder has neither fer2013.csv nor {FOLDERS['Training']}. {SOURCES}.")
    if labels == "label.csv" and one.is_file():
        raise DataError(
            f'{root}: dataset.labels = "label.csv" needs the folders of PNG files, because fer2013.csv has no file '
            'names; set it to "fer2013new.csv" or "auto"'
        )
    return _read_csv(root / "fer2013.csv", read_votes(one))


def _read_folders(root: Path, shared: Table | None) -> dict[str, tuple[Table, np.ndarray, np.ndarray]]:
    parts = {}
    for part, usage in PARTS.items():
        folder = root / FOLDERS[usage]
        table = read_votes(folder / "label.csv", usage) if shared is None else shared
        rows = table.named(usage)
        parts[part] = (table, rows, png_pixels(folder, table, rows.tolist()))
    return parts


def _read_csv(path: Path, table: Table) -> dict[str, tuple[Table, np.ndarray, np.ndarray]]:
    pixels, usages, _ = read_fer2013(path)
    check_rows(path, usages, table)
    rows_of = {part: table.named(usage) for part, usage in PARTS.items()}
    return {part: (table, rows, pixels[rows]) for part, rows in rows_of.items()}


def check_rows(path: Path, usages: np.ndarray, table: Table) -> None:
    """DataError if the rows of fer2013.csv and of fer2013new.csv do not match."""
    if len(usages) != len(table.names):
        raise DataError(
            f"{path} has {len(usages)} rows and {table.path.name} has {len(table.names)}; they must have the same "
            f"rows, so one of them is incomplete. {SOURCES}."
        )
    wanted = np.array([USAGES.index(usage) for usage in table.usages])
    if len(odd := np.flatnonzero(wanted != usages)):
        row = int(odd[0])
        raise DataError(
            f"{table.at(row)}: usage {table.usages[row]}, but {USAGES[usages[row]]} in the same row of {path.name}; "
            f"the two files do not match. {SOURCES}."
        )
