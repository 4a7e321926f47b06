"""Reads tables with a line number for each row: CSV and TSV, JSON lines and lists of JSON, all values as text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import DataError
from mmctl.filesystem import read_file
from mmctl.image_files.words import quoted

LARGEST = 2**30
LONGEST_LINE = 2**20
DELIMITERS = ",;\t|"
SAVE_AGAIN = "Save it again as CSV UTF-8"


class Table(NamedTuple):
    """Columns by name, and rows as (line, cells); errors of a row come when it is read."""

    columns: list[str]
    rows: Iterator[tuple[int, list[str]]]


def read_bytes(path: Path, name: str) -> bytes:
    """The content of a label file; DataError if it cannot be read."""
    try:
        return read_file(path, LARGEST)
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def read_text(path: Path, name: str) -> str:
    """The content of a label file as text; DataError with the place of the first byte that is not UTF-8."""
    data = read_bytes(path, name)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}:1: is UTF-16 text (byte 0). {SAVE_AGAIN} (in Excel: CSV UTF-8).")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + 3 * data.startswith(b"\xef\xbb\xbf")
        line = data.count(b"\n", 0, at) + 1
        raise DataError(
            f"{name}:{line}: byte {at} (0x{data[at]:02x}) is not UTF-8; the file may be Latin-1 or Windows-1252. "
            f"{SAVE_AGAIN}, or: iconv -f latin1 -t utf-8."
        ) from None
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise DataError(f"{name}:{line}: has a zero byte, as UTF-16 text and damaged files do. {SAVE_AGAIN}.")
    return text


def read_table(path: Path, name: str, delimiter: str | None = None) -> Table:
    """A table in a file; name: how messages call it. DataError for what is no table."""
    suffix = path.suffix.lower()
    text = read_text(path, name)
    if not text.strip():
        raise DataError(f"{name}:1: the file is empty. It needs the header `path,label` and a line for each image.")
    if suffix in (".jsonl", ".ndjson"):
        return _of_records(name, _json_lines(text, name))
    if suffix == ".json":
        found = parse_json(text, name)
        if not isinstance(found, list):
            raise DataError(f'{name}:1: must be a list of objects, such as [{{"path": ..., "label": ...}}].')
        return records(found, name)
    return _csv(text, name, delimiter or ("\t" if suffix == ".tsv" else None))


def records(found: Iterable[object], name: str) -> Table:
    """A list of JSON objects as a table; the number of an object stands for its line."""
    return _of_records(name, enumerate(found, 1))


def parse_json(text: str, name: str, line: int = 1) -> object:
    """The value of a JSON text; DataError with the line where it is wrong."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}:{line + error.lineno - 1}: is not JSON ({error.msg}). Correct the line.") from None
    except RecursionError:
        raise DataError(f"{name}:{line}: JSON with too many levels. Each line is one object with a path.") from None
    except ValueError as error:  # a number with thousands of digits
        raise DataError(f"{name}:{line}: is not usable JSON ({error}). Correct the line.") from None


def _json_lines(text: str, name: str) -> Iterator[tuple[int, object]]:
    for line, one in enumerate(io.StringIO(text), 1):
        if one.strip():
            if len(one) > LONGEST_LINE:
                raise DataError(f"{name}:{line}: the line has {len(one)} characters, more than {LONGEST_LINE}.")
            yield line, parse_json(one, name, line)


def _of_records(name: str, numbered: Iterable[tuple[int, object]]) -> Table:
    """Objects as rows; the columns are the keys of all, in the order in which they come."""
    kept: list[tuple[int, Mapping[str, object]]] = []
    keys: dict[str, None] = {}
    for line, one in numbered:
        if not isinstance(one, Mapping):
            raise DataError(f'{name}:{line}: must be an object, such as {{"path": "a.jpg", "label": "cat"}}.')
        kept.append((line, one))
        keys.update(dict.fromkeys(one))
    if not kept:
        raise DataError(f"{name}:1: has no rows. Write a line for each image.")
    if len(keys) > 10_000:
        raise DataError(f"{name}: its objects have {len(keys)} different keys. Each needs a path and a label.")
    columns = list(keys)
    return Table(columns, ((line, [cell(one.get(key)) for key in columns]) for line, one in kept))


def cell(value: object) -> str:
    """A value of JSON as text: null is empty, a list or object stays JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (list, dict, bool)) else str(value)


def _csv(text: str, name: str, delimiter: str | None) -> Table:
    # The header decides: of a file with one column each delimiter gives one.
    if delimiter is None:
        found = {one: _header(text, one) for one in DELIMITERS}
        delimiter = max(DELIMITERS, key=lambda one: len(found[one]))  # the first of equals, the comma
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"{name}: the delimiter must be one character, such as ; (got {quoted(delimiter)}).")
    rows = _rows(text, name, delimiter)
    start, header = next(rows, (1, []))
    columns = [column.strip() for column in header]
    named = [column.lower() for column in columns if column]
    if twice := next((column for i, column in enumerate(named) if column in named[:i]), None):
        raise DataError(f"{name}:{start}: the header has the column {quoted(twice)} twice. Rename one.")
    return Table(columns, _whole(rows, name, len(columns), delimiter))


def _header(text: str, delimiter: str) -> list[str]:
    reader = csv.reader(_lines(text[: 2**17], "", quiet=True), delimiter=delimiter)
    try:
        return next((row for row in reader if any(map(str.strip, row))), [])
    except csv.Error:
        return []


def _lines(text: str, name: str, quiet: bool = False) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > LONGEST_LINE and not quiet:
            raise DataError(
                f"{name}:{number}: the line has {len(line)} characters, more than {LONGEST_LINE}. This is no label "
                "file, or its line ends are missing."
            )
        yield line


def _rows(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the line in which each begins."""
    reader = csv.reader(_lines(text, name), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        said = str(error)
        if "field larger" in said:
            said = f"a cell has more than {csv.field_size_limit()} characters"
        elif "end of data" in said:
            said = 'a quoted cell has no end: a " is missing'
        elif "expected after" in said:
            said = 'text stands after the closing " of a cell; write a " inside of a cell twice'
        raise DataError(f"{name}:{start}: {said}. Correct the line.") from None


def _whole(
    rows: Iterator[tuple[int, list[str]]], name: str, width: int, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Rows with as many cells as the header."""
    said = f"the header has {width}"
    for line, row in rows:
        if len(row) == width:
            yield line, row
        elif len(row) > width and not any(map(str.strip, row[width:])):
            yield line, row[:width]
        elif not any(map(str.strip, row)):
            continue
        elif len(row) > width:
            raise DataError(
                f"{name}:{line}: {len(row)} cells, but {said}. Put a cell with {quoted(delimiter)} inside into quotes."
            )
        else:
            raise DataError(
                f"{name}:{line}: {len(row)} cell{'s' * (len(row) != 1)}, but {said}. Write an empty cell for an image "
                "without a label; or is the delimiter another one (`delimiter`)?"
            )
