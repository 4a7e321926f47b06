"""Reads the databases of Trackio: one SQLite file for each project."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mmctl.exchange.databases import one_moment, opened, tables
from mmctl.exchange.foreign import BadSource, ForeignRun, milliseconds, numbers, parsed, table
from mmctl.run_folder.values import text

PROGRAM = "Trackio"
NO_END = "Trackio does not say how a run ended: it counts as completed"


def is_trackio(found: dict[str, set[str]]) -> bool:
    """Whether these tables are those of Trackio."""
    return {"run_name", "step", "metrics", "timestamp"} <= found.get("metrics", set())


def read(path: Path) -> Iterator[ForeignRun]:
    """The runs of a project; BadSource where something in the file is damaged."""
    with opened(path) as conn:
        found = tables(conn)
        # Versions before run ids know a run by its name.
        key = "run_id" if "run_id" in found["metrics"] else "run_name"
        known = f"SELECT {key} AS id, min(run_name) AS name, min(rowid) AS n FROM metrics GROUP BY {key} ORDER BY n"
        for row in conn.execute(known).fetchall():
            with one_moment(conn):
                run = _run(conn, path, found, key, row)
            yield run


def _run(conn: sqlite3.Connection, path: Path, found: dict[str, set[str]], key: str, row: sqlite3.Row) -> ForeignRun:
    project = text(path.stem)
    run = ForeignRun(PROGRAM, f"{project}/{text(row['id'])}", str(path), text(row["name"]), project, notices=[NO_END])
    try:
        sql = f"SELECT step, timestamp, metrics FROM metrics WHERE {key} = ? ORDER BY rowid"
        for step, at, body in conn.execute(sql, [row["id"]]):
            t = milliseconds(at) or 0
            run.created = min(run.created or t, t) or None
            run.ended = max(run.ended or 0, t) or None
            logged = parsed(body)
            for name, value in numbers(logged) if isinstance(logged, dict) else ():
                run.add(name, step, value, t)
        stored = None
        if {"config", key} <= found.get("configs", set()):
            stored = conn.execute(f"SELECT config FROM configs WHERE {key} = ?", [row["id"]]).fetchone()
        config = table(parsed(stored[0])) if stored and stored[0] else {}
    except (ValueError, TypeError) as error:
        raise BadSource(f"{path}: run {run.name}: a value cannot be read ({error}).") from None
    run.created = milliseconds(config.get("_Created")) or run.created
    run.more = {
        key: config[f"_{key.capitalize()}"] for key in ("username", "group") if config.get(f"_{key.capitalize()}")
    }
    run.config = {key: value for key, value in config.items() if not key.startswith("_")}
    return run
