"""Opens runs/mmctl.db with locks and waiting, and explains why it cannot be opened.

Whoever has the database open holds a shared lock on the file beside it; whoever makes, changes or removes it
holds the lock alone. (SQLite itself would let a file be removed while another process writes to it.)
"""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import is_network
from mmctl.store import schema

FILE = "mmctl.db"
LOCK = "mmctl.lock"
REMEDY = "Make it again from the run folders, which hold everything: mmctl db rebuild"
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
MACHINE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_NOLFS")


@contextmanager
def explained_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into EnvironmentFault with a remedy."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug of ours
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(BUSY):
            text = "another process keeps the database locked. Try again when it is done"
        elif name.startswith(MACHINE):
            text = f"the database cannot be used ({error}). Check free space and permissions of that folder"
        else:
            text = f"the database is damaged ({error}). {REMEDY}"
        raise EnvironmentFault(f"{path}: {text}") from None


@contextmanager
def locked(folder: Path, how: int, patience: float) -> Iterator[None]:
    """Hold the lock file beside the database, shared or exclusive; EnvironmentFault after `patience` seconds."""
    try:
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise EnvironmentFault(f"{folder / LOCK}: {error.strerror}. The folder of runs must be writable.") from None
    try:
        end = time.monotonic() + patience
        while True:
            try:
                # flock, not lockf: two stores of one process must not share or drop each other's lock.
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise EnvironmentFault(
                        f"{folder / FILE}: other processes have kept the database open for {patience:.0f} s. "
                        "Try again when they are done."
                    ) from None
                time.sleep(random.uniform(0.002, 0.02))
            except OSError as error:
                raise EnvironmentFault(f"{folder / LOCK}: cannot be locked ({error.strerror}).") from None
        yield
    finally:
        os.close(fd)


@contextmanager
def open_database(folder: Path, patience: float) -> Iterator[sqlite3.Connection]:
    """A connection to the database of a folder of runs; creates the database if there is none."""
    path = folder / FILE
    while True:
        with locked(folder, fcntl.LOCK_SH, patience), explained_errors(path), connect(path, patience) as conn:
            if not _pending(conn, path):
                yield conn
                return
        with locked(folder, fcntl.LOCK_EX, patience), explained_errors(path), connect(path, patience) as conn:
            if _pending(conn, path):
                conn.execute(f"PRAGMA journal_mode = {'TRUNCATE' if is_network(folder) else 'WAL'}")
                schema.migrate(conn)


@contextmanager
def in_memory() -> Iterator[sqlite3.Connection]:
    """A database in memory, for folders that are not writable."""
    with connect(Path(":memory:"), 0) as conn:
        schema.migrate(conn)
        yield conn


@contextmanager
def connect(path: Path, patience: float) -> Iterator[sqlite3.Connection]:
    """A connection without automatic transactions; `transaction` starts them, always IMMEDIATE."""
    conn = sqlite3.connect(path, timeout=patience, isolation_level=None)
    conn.row_factory = sqlite3.Row
    try:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute("PRAGMA synchronous = NORMAL")
        conn.execute("PRAGMA trusted_schema = OFF")
        yield conn
    finally:
        conn.close()


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """One write transaction. IMMEDIATE, since a deferred one that becomes a write fails as busy without waiting."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")


def remove_database(folder: Path, patience: float) -> None:
    """Delete the database, not the run folders."""
    with locked(folder, fcntl.LOCK_EX, patience):
        for end in ("", "-wal", "-shm", "-journal"):
            try:
                (folder / (FILE + end)).unlink(missing_ok=True)
            except OSError as error:
                raise EnvironmentFault(f"{folder / FILE}: cannot be removed ({error.strerror}).") from None


def _pending(conn: sqlite3.Connection, path: Path) -> bool:
    """Whether migrations are missing; EnvironmentFault if the database is not ours or is newer."""
    if conn.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION:
        if conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise EnvironmentFault(
                f"{path}: not a database of mmctl. Move it away if you need it, then: mmctl db rebuild"
            )
        return True
    applied = schema.applied(conn)
    if newer := sorted(applied - set(schema.MIGRATIONS)):
        raise EnvironmentFault(
            f"{path}: made by a newer mmctl (this one does not know its migration {newer[0]}). "
            "Upgrade mmctl, or make the database again with this one: mmctl db rebuild"
        )
    return applied != set(schema.MIGRATIONS)
