"""Opens runs/mmctl.db with locks and waiting, and explains why it cannot be opened.

Whoever has the database open holds a shared lock on the file beside it; whoever makes, changes or removes it
holds the lock alone. (SQLite itself would let a file be removed while another process writes to it.) On a disk that
several machines share, one machine at a time has it open (owner.py).
"""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import is_network, share
from mmctl.store import owner, schema

FILE = "mmctl.db"
LOCK = "mmctl.lock"
REMEDY = "Make it again from the run folders, which hold everything: mmctl db rebuild"
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
MACHINE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_NOLFS")
MAGIC = b"SQLite format 3\0"


class IndexUnusable(EnvironmentFault):
    """The database cannot be used now: disk full, not writable, locked. The run folders can still be read."""


class IndexOutdated(Exception):
    """The database is ours, but of a newer version or only half there: it must be made again."""


class Waiting:
    """How long to wait for other processes, and what to say after a second of it."""

    def __init__(self, seconds: float, say: Callable[[str], None] = lambda text: None) -> None:
        self.seconds, self._say, self._said = seconds, say, False

    def tell(self, path: Path) -> None:
        """Say once that the database is waited for."""
        if not self._said:
            self._said = True
            self._say(f"waiting for another process that uses {path} ...")


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
            raise IndexUnusable(f"{path}: {text}") from None
        if name.startswith(MACHINE):
            text = f"the database cannot be used ({error}). Check free space and permissions of that folder"
            raise IndexUnusable(f"{path}: {text}") from None
        raise EnvironmentFault(f"{path}: the database is damaged ({error}). {REMEDY}") from None


@contextmanager
def locked(folder: Path, how: int, waiting: Waiting) -> Iterator[None]:
    """Hold the lock file beside the database, shared or exclusive; IndexUnusable if it cannot be held."""
    path, several = folder / LOCK, is_network(folder)
    try:
        fd = _open_lock(path)
    except OSError as error:
        raise IndexUnusable(f"{path}: {error.strerror}. The folder of runs must be writable.") from None
    try:
        begin = time.monotonic()
        while True:
            try:
                # flock, not lockf: two stores of one process must not share or drop each other's lock.
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - begin
                if waited > waiting.seconds:
                    raise IndexUnusable(
                        f"{folder / FILE}: other processes have kept the database open for {waiting.seconds:.0f} s. "
                        "Try again when they are done."
                    ) from None
                if waited > 1:
                    waiting.tell(folder / FILE)
                time.sleep(random.uniform(0.002, 0.02))
            except OSError as error:
                raise IndexUnusable(f"{path}: cannot be locked ({error.strerror}).") from None
        if several:
            _own(folder, waiting)
        yield
    finally:
        if several:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else of this machine has the database open
                owner.leave(folder)
        os.close(fd)


def _own(folder: Path, waiting: Waiting) -> None:
    """Make this machine the only one that has the database open; IndexUnusable if another one has it."""
    begin = time.monotonic()

    def waits() -> None:
        if time.monotonic() - begin > 1:
            waiting.tell(folder / FILE)

    try:
        other = owner.take(folder, waiting.seconds, waits)
    except OSError as error:
        raise IndexUnusable(f"{folder / owner.FILE}: cannot be written ({error.strerror}).") from None
    if other:
        raise IndexUnusable(
            f"{folder / FILE}: {other} has the database open, and this disk is shared: one machine at a time may. Run "
            f"the command there, or end what runs there (if nothing does, wait {owner.STALE:.0f} s)."
        )


def keep_own(folder: Path) -> None:
    """Before each import: IndexUnusable if another machine has taken over the database of a shared disk."""
    if not is_network(folder):
        return
    try:
        other = owner.beat(folder)
    except OSError as error:
        raise IndexUnusable(f"{folder / owner.FILE}: cannot be written ({error.strerror}).") from None
    if other:
        raise IndexUnusable(f"{folder / FILE}: {other} has taken over the database. Run the command again.")


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
        share(path)
        return fd
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # of another owner: enough to lock it


@contextmanager
def open_database(folder: Path, waiting: Waiting, name: str = FILE) -> Iterator[sqlite3.Connection]:
    """A connection to the database of a folder of runs; creates the database if there is none.

    IndexOutdated: it must be made again.
    """
    path = folder / name
    seconds = waiting.seconds
    while True:
        with locked(folder, fcntl.LOCK_SH, waiting), explained_errors(path), connect(path, seconds) as conn:
            if not _pending(conn, path):
                conn.execute("PRAGMA synchronous = NORMAL")
                yield conn
                return
        with locked(folder, fcntl.LOCK_EX, waiting), explained_errors(path), connect(path, seconds) as conn:
            if _pending(conn, path):
                share(path)
                conn.execute(f"PRAGMA journal_mode = {'TRUNCATE' if is_network(folder) else 'WAL'}")
                schema.migrate(conn)


