"""Writes tables as CSV, TSV, JSON lines or Parquet, row by row; and whole files atomically."""

from __future__ import annotations

import csv
import io
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import IO

from mmctl.errors import EnvironmentFault, UserError
from mmctl.exchange.tables import ANY, INTEGER, NUMBER, POINTS, TEXT, TRUTH, Table, Value
from mmctl.filesystem import share, sync_folder
from mmctl.text import printable, to_json

FORMATS = ("csv", "tsv", "jsonl", "parquet")
BATCH = 65_536
"""Rows of a group of a Parquet file."""


@contextmanager
def target(path: Path | None, force: bool) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name when it is complete; None = standard output.

    UserError if there is such a file already and `force` is false; EnvironmentFault where it cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(path) and not (force and (path.is_file() or path.is_symlink())):
        raise UserError(
            f"{path}: exists already. --force replaces it."
            if path.is_file()
            else f"{path}: is not a file. Give another name."
        )
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}. Make it first.")
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        share(draft)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written ({error.strerror or error}). Give another place, or free some space."
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_table(table: Table, form: str, out: IO[bytes]) -> int:
    """Write a table in one of the FORMATS; returns the number of its rows. UserError without pyarrow for Parquet."""
    if form == "parquet":
        return _parquet(table, out)
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=False)
    counted = _Counted(table.rows)
    try:
        if table.columns == POINTS:
            text.writelines(_points(counted, form))
        elif form == "jsonl":
            names = [printable(name) for name in table.columns]
            text.writelines(f"{to_json(dict(zip(names, row, strict=True)))}\n" for row in counted)
        else:
            writer = csv.writer(text, lineterminator="\n", delimiter="\t" if form == "tsv" else ",")
            writer.writerow([printable(name) for name in table.columns])
            writer.writerows([_cell(value) for value in row] for row in counted)
        text.flush()
    finally:
        with suppress(OSError, ValueError):
            text.detach()
    return counted.n


class _Counted:
    def __init__(self, rows: Iterator[Sequence[Value]]) -> None:
        self.rows, self.n = rows, 0

    def __iter__(self) -> Iterator[Sequence[Value]]:
        for row in self.rows:
            self.n += 1
            yield row


def _cell(value: Value) -> Value:
    """A value for a cell: no control characters, lists as JSON."""
    if isinstance(value, str):
        return printable(value)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    return to_json(value)


def _points(rows: Iterable[Sequence[Value]], form: str) -> Iterator[str]:
    """The lines of points: what all points of a curve share is written once, which makes a million of them fast."""
    comma = "\t" if form == "tsv" else ","
    if form != "jsonl":
        yield f"{comma.join(POINTS)}\n"
    last: tuple[Value, Value] = None, None
    begin = ""
    for uid, name, step, value in rows:
        if (uid, name) != last:
            last = uid, name
            if form == "jsonl":
                begin = f'{to_json({"run": uid, "metric": name})[:-1]},"step":'
            else:
                shared = io.StringIO()
                csv.writer(shared, lineterminator=comma, delimiter=comma).writerow([_cell(uid), _cell(name)])
                begin = shared.getvalue()
        if form == "jsonl":
            shown = repr(value) if isinstance(value, float) and isfinite(value) else to_json(value)
            yield f'{begin}{step},"value":{shown}}}\n'
        else:
            yield f"{begin}{step}{comma}{value!r}\n"


def _parquet(table: Table, out: IO[bytes]) -> int:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            "export: Parquet needs pyarrow: pip install 'mmctl[parquet]'. CSV and JSON lines need nothing."
        ) from None
    kinds = {TEXT: arrow.string(), INTEGER: arrow.int64(), NUMBER: arrow.float64(), TRUTH: arrow.bool_()}
    kinds |= {ANY: arrow.string()}
    schema = arrow.schema([(printable(name), kinds[kind]) for name, kind in table.columns.items()])
    n = 0
    with parquet.ParquetWriter(out, schema) as writer:
        while rows := list(islice(table.rows, BATCH)):
            columns = [
                arrow.array([_typed(value, kind) for value in column], kinds[kind])
                for column, kind in zip(zip(*rows, strict=True), table.columns.values(), strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            n += len(rows)
    return n


def _typed(value: Value, kind: str) -> Value:
    if value is None or kind in (INTEGER, TRUTH):
        return value
    if kind == NUMBER:
        return float(value)  # type: ignore[arg-type]
    return printable(value) if isinstance(value, str) else to_json(value)
