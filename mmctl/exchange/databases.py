"""Opens SQLite files of other programs: only to read, and nothing that they define is run."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mmctl.exchange.foreign import BadSource, readable
from mmctl.filesystem import open_file
from mmctl.store.connection import BUSY

PATIENCE = 5.0
"""Seconds to wait for a program that writes."""
REPAIR = "Copy it again while nothing writes to it; -wal and -journal files beside it belong to it"
KILLED = "a program was killed while it wrote. Start that program again, which repairs the file, then import it"
LOCKED = "another program is writing to it. Import it again when that is done"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database for reading; BadSource where it is cut off, damaged or locked."""
    with readable(path):
        with open_file(path, 2**45) as file:
            head, size = file.read(100), file.seek(0, 2)
        page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        page = 65536 if page == 1 else page
        # The header's count is right where the file was last changed by the version that wrote the count.
        if len(head) < 100 or (head[24:28] == head[92:96] and pages * page > size):
            raise BadSource(f"{path}: cut off: has {size} bytes of {pages * page}. {REPAIR}.")
    real = Path(os.path.realpath(path))
    files = [real, *(real.with_name(real.name + end) for end in ("-wal", "-journal"))]
    before = _stamps(files)
    # A file with a write-ahead log can be opened only where that log can be made. Where there is none, nobody writes
    # now, and `immutable` reads the file as it stands. It ignores locks and logs, so it is for no other file.
    alone = head[18] == 2 and not any(one and one[0] for one in before[1:])
    conn = None
    try:
        where = f"file:{quote(os.fsencode(real))}?mode=ro{'&immutable=1' if alone else ''}"
        conn = sqlite3.connect(where, uri=True, timeout=PATIENCE)
        conn.text_factory = lambda data: data.decode("utf-8", "replace")
        conn.row_factory = sqlite3.Row
        conn.execute("PRAGMA trusted_schema = OFF")
        conn.execute("PRAGMA query_only = ON")
        yield conn
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise BadSource(f"{path}: {_why(error)}.") from None
    finally:
        if conn is not None:
            conn.close()
    if alone and _stamps(files) != before:
        raise BadSource(f"{path}: {LOCKED}.")


@contextmanager
def one_moment(conn: sqlite3.Connection) -> Iterator[None]:
    """All that is read inside is of one moment. Keep it short: a program that wants to write may have to wait."""
    conn.execute("BEGIN")
    try:
        yield
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def tables(conn: sqlite3.Connection) -> dict[str, set[str]]:
    """The columns of each table (views are none)."""
    names = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    sql = "SELECT name FROM pragma_table_info(?)"
    return {name: {row[0] for row in conn.execute(sql, [name])} for name in names}


def _stamps(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Size and time of each file, None where there is none."""
    found: list[tuple[int, int] | None] = []
    for path in files:
        try:
            info = path.stat()
            found.append((info.st_size, info.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def _why(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name in ("SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY"):
        return KILLED
    return LOCKED if name.startswith(BUSY) else f"cannot be read ({error}). {REPAIR}"
