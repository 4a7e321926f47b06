"""Data set RAF-DB, basic expressions: aligned faces of 100 px in colour, 12,271 to train and 3,068 to test.

Li, Deng and Du, CVPR 2017. The licence is given on request, so nothing is downloaded. Three layouts are read:

    EmoLabel/list_patition_label.txt (sic) and Image/aligned/train_00001_aligned.jpg ..., as published; also in basic/
    train/1 ... train/7 and test/1 ... test/7, or with names instead of numbers: train/Surprise ...
    train_labels.csv and test_labels.csv with the columns image and label, and the images in train/ and test/

There are no official validation images; set split.val.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mmctl.datasets._image_folders import check_counts, decoded
from mmctl.datasets._published import Files
from mmctl.datasets._rafdb_files import CLASSES, COUNTS, SIDE, SOURCE, find
from mmctl.plugin import DataError, Images, dataset


@dataset("rafdb")
def rafdb(
    root: Path,
    *,
    size: Annotated[int, Field(ge=8, le=256)] = 96,
    fit: Literal["resize", "pad", "crop"] = "resize",
    files: Files = "official",
) -> dict[str, Images]:
    """RAF-DB basic: 15,339 aligned faces in colour with 7 expressions; three layouts of its files.

    Args:
        size: Height and width in pixels. The files have 100, which a network with three halvings does not divide: use
            96, or 104 with fit = "pad".
        fit: How an image of 100 px gets that size: "resize" scales it, "pad" repeats its border outwards, "crop" cuts
            its border off.
        files: "official" = 12,271 training and 3,068 test images; "any" = also other numbers.
    """
    if (fit == "pad" and size < SIDE) or (fit == "crop" and size > SIDE):
        raise DataError(
            f'rafdb: dataset.fit = "{fit}" cannot make {size} px of {SIDE}: '
            + (f"dataset.size must be at least {SIDE}." if fit == "pad" else f"dataset.size must be at most {SIDE}.")
        )
    found = find(Path(root))
    if files == "official":
        check_counts(Path(root), found, COUNTS, SOURCE)
    parts = decoded(found, CLASSES, size if fit == "resize" else SIDE, memory="auto" if fit == "resize" else "load")
    if fit == "resize" or size == SIDE:
        return parts
    return {
        part: Images.of(_fitted(np.asarray(images.pixels), size), images.targets, CLASSES, images.ids)
        for part, images in parts.items()
    }


def _fitted(pixels_NCHW: np.ndarray, size: int) -> np.ndarray:
    """Larger by repeating the border, or smaller by cutting it off, equally on both sides."""
    before = abs(size - SIDE) // 2
    if size < SIDE:
        return np.ascontiguousarray(pixels_NCHW[:, :, before : before + size, before : before + size])
    sides = (before, size - SIDE - before)
    return np.pad(pixels_NCHW, ((0, 0), (0, 0), sides, sides), mode="edge")
