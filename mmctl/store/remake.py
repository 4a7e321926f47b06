"""Makes the database again from the run folders; what only the old one knows of unreadable runs is kept."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmctl.store import connection, schema
from mmctl.store.connection import IndexOutdated, Waiting, explained_errors, transaction
from mmctl.store.sync import Sync

OF_A_RUN = ("files", "attempts", "events", "checkpoints", "evaluations", "pace", "tags", "sweeps")
"""Tables whose rows belong to a run by the column `run`; points belong to one by their series."""


@contextmanager
def open_or_remake(runs_dir: Path, waiting: Waiting) -> Iterator[sqlite3.Connection]:
    """A connection to the database; one of ours that is half-made or of a newer version is made again first."""
    opened = connection.open_database(runs_dir, waiting)
    try:
        conn = opened.__enter__()
    except IndexOutdated:
        remake(runs_dir, waiting)
        opened = connection.open_database(runs_dir, waiting)
        conn = opened.__enter__()
    try:
        yield conn
    finally:
        opened.__exit__(None, None, None)


def remake(runs_dir: Path, waiting: Waiting) -> None:
    """Replace the database by a new one; kill -9 leaves the old one."""
    name = f"{connection.FILE}.{os.getpid()}.new"
    connection.remove_database(runs_dir, name)  # left by a killed process that had the same id
    try:
        with connection.open_database(runs_dir, waiting, name) as conn, explained_errors(runs_dir / name):
            Sync(conn, runs_dir, waiting).run(None, lambda done, total: None)
            with suppress(sqlite3.DatabaseError):  # the old one may be of any version, or damaged
                _carry_over(conn, runs_dir / connection.FILE)
        connection.replace_database(runs_dir, name, waiting)
    finally:
        connection.remove_database(runs_dir, name)


def _carry_over(conn: sqlite3.Connection, old: Path) -> None:
    """Copy the rows of the runs that cannot be read now from an old database."""
    runs = conn.execute("SELECT uid, unreadable FROM runs WHERE unreadable IS NOT NULL").fetchall()
    if not runs or not old.is_file():
        return
    conn.execute("ATTACH ? AS old", [str(old)])
    try:
        if conn.execute("PRAGMA old.application_id").fetchone()[0] == schema.APPLICATION:
            for uid, fault in runs:
                with suppress(sqlite3.IntegrityError), transaction(conn):
                    _copy_run(conn, uid, fault)
    finally:
        conn.execute("DETACH old")


def _copy_run(conn: sqlite3.Connection, uid: str, fault: str) -> None:
    row = conn.execute("SELECT id FROM old.runs WHERE uid = ?", [uid]).fetchone()
    if row is None:
        return
    conn.execute("DELETE FROM main.runs WHERE uid = ?", [uid])
    columns = _shared_columns(conn, "runs", "id")
    sql = f"INSERT INTO main.runs ({columns}) SELECT {columns} FROM old.runs WHERE id = ?"
    run = conn.execute(sql, [row["id"]]).lastrowid
    conn.execute("UPDATE main.runs SET unreadable = ?, folder_ns = 0 WHERE id = ?", [fault, run])
    for table in OF_A_RUN:
        columns = _shared_columns(conn, table, "run")
        sql = f"INSERT INTO main.{table} (run, {columns}) SELECT ?, {columns} FROM old.{table} WHERE run = ?"
        conn.execute(sql, [run, row["id"]])
    columns = _shared_columns(conn, "series", "id", "run")
    for (series,) in conn.execute("SELECT id FROM old.series WHERE run = ?", [row["id"]]).fetchall():
        sql = f"INSERT INTO main.series (run, {columns}) SELECT ?, {columns} FROM old.series WHERE id = ?"
        made = conn.execute(sql, [run, series]).lastrowid
        sql = "INSERT INTO main.points SELECT ?, step, value FROM old.points WHERE series = ?"
        conn.execute(sql, [made, series])


def _shared_columns(conn: sqlite3.Connection, table: str, *without: str) -> str:
    new, old = (
        [row["name"] for row in conn.execute(f"PRAGMA {where}.table_info({table})")] for where in ("main", "old")
    )
    return ", ".join(name for name in new if name in old and name not in without)
