"""What the columns of a label file mean: path, label (or one-hot columns), part, group."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmctl.errors import DataError, suggest
from mmctl.image_files.files import Part
from mmctl.image_files.tables import Table
from mmctl.image_files.words import LONGEST_CLASS, PARTS_SAID, Problems, part_of, quoted

PATHS = ("path", "image_path", "file_name", "filename", "file", "image", "img", "id")
LABELS = ("label", "class", "choice", "category", "target")
SPLITS = ("split", "part", "subset", "partition")
GROUPS = ("group", "group_id")
NO_CLASS = frozenset({"unlabeled", "unlabelled"})
"""Of one-hot columns, the one that says that there is no label (Roboflow)."""
LABEL_STUDIO = frozenset({"annotation_id", "lead_time"})


class Row(NamedTuple):
    """What a label file says about one image."""

    line: int
    path: str
    label: str | None
    part: Part | None  # None = it does not say
    group: str | None


@dataclass(frozen=True)
class Asked:
    """Columns that the user named, None = known names are looked for."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None


class Columns(NamedTuple):
    """Positions of the columns."""

    path: int
    label: int | None
    one_hot: tuple[tuple[int, str | None], ...]  # position, class
    split: int | None
    group: int | None


def columns_of(table: Table, name: str, asked: Asked) -> Columns:
    """Which column is which. DataError if there is none for path or label, with what there is."""
    columns = [column.lower() for column in table.columns]

    def find(wanted: str | None, known: Sequence[str], option: str) -> int | None:
        if wanted is None:
            return next((columns.index(one) for one in known if one in columns), None)
        if wanted in table.columns:
            return table.columns.index(wanted)
        if wanted.lower() in columns:
            return columns.index(wanted.lower())
        raise DataError(
            f"{name}:1: there is no column {quoted(wanted)} ({option}).{suggest(wanted, table.columns)} "
            f"Columns: {_listed(table.columns)}"
        )

    path = find(asked.path, PATHS, "path_column")
    split, group = find(asked.split, SPLITS, "split_column"), find(asked.group, GROUPS, "group_column")
    label = find(asked.label, LABELS, "label_column")
    if path is None:
        raise DataError(
            f"{name}:1: no column for the path of the image among {_listed(table.columns)}. Write a header line such "
            "as path,label; or name the column (`path_column`)."
        )
    one_hot: list[tuple[int, str | None]] = []
    if label is None:
        for i, column in enumerate(table.columns):
            if i not in (path, split, group) and column:
                one_hot.append((i, None if column.lower() in NO_CLASS else unicodedata.normalize("NFC", column)))
        if len(one_hot) < 2:
            raise DataError(_no_label(name, table.columns))
    return Columns(path, label, tuple(one_hot), split, group)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(quoted(one) for one in columns[:12]) + ", ..." * (len(columns) > 12)


def _no_label(name: str, columns: Sequence[str]) -> str:
    return (
        f"{name}:1: no column for the label among {_listed(columns)}. Name the column (`label_column`), or call it "
        "label."
    )


def rows_of(table: Table, name: str, asked: Asked, problems: Problems) -> Iterator[Row]:
    """The rows by the meaning of their columns; what is wrong in a row is in `problems`."""
    at = columns_of(table, name, asked)
    labels: dict[str, str | None] = {"": None}
    parts: dict[str, Part | None] = {"": None}
    for line, cells in table.rows:
        if not cells[at.path].strip():
            problems.add(f"{name}:{line}: the path of the image is empty. Write it, or delete the line.")
            continue
        try:
            if at.label is not None:
                raw = cells[at.label]
                label = labels[raw] if raw in labels else labels.setdefault(raw, clean_label(raw))
            else:
                label = _one_hot(cells, at.one_hot, table.columns, name)
            part = None
            if at.split is not None:
                raw = cells[at.split]
                part = parts[raw] if raw in parts else parts.setdefault(raw, _part(raw))
        except ValueError as error:
            problems.add(f"{name}:{line}: {error}")
            continue
        group = cells[at.group].strip() or None if at.group is not None else None
        yield Row(line, cells[at.path], label, part, group)


def clean_label(raw: str) -> str | None:
    """A class name from a cell; None if it is empty. ValueError for several classes, or text that is no name."""
    label = raw.strip()
    if label[:1] in ("{", "["):  # a list in JSON, or {"choices": [...]} of Label Studio
        try:
            held = json.loads(label)
        except (ValueError, RecursionError):
            held = label
        if isinstance(held, dict):
            held = held.get("choices")
        if isinstance(held, list):
            if len(held) > 1:
                raise ValueError(f"{len(held)} classes ({quoted(label)}), but an image has one. Keep one of them.")
            label = str(held[0]).strip() if held and held[0] is not None else ""
        elif held is None:
            raise ValueError(f"the label {quoted(label)} is an object, not a class name. Write its name.")
    if len(label) > LONGEST_CLASS:
        raise ValueError(
            f"the label has {len(label)} characters, more than a class name has ({LONGEST_CLASS}): "
            f"{quoted(label)}. Is it the right column (`label_column`)?"
        )
    try:
        label.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the label {quoted(label)} is not Unicode text. Correct it.") from None
    return unicodedata.normalize("NFC", label) or None


def _part(raw: str) -> Part | None:
    part = part_of(raw)
    if part is None and raw.strip():
        raise ValueError(f"the part {quoted(raw)} is none of {PARTS_SAID}. Correct it.")
    return part


def _one_hot(
    cells: list[str], columns: Sequence[tuple[int, str | None]], names: Sequence[str], file: str
) -> str | None:
    found: list[str | None] = []
    for i, name in columns:
        text = cells[i].strip()
        if text in ("1", "1.0", "True", "true"):
            found.append(name)
        elif text not in ("0", "0.0", "", "False", "false"):
            raise DataError(
                _no_label(file, names)
                + f" (As one-hot columns they have 0 or 1; {quoted(names[i])} has {quoted(text)}.)"
            )
    if len(found) > 1:
        shown = " and ".join(quoted(one or "unlabeled") for one in found[:3])
        raise ValueError(f"{len(found)} classes ({shown}), but an image has one. Keep one of them.")
    return found[0] if found else None
