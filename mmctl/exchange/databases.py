"""Opens SQLite files of other programs: only to read, and nothing that they define is run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mmctl.exchange.foreign import BadSource
from mmctl.filesystem import open_file

MAGIC = b"SQLite format 3\0"
REPAIR = "Copy it again while nothing writes to it; -wal and -journal files beside it belong to it"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database for reading; BadSource where it is cut off, damaged or locked."""
    try:
        with open_file(path, 2**45) as file:
            head, size = file.read(100), file.seek(0, 2)
        page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        page = 65536 if page == 1 else page
        # The header's count is right where the file was last changed by the version that wrote the count.
        if len(head) < 100 or (head[24:28] == head[92:96] and pages * page > size):
            raise BadSource(f"{path}: cut off: has {size} bytes of {pages * page}. {REPAIR}.")
        conn = _connect(path)
    except OSError as error:
        raise BadSource(f"{path}: cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise BadSource(f"{path}: cannot be read ({error}).") from None
    try:
        yield conn
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise BadSource(f"{path}: cannot be read ({error}). {REPAIR}.") from None
    finally:
        conn.close()


def _connect(path: Path) -> sqlite3.Connection:
    where = f"file:{quote(str(path.resolve()))}"
    # A write-ahead log needs a writable folder; without one the file is read as it stands.
    alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    for options in (f"?mode=ro{alone}", "?mode=ro&immutable=1"):
        try:
            conn = sqlite3.connect(where + options, uri=True, timeout=5)
            conn.text_factory = lambda data: data.decode("utf-8", "replace")
            conn.row_factory = sqlite3.Row
            conn.execute("PRAGMA trusted_schema = OFF")
            conn.execute("PRAGMA query_only = ON")
            conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return conn
        except sqlite3.Error as error:
            conn.close()
            fault = error
    raise BadSource(f"{path}: cannot be read ({fault}). {REPAIR}.")


def tables(conn: sqlite3.Connection) -> dict[str, set[str]]:
    """The columns of each table (views are none)."""
    names = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    sql = "SELECT name FROM pragma_table_info(?)"
    return {name: {row[0] for row in conn.execute(sql, [name])} for name in names}
