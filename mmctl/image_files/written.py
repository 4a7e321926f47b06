"""Writes labels.csv: path, label, split and, if there are any, groups; `find_images` reads the same from it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from mmctl.errors import DataError
from mmctl.image_files.files import ImageFile, InFolder
from mmctl.image_files.label_files import clean_label
from mmctl.image_files.words import quoted


def labels_csv(files: Sequence[ImageFile]) -> str:
    """The text of labels.csv for these images, with paths relative to the folder that was searched.

    DataError for what a CSV file cannot name: images inside of archives, and class names that would read differently.
    """
    if packed := next((one for one in files if not isinstance(one.source, InFolder)), None):
        raise DataError(
            f"{quoted(packed.id)}: is inside of an archive, where labels.csv cannot name it. Use the folder as it is, "
            "or unpack it first."
        )
    for label in dict.fromkeys(one.label for one in files):
        if label is not None and not _same(label):
            raise DataError(f"the class name {quoted(label)} would read differently from a CSV file. Rename it.")
    grouped = any(one.group is not None for one in files)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "split", *(["group"] if grouped else [])])
    writer.writerows(_rows(files, grouped))
    return text.getvalue()


def _same(label: str) -> bool:
    try:
        return clean_label(label) == label
    except ValueError:
        return False


def _rows(files: Iterable[ImageFile], grouped: bool) -> Iterable[list[str]]:
    for one in files:
        yield [one.id, one.label or "", one.part, *([one.group or ""] if grouped else [])]
