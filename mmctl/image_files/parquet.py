"""Images inside of Parquet files, as data sets of Hugging Face keep them; needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.errors import DataError
from mmctl.image_files import tables
from mmctl.image_files.files import LARGEST, ImageFile, Part, Stamp
from mmctl.image_files.folders import UNLABELED_TEST
from mmctl.image_files.label_files import GROUPS, LABELS, Asked, clean_label
from mmctl.image_files.places import Places, Unplaced
from mmctl.image_files.tree import Tree
from mmctl.image_files.words import part_in, quoted


class InParquet(NamedTuple):
    """An image in a row of a Parquet file."""

    path: Path
    column: str
    row_group: int
    row: int  # in its row group
    number: int  # in the file

    def read(self) -> bytes:
        """All bytes. The row group is kept for the next rows; OSError if the file changed."""
        found = _row_group(self.path, self.path.stat().st_mtime_ns, self.column, self.row_group)
        try:
            data = found[self.row].as_py()
        except (IndexError, ValueError):
            data = None
        if not isinstance(data, bytes):
            raise OSError(f"{self.path}: row {self.number + 1} has no image")
        if len(data) > LARGEST:
            raise OSError(f"has {len(data):,} bytes, more than {LARGEST:,}")
        return data

    def stamp(self) -> Stamp:
        """Size and times of the file, the column and the row."""
        stat = self.path.stat()
        return Stamp(f"{self.path}/{self.column}", stat.st_size, stat.st_mtime_ns, self.number, stat.st_ctime_ns)


@lru_cache(maxsize=2)  # rows are read in their order, by a process or two
def _row_group(path: Path, mtime_ns: int, column: str, group: int) -> Any:
    del mtime_ns  # part of the key
    arrow = import_module("pyarrow")
    try:
        with import_module("pyarrow.parquet").ParquetFile(path) as file:
            table = file.read_row_group(group, columns=[f"{column}.bytes"])
            return table.column(0).combine_chunks().field("bytes")
    except (arrow.ArrowException, KeyError, IndexError) as error:
        raise OSError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def parquet_files(tree: Tree, names: Sequence[str], asked: Asked) -> list[ImageFile]:
    """The images of these files, whose names or folders say the part (else train); what is wrong is in `problems`.

    An image is a struct of bytes and path; a label with the type ClassLabel has its names in the metadata.
    DataError without pyarrow, and for columns that are not there.
    """
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(f"{names[0]}: Parquet needs pyarrow: pip install 'mmctl[parquet]'.") from None
    places, files = Places(tree), list[ImageFile]()
    for name in sorted(names):
        path = tree.path(tree.others[name])
        try:
            with parquet.ParquetFile(path) as file:
                files += _images(tree, places, name, path, file, asked)
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            said = " ".join(str(error).split())[:200]
            tree.problems.add(f"{name}: is not a Parquet file that can be read ({said}). Copy it again.")
    return files


def _images(tree: Tree, places: Places, name: str, path: Path, file: Any, asked: Asked) -> Iterator[ImageFile]:
    schema = file.schema_arrow
    image = asked.path or next((one.name for one in schema if _is_image(one.type)), None)
    if image is None or image not in schema.names or not _is_image(schema.field(image).type):
        raise DataError(
            f"{name}: no column of images (a struct of bytes and path) among {', '.join(map(quoted, schema.names))}. "
            "Name it (`path_column`), or write the images as files with a labels.csv."
        )
    known = {one.lower(): one for one in schema.names if one != image}
    label = asked.label or next((known[one] for one in LABELS if one in known), None)
    group = asked.group or next((known[one] for one in GROUPS if one in known), None)
    part: Part = part_in(name) or "train"
    if (missing := next((one for one in (label, group) if one and one not in schema.names), None)) or (
        label is None and part != "unlabeled"
    ):
        what = f"no column {quoted(missing)}" if missing else "no column for the label"
        raise DataError(
            f"{name}: {what} among {', '.join(map(quoted, schema.names))}. Name the column (`label_column`), or call "
            "the file unlabeled."
        )
    names = _class_names(schema.metadata or {}, label)
    number = 0
    columns = [f"{image}.path", *(one for one in (label, group) if one)]
    has = {one.name for one in schema.field(image).type}
    for row_group in range(file.num_row_groups):
        rows = file.metadata.row_group(row_group).num_rows
        table = file.read_row_group(row_group, columns=columns if "path" in has else columns[1:])
        labels, groups = ([None] * rows if one is None else table.column(one).to_pylist() for one in (label, group))
        paths = _paths(table, image, rows, "path" in has)
        empty = _without_bytes(file, row_group, image) if any(paths) else [False] * rows
        for row in range(rows):
            number += 1
            where = f"{name}: row {number}"
            try:
                said = _label(labels[row], names)
                source = tree.source(places.find(paths[row])) if empty[row] else InParquet(
                    path, image, row_group, row, number - 1
                )  # fmt: skip
            except (ValueError, Unplaced) as error:
                tree.problems.add(f"{where}: {error}")
                continue
            if said is None and part in ("val", "test"):
                tree.ignored[UNLABELED_TEST] += 1
                continue
            kept: Part = part if said is not None else "unlabeled"
            person = tables.cell(groups[row]).strip() or None
            tree.used.add(name)
            yield ImageFile(f"{name}/{number:06d}", source, kept, said, where, person)


def _is_image(kind: Any) -> bool:
    fields = {one.name: str(one.type) for one in kind} if str(kind).startswith("struct") else {}
    return fields.get("bytes") in ("binary", "large_binary")


def _paths(table: Any, image: str, rows: int, given: bool) -> list[str]:
    if not given:
        return [""] * rows
    return [(value or {}).get("path") or "" for value in table.column(image).to_pylist()]


def _without_bytes(file: Any, row_group: int, image: str) -> list[bool]:
    """Rows whose image is a file beside; told by the counts of nulls if they are written, since bytes are large."""
    group = file.metadata.row_group(row_group)
    for i in range(group.num_columns):
        column = group.column(i)
        known = column.statistics is not None and column.statistics.has_null_count
        if column.path_in_schema == f"{image}.bytes" and known and column.statistics.null_count == 0:
            return [False] * group.num_rows
    data = file.read_row_group(row_group, columns=[f"{image}.bytes"]).column(0).combine_chunks()
    return [not one for one in data.field("bytes").is_valid().to_pylist()]


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> list[str] | None:
    """Names of the type ClassLabel, from what Hugging Face writes into the schema."""
    try:
        found = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _label(value: object, names: list[str] | None) -> str | None:
    if names is not None and isinstance(value, int):
        if value == -1:  # the data set hides it
            return None
        if not 0 <= value < len(names):
            raise ValueError(
                f"the class {value} is none of the {len(names)} names in the metadata. Write the file again."
            )
        return clean_label(names[value])
    return clean_label(tables.cell(value))
