"""The tables of runs/mmctl.db, created and changed by migrations.

Every row comes from a run folder, so a change of meaning may simply empty the tables: the next sync fills them.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION = 0x6D6D6374
"""`mmct`, in the header of the file: tells our databases from others."""
MIGRATIONS = ("m001_first", "m002_config_id", "m003_unreadable", "m004_marks", "m005_sweeps")
"""In order; sqlite-utils records the applied ones in a table of the database."""

TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,           -- the folder's name
    about TEXT NOT NULL,                -- run.json without the next two
    config TEXT NOT NULL, published TEXT,
    name TEXT NOT NULL, recipe TEXT NOT NULL, method TEXT NOT NULL, labeler TEXT,
    seed INTEGER, config_id TEXT NOT NULL, created INTEGER NOT NULL, total_steps INTEGER, primary_metric TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT, code INTEGER, step INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
    started INTEGER, ended INTEGER, host TEXT, boot TEXT, device TEXT, precision TEXT, threads INTEGER,
    exact INTEGER NOT NULL DEFAULT 1,
    data_hash TEXT, split_hash TEXT, labeled INTEGER, data TEXT, code_hash TEXT,
    beat INTEGER, beat_seen INTEGER,    -- of a run on another machine, and when a reader here saw it move
    starred INTEGER NOT NULL DEFAULT 0, archived INTEGER NOT NULL DEFAULT 0,
    unreadable TEXT,                    -- what is wrong with the folder (these rows are what is still known)
    altered TEXT NOT NULL DEFAULT '[]', -- what was edited in the folder
    signature TEXT NOT NULL, folder_ns INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_created ON runs (created DESC, uid);
CREATE INDEX runs_config ON runs (config_id, seed);
CREATE TABLE files (                    -- how far each journal has been read
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, attempt INTEGER NOT NULL,
    offset INTEGER NOT NULL, size INTEGER NOT NULL,
    bad INTEGER NOT NULL, fault TEXT,   -- number of damaged lines, and what is wrong with the first
    PRIMARY KEY (run, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, n INTEGER NOT NULL, t INTEGER NOT NULL,
    from_step INTEGER NOT NULL, dropped INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (                   -- state, attempt, data, alert, tag, sweep, note, mark
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, attempt INTEGER NOT NULL, offset INTEGER NOT NULL,
    after INTEGER NOT NULL,             -- the last attempt when it was written
    t INTEGER NOT NULL, kind TEXT NOT NULL, step INTEGER, body TEXT NOT NULL, PRIMARY KEY (run, attempt, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE series (                   -- a summary of each curve, so that listings never touch points
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, name TEXT NOT NULL,
    n INTEGER NOT NULL DEFAULT 0, nans INTEGER NOT NULL DEFAULT 0,
    first_step INTEGER, first REAL, last_step INTEGER, last REAL,
    min_step INTEGER, min REAL, max_step INTEGER, max REAL, mean20 REAL, median20 REAL,
    UNIQUE (run, name)
) STRICT;
CREATE TABLE points (                   -- NULL is NaN
    series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (series, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, step INTEGER NOT NULL, path TEXT NOT NULL,
    attempt INTEGER NOT NULL, t INTEGER NOT NULL, bytes INTEGER, sha256 TEXT, kind TEXT, PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluations (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, attempt INTEGER NOT NULL, offset INTEGER NOT NULL,
    after INTEGER NOT NULL, t INTEGER NOT NULL, step INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (run, attempt, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE pace (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, attempt INTEGER NOT NULL, step INTEGER NOT NULL,
    seconds REAL, cpu REAL, PRIMARY KEY (run, attempt, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE tags (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, tag TEXT NOT NULL, PRIMARY KEY (run, tag)
) STRICT, WITHOUT ROWID;
CREATE TABLE sweeps (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, name TEXT NOT NULL, PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
"""


def applied(conn: sqlite3.Connection) -> set[str]:
    """The migrations that were applied to a database; imports no sqlite-utils, since every command calls this."""
    found = "SELECT 1 FROM sqlite_schema WHERE name = '_sqlite_migrations'"
    if conn.execute(found).fetchone() is None:
        return set()
    return {row[0] for row in conn.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'mmctl'")}


def migrate(conn: sqlite3.Connection) -> None:
    """Apply the migrations that are missing; the caller holds the exclusive lock."""
    # Imported here, because an up-to-date database, the usual case, does not need it.
    from sqlite_utils import Database, Migrations

    migrations = Migrations("mmctl")

    @migrations()
    def m001_first(db: Database) -> None:
        db.execute(f"PRAGMA application_id = {APPLICATION}")

    @migrations()
    def m002_config_id(db: Database) -> None:
        pass  # the next one makes all tables

    @migrations()
    def m003_unreadable(db: Database) -> None:
        for name in re.findall(r"CREATE TABLE (\w+)", TABLES):
            db[name].drop(ignore=True)
        for statement in TABLES.split(";"):
            if statement.strip():
                db.execute(statement)

    @migrations()
    def m004_marks(db: Database) -> None:
        for name in {"starred", "archived"} - db["runs"].columns_dict.keys():
            db.execute(f"ALTER TABLE runs ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")
        # An older mmctl may have read past marks that it did not know: read every folder again that can be read.
        db.execute("UPDATE runs SET signature = '', folder_ns = 0")

    @migrations()
    def m005_sweeps(db: Database) -> None:
        if "sweeps" not in db.table_names():
            (statement,) = (one for one in TABLES.split(";") if "CREATE TABLE sweeps" in one)
            db.execute(statement)
        db.execute("UPDATE runs SET signature = '', folder_ns = 0")  # as for marks

    # Plugins of sqlite-utils are code that somebody installed for something else.
    conn.execute("BEGIN IMMEDIATE")  # all or nothing: kill -9 leaves no half-made database
    try:
        migrations.apply(Database(conn, execute_plugins=False))
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
