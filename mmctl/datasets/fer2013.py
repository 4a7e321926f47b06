"""Data set FER2013: 48 px grey faces with its own seven labels, one for each face; FER+ rates the same faces again.

Goodfellow et al., ICONIP 2013. About a third of its labels is wrong: `ferplus` has better ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from mmctl.datasets._ferplus_files import SOURCES, USAGES, Table, read_fer2013, read_votes
from mmctl.datasets.ferplus import PARTS, check_rows, majority
from mmctl.plugin import DataError, Images, dataset

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SOURCE = (
    "Download fer2013.csv from Kaggle's fer2013 (an account is needed) and put it into data/fer2013, or set "
    "dataset.root to the folder of ferplus."
)


@dataset("fer2013")
def fer2013(root: Path, *, images: Literal["all", "ferplus"] = "all") -> dict[str, Images]:
    """FER2013 faces, 48 px grey, with its own 7 labels; from fer2013.csv, also of the images that `ferplus` uses.

    Args:
        images: "all" = all 35,887; "ferplus" = those to which FER+ gives a majority label, with the ids of `ferplus`:
            the two sets of labels on the same images. It needs fer2013new.csv too.
    """
    path = Path(root) / "fer2013.csv"
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {SOURCE}")
    pixels, usages, emotions = read_fer2013(path)
    if len(bad := np.flatnonzero(emotions < 0)):
        raise DataError(f"{path}: the emotion of image {bad[0] + 1} is not a number from 0 to 6. {SOURCE}")
    if len(emotions) > 1 and (emotions == emotions[0]).all():
        raise DataError(
            f"{path}: the column emotion is {emotions[0]} in every row: this copy has no labels of its own. {SOURCE} "
            'With fer2013new.csv beside it, dataset.name = "ferplus" reads the labels of FER+.'
        )
    table: Table | None = None
    if images == "ferplus":
        table = read_votes(path.with_name("fer2013new.csv"))
        check_rows(path, usages, table)
    parts: dict[str, Images] = {}
    for part, usage in PARTS.items():
        if table is None:
            rows = np.flatnonzero(usages == USAGES.index(usage))
            ids = [f"{usage}/{row:05d}" for row in rows]
        else:
            rows = table.named(usage)
            rows = rows[majority(table.votes[rows]) >= 0]
            ids = table.ids(rows.tolist())
        if not len(rows):
            raise DataError(f"{path}: no image of {usage} in it; is the file complete? {SOURCES}.")
        parts[part] = Images.of(pixels[rows][:, None], emotions[rows].astype(np.int64), CLASSES, ids)
    return parts
