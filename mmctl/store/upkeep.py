"""Copies the database while it is used, and gives its free pages back."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from mmctl.errors import EnvironmentFault, UserError
from mmctl.store.connection import explained_errors
from mmctl.store.store import Store


def backup(store: Store, target: Path) -> int:
    """Copy the database to a new file, complete or not at all; returns its bytes. UserError if the file exists."""
    if os.path.lexists(target):
        raise UserError(f"{target}: exists already. Give the backup another name.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with closing(sqlite3.connect(temporary)) as copy, explained_errors(temporary):
            store._conn.backup(copy, pages=1000)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, which can be copied on
        _give_name(temporary, target)
    except (OSError, sqlite3.OperationalError) as error:
        raise EnvironmentFault(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error}).") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target.stat().st_size


def _give_name(temporary: Path, target: Path) -> None:
    """Rename a file; unlike a rename alone, it never replaces another one: FileExistsError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # exFAT, FAT and some of FUSE have no links
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            temporary.replace(target)
        except OSError:
            target.unlink(missing_ok=True)  # our empty one
            raise


def vacuum(store: Store, if_more_than: float = 0.0) -> tuple[int, int]:
    """Write the database anew without its free pages; returns its bytes before and after.

    if_more_than: only if this share of its pages is free.
    """
    conn = store._conn
    with explained_errors(store.path):
        pages, free, size = (
            int(conn.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
        )
        if free < max(1, if_more_than * pages):
            return pages * size, pages * size
        conn.execute("PRAGMA temp_store = FILE")  # the copy is as large as the database
        conn.execute("VACUUM")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        conn.execute("PRAGMA temp_store = MEMORY")
        return pages * size, int(conn.execute("PRAGMA page_count").fetchone()[0]) * size
