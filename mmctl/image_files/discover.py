"""Finds the label files of a folder, by their names and by what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mmctl.errors import DataError
from mmctl.image_files import exports, tables
from mmctl.image_files.files import Part
from mmctl.image_files.label_files import LABEL_STUDIO, LABELS, Asked
from mmctl.image_files.tables import Table
from mmctl.image_files.tree import Tree
from mmctl.image_files.words import part_in, part_of
from mmctl.text import display_path

NAMES = frozenset({
    "labels.csv", "labels.tsv", "labels.jsonl", "labels.json", "metadata.csv", "metadata.jsonl", "_classes.csv",
    "_annotations.coco.json",
})  # fmt: skip
METADATA = ("metadata.csv", "metadata.jsonl")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
MOST_TRIED = 20
"""Files with other names that are opened in a folder: there may be one beside each image."""


@dataclass(frozen=True)
class LabelFile:
    """A label file, read so far that it is known to be one."""

    id: str  # below the root, "" = elsewhere
    path: Path
    name: str  # for messages
    kind: str
    part: Part | None = None
    json: object = None
    table: Table | None = None


def label_files(
    tree: Tree, given: Path | None, asked: Asked, delimiter: str | None = None
) -> tuple[list[LabelFile], list[str]]:
    """The label files to read, and notes; given: the user named one. DataError if it is unclear which."""
    notes: list[str] = []
    if given is not None:
        return [_given(tree, given, delimiter)], notes
    look = _Looker(tree, asked, delimiter, notes)
    found = look.inside("") or look.inside("annotations/")
    for folder in [one for one in tree.folders if "/" not in one and part_of(one)]:
        inside = look.inside(folder + "/")
        found += [replace(one, part=part_of(folder)) for one in inside]
    return _clear(found), notes


def _given(tree: Tree, path: Path, delimiter: str | None) -> LabelFile:
    if not path.is_absolute() and not path.exists() and (tree.root / path).exists():
        path = tree.root / path
    if not path.is_file():
        raise DataError(f"{display_path(path)}: {'is no file' if path.exists() else 'there is no such label file'}.")
    real = path.resolve()
    id_ = real.relative_to(tree.root).as_posix() if real.is_relative_to(tree.root) else ""
    id_ = id_ if id_ in tree.others else ""
    name = id_ or display_path(path)
    suffix = path.suffix.lower()
    part = part_of(id_.partition("/")[0]) if "/" in id_ else None
    if suffix == ".json":
        found = tables.parse_json(tables.read_text(path, name), name)
        return LabelFile(id_, path, name, exports.kind_of(found) or path.name, part, found)
    if suffix == ".txt":
        return LabelFile(id_, path, name, path.name, part)
    table = tables.read_table(path, name, delimiter)
    return LabelFile(id_, path, name, _kind(table, path.name), part, None, table)


def _kind(table: Table, name: str) -> str:
    if set(table.columns) >= LABEL_STUDIO:
        return "Label Studio"
    return "Hugging Face imagefolder" if name.lower() in METADATA else name


@dataclass
class _Looker:
    tree: Tree
    asked: Asked
    delimiter: str | None
    notes: list[str]

    def inside(self, folder: str) -> list[LabelFile]:
        """The label files directly in a folder; those with a known name come alone."""
        here = [one for one in self.tree.others if one.startswith(folder) and "/" not in one[len(folder) :]]
        known = [one for one in here if one[len(folder) :].lower() in NAMES]
        if found := [file for one in known if (file := self._known(one)) is not None]:
            return found
        here = [one for one in here if one not in known]
        if folder + exports.SYNSETS in here:
            return [self._list(one) for one in here if _may_be_list(one[len(folder) :])]
        tried = [one for one in here if one.lower().endswith((".json", ".csv"))][:MOST_TRIED]
        return [file for one in tried if (file := self._by_content(one)) is not None]

    def _known(self, id_: str) -> LabelFile | None:
        path = self.tree.path(self.tree.others[id_])
        name = path.name
        if path.suffix.lower() == ".json":
            found = tables.parse_json(tables.read_text(path, id_), id_)
            return LabelFile(id_, path, id_, exports.kind_of(found) or name, None, found)
        table = tables.read_table(path, id_, self.delimiter)
        has_label = self.asked.label is not None or {column.lower() for column in table.columns} & set(LABELS)
        if name.lower() in METADATA and not has_label:
            self.notes.append(f"{id_} has no column for the label and is not used; `label_column` names one")
            return None
        return LabelFile(id_, path, id_, _kind(table, name), None, None, table)

    def _list(self, id_: str) -> LabelFile:
        path = self.tree.path(self.tree.others[id_])
        return LabelFile(id_, path, id_, "CVAT ImageNet", part_in(path.name) or "train")

    def _by_content(self, id_: str) -> LabelFile | None:
        """A file with any name that is an export of another program."""
        path = self.tree.path(self.tree.others[id_])
        try:
            if path.suffix.lower() == ".csv":
                table = tables.read_table(path, id_, self.delimiter)
                if set(table.columns) >= LABEL_STUDIO:
                    return LabelFile(id_, path, id_, "Label Studio", None, None, table)
                return None
            found = tables.parse_json(tables.read_text(path, id_), id_)
        except DataError:
            return None  # not meant for us
        kind = exports.kind_of(found)
        if kind is None or kind == "list of JSON objects":
            return None
        return LabelFile(id_, path, id_, kind, part_in(path.name), found)


def _may_be_list(name: str) -> bool:
    return (
        name.lower().endswith(".txt") and name != exports.SYNSETS and not name.lower().startswith(("readme", "licen"))
    )


def _clear(found: Iterable[LabelFile]) -> list[LabelFile]:
    """The files, if they do not speak of the same part."""
    seen: dict[Part | None, LabelFile] = {}
    files = list(found)
    for one in files:
        other = seen.setdefault(one.part, one)
        if other is not one or (one.part is not None and None in seen):
            other = seen[None] if None in seen and one.part is not None else other
            raise DataError(
                f"{other.name} and {one.name}: both are label files. Say which one holds the labels (`labels`)."
            )
    return files