@contextmanager
def in_memory(folder: Path | None = None) -> Iterator[sqlite3.Connection]:
    """A database in memory, with what the one of this folder holds if that can be read."""
    with connect(Path(":memory:"), 0) as conn:
        if folder:
            _copy(folder / FILE, conn)
        if schema.applied(conn) != set(schema.MIGRATIONS):
            schema.migrate(conn)
        yield conn


def _copy(path: Path, conn: sqlite3.Connection) -> None:
    """Copy a database without writing anything beside it; nothing if that does not work."""
    # Where nobody can be writing, `immutable` opens the file even in a read-only folder or on a full disk.
    logs = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    with suppress(sqlite3.Error, OSError, EnvironmentFault, IndexOutdated):
        changes = is_network(path.parent) or any(log.exists() and log.stat().st_size for log in logs)
        mode = "mode=ro" if changes else "mode=ro&immutable=1"
        disk = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=1)
        with closing(disk):
            if not _pending(disk, path):
                disk.backup(conn)


@contextmanager
def connect(path: Path, patience: float) -> Iterator[sqlite3.Connection]:
    """A connection without automatic transactions; `transaction` starts them, always IMMEDIATE."""
    conn = sqlite3.connect(path, timeout=patience, isolation_level=None)
    conn.row_factory = sqlite3.Row
    try:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute("PRAGMA trusted_schema = OFF")
        conn.execute("PRAGMA temp_store = MEMORY")  # a savepoint writes a file otherwise
        yield conn
    finally:
        conn.close()


@contextmanager
def transaction(conn: sqlite3.Connection, waiting: Waiting | None = None) -> Iterator[None]:
    """One write transaction. IMMEDIATE, since a deferred one that becomes a write fails as busy without waiting."""
    waiting = waiting or Waiting(60.0)
    try:
        conn.execute(f"PRAGMA busy_timeout = {1000 * min(1.0, waiting.seconds):.0f}")
        conn.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if waiting.seconds <= 1 or not str(getattr(error, "sqlite_errorname", "")).startswith(BUSY):
            raise
        waiting.tell(Path(conn.execute("PRAGMA database_list").fetchone()[2]))
        conn.execute(f"PRAGMA busy_timeout = {1000 * (waiting.seconds - 1):.0f}")
        conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")


def replace_database(folder: Path, name: str, waiting: Waiting) -> None:
    """Put the database `name` in place of the present one."""
    with locked(folder, fcntl.LOCK_EX, waiting):
        remove_database(folder, FILE, ("-wal", "-shm", "-journal"))
        try:
            (folder / name).replace(folder / FILE)
            for left in folder.glob(f"{FILE}.*.new*"):  # of processes that were killed
                left.unlink(missing_ok=True)
        except OSError as error:
            raise IndexUnusable(f"{folder / FILE}: cannot be replaced ({error.strerror}).") from None


def remove_database(folder: Path, name: str, ends: Sequence[str] = ("", "-wal", "-shm", "-journal")) -> None:
    """Delete a database, not the run folders; ends: of the names of its files."""
    for end in ends:
        try:
            (folder / (name + end)).unlink(missing_ok=True)
        except OSError as error:
            raise IndexUnusable(f"{folder / name}: cannot be removed ({error.strerror}).") from None


def _pending(conn: sqlite3.Connection, path: Path) -> bool:
    """Whether migrations are missing.

    IndexOutdated: the database is ours, but cannot be migrated. EnvironmentFault: it is somebody else's.
    """
    try:
        ours = conn.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        applied = schema.applied(conn)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith((*BUSY, *MACHINE)):
            raise
        if _is_half_made(path):
            raise IndexOutdated from None
        if _is_sqlite(path):
            raise
        raise _foreign(path) from None
    if not ours and tables - {"_sqlite_migrations", "sqlite_sequence"}:
        raise _foreign(path)
    if applied - set(schema.MIGRATIONS):
        raise IndexOutdated
    return applied != set(schema.MIGRATIONS)


def _foreign(path: Path) -> EnvironmentFault:
    return EnvironmentFault(f"{path}: not a database of mmctl. Move it away if you need it, then: mmctl db rebuild")


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _is_half_made(path: Path) -> bool:
    """Whether a file holds nothing of anybody: a full disk, kill -9 or power cut left zeros or part of a header."""
    with path.open("rb") as file:
        head = file.read(100)
        if len(head) < 100 and head.startswith(MAGIC[: len(head)]):
            return True
        return not any(head) and not any(any(piece) for piece in iter(lambda: file.read(1 << 20), b""))
