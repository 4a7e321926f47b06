"""Answers SQL of the user: one SELECT, which can only read, however it is written."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from mmctl.errors import UserError, suggest
from mmctl.store.schema import TABLES
from mmctl.store.store import Store

READS = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, getattr(sqlite3, "SQLITE_RECURSIVE", 33)
}  # fmt: skip
"""All that a query may do: no PRAGMA, ATTACH, transaction or change."""
LONGEST = 2**26
"""Bytes of the largest value that a query may make."""
Value = str | int | float | bytes | None


class Answer(NamedTuple):
    """The columns of an answer, and its rows as they are read."""

    columns: list[str]
    rows: Iterator[Sequence[Value]]


@contextmanager
def asked(store: Store, sql: str) -> Iterator[Answer]:
    """Ask the database; UserError for anything but one SELECT that SQLite understands."""
    conn = store._conn
    conn.row_factory = None
    conn.set_authorizer(_may)
    # Without a call back into Python, Ctrl-C would wait for the end of the query.
    conn.set_progress_handler(lambda: 0, 100_000)
    conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    try:
        cursor = conn.execute(sql)
        if cursor.description is None:
            raise UserError("query: there is no SELECT in it. `mmctl query` without SQL prints the tables.")
        yield Answer([column[0] for column in cursor.description], cursor)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise UserError(f"query: {_explained(str(error))}") from None
    finally:
        conn.set_authorizer(None)
        conn.set_progress_handler(None, 0)
        conn.row_factory = sqlite3.Row


def _may(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    if action not in READS or (action == sqlite3.SQLITE_FUNCTION and second == "load_extension"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _explained(text: str) -> str:
    words = set(re.findall(r"[a-z_0-9]+", TABLES))
    if missing := re.fullmatch(r"no such (?:column|table): (?:\w+\.)?(\w+)", text):
        return f"{text}.{suggest(missing[1], words)} `mmctl query` prints the tables."
    if "not authorized" in text or "prohibited" in text:
        return "only reads: one SELECT, without PRAGMA, ATTACH or changes. `mmctl query` prints the tables."
    if "one statement" in text:
        return "takes one statement at a time."
    return f"{text}. `mmctl query` prints the tables."


def schema_text() -> str:
    """The tables with their columns and comments, as SQL."""
    return re.sub(r"^CREATE INDEX.*\n", "", TABLES, flags=re.M).strip()
