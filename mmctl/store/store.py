"""The index of all runs: one SQLite file beside the run folders, made only from their journals.

    with Store(runs_dir) as store:
        store.sync()
        for run in store.runs(): ...

Rows come as dictionaries. `mmctl db rebuild` makes the file again at any time, with the same answers.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import is_network
from mmctl.run_folder import lease
from mmctl.run_folder.events import whole
from mmctl.run_folder.upgrade import Config
from mmctl.store import connection, importer
from mmctl.store.connection import explained_errors, transaction
from mmctl.store.rows import (
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    RunRow,
    SeriesRow,
    StoredRecord,
    TwinRow,
)

STALE = 60_000
"""Milliseconds without a heartbeat after which a run on another machine is shown as `running?`."""
COLUMNS = (
    "r.id, r.uid, r.name, r.recipe, r.method, r.labeler, r.seed, r.config_id, r.created, r.total_steps, "
    "r.primary_metric, r.state, r.reason, r.code, r.step, r.attempt, r.started, r.ended, r.host, r.device, "
    "r.exact, r.data_hash, r.split_hash, r.labeled, r.beat_seen, "
    "row_number() OVER (ORDER BY r.created, r.uid) AS number"
)


class Store:
    """Reads and updates the index of one folder of runs."""

    def __init__(self, runs_dir: Path, *, patience: float = 60.0, memory: bool = False) -> None:
        self.runs_dir = runs_dir
        self.path = runs_dir / connection.FILE
        # A read-only folder can be read too: its index is then in memory.
        self.memory = memory or not os.access(runs_dir, os.W_OK)
        self.unreadable: dict[str, str] = {}
        self._stack = ExitStack()
        opened = connection.in_memory() if self.memory else connection.open_database(runs_dir, patience)
        self._conn: sqlite3.Connection = self._stack.enter_context(opened)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._stack.close()

    @classmethod
    def rebuild(cls, runs_dir: Path, *, patience: float = 60.0) -> Store:
        """Delete the database and create it again from the run folders."""
        if runs_dir.is_dir():
            connection.remove_database(runs_dir, patience)
        store = cls(runs_dir, patience=patience)
        store.sync()
        return store

    def sync(self, only: Iterable[str] | None = None) -> None:
        """Import what is new in the run folders; remove runs whose folder was deleted."""
        with explained_errors(self.path):
            known = self._known()
            if only is None:
                present = self._folders()
                for uid in known.keys() - present:
                    if not (self.runs_dir / uid / "run.json").exists():
                        self._forget(uid)
            else:
                present = set(only)
            for uid in sorted(present):
                if uid not in known or importer.stale(f"{self.runs_dir}/{uid}", *known[uid]):
                    self._import(self.runs_dir / uid)
            live = "SELECT uid FROM runs WHERE state IN ('running', 'queued')"
            for (uid,) in self._conn.execute(live).fetchall():
                if uid in present:
                    self._judge(self.runs_dir / uid)

    def runs(self) -> list[RunRow]:
        """All runs, oldest first, with their number in listings, tags and state as seen from this machine."""
        rows = self._rows(f"SELECT {COLUMNS} FROM runs r ORDER BY number")
        tags: dict[int, list[str]] = {}
        for row in self._rows("SELECT run, tag FROM tags ORDER BY tag"):
            tags.setdefault(row["run"], []).append(row["tag"])
        now = lease.now()
        for row in rows:
            row["tags"] = tags.get(row["id"], [])
            seen = row.pop("beat_seen")
            row["silent"] = (now - seen) // 1000 if seen and now - seen > STALE and row["state"] == "running" else None
        return cast(list[RunRow], rows)

    def twins(self, config_id: str, seed: int, hashes: tuple[str, str, str]) -> list[TwinRow]:
        """Runs of a configuration and seed with these hashes of data, split and code (in this order), newest first.

        A run that has not read its data yet has no hashes of data and split: it will have those of today.
        """
        sql = (
            "SELECT uid, state, step, total_steps, exact FROM runs WHERE config_id = ? AND seed = ? AND "
            "(data_hash = ? AND split_hash = ? OR data_hash IS NULL) AND json_extract(about, '$.code') = ? "
            "ORDER BY created DESC"
        )
        return cast(list[TwinRow], self._rows(sql, [config_id, seed, *hashes]))

    def about(self, run: RunRow) -> StoredRecord:
        """The whole run.json of a run."""
        about = self._object(self._rows("SELECT about FROM runs WHERE id = ?", [run["id"]])[0]["about"])
        return cast(StoredRecord, about)

    def configs(self, runs: Sequence[RunRow]) -> dict[int, Config]:
        """The resolved recipes of some runs, by id."""
        return self._parts("config", runs)

    def published(self, runs: Sequence[RunRow]) -> dict[int, Config]:
        """The [published] tables of the recipes of some runs, by id."""
        return self._parts("published", runs)

    def _parts(self, key: str, runs: Sequence[RunRow]) -> dict[int, Config]:
        wanted = {run["id"] for run in runs}
        sql = f"SELECT id, json_extract(about, '$.{key}') AS part FROM runs WHERE {_within('id', runs)}"
        return {row["id"]: self._object(row["part"] or "{}") for row in self._rows(sql) if row["id"] in wanted}

    def data(self, run: RunRow) -> Config:
        """Sizes, classes and hashes of the data; empty before the run has read it."""
        return self._object(self._rows("SELECT data FROM runs WHERE id = ?", [run["id"]])[0]["data"] or "{}")

    def series(self, run: RunRow) -> list[SeriesRow]:
        """The summary of each curve of a run."""
        return cast(list[SeriesRow], self._rows("SELECT * FROM series WHERE run = ? ORDER BY name", [run["id"]]))

    def summaries(self, names: Sequence[str], runs: Sequence[RunRow] = ()) -> dict[tuple[int, str], SeriesRow]:
        """The summaries of the named curves of some runs (or all), by (run, name), in one query."""
        sql = f"SELECT * FROM series WHERE name IN ({', '.join('?' * len(names))})"
        sql += f" AND {_within('run', runs)}" if runs else ""
        rows = cast(list[SeriesRow], self._rows(sql, names))
        return {(row["run"], row["name"]): row for row in rows}

    def points(self, run: RunRow, name: str) -> list[tuple[int, float]]:
        """A curve as (step, value); NaN is NaN."""
        sql = "SELECT p.step, p.value FROM points p JOIN series s ON s.id = p.series WHERE s.run = ? AND s.name = ?"
        rows = self._rows(sql + " ORDER BY p.step", [run["id"], name])
        return [(row["step"], float("nan") if row["value"] is None else row["value"]) for row in rows]

    def checkpoints(self, run: RunRow) -> list[CheckpointRow]:
        """The checkpoints of a run by step; the files of old ones may be deleted already."""
        sql = "SELECT * FROM checkpoints WHERE run = ? ORDER BY step, path"
        return cast(list[CheckpointRow], self._rows(sql, [run["id"]]))

    def evaluations(self, run: RunRow) -> list[EvaluationRow]:
        """All evaluations of a run by step; those made after training have attempt 0."""
        rows = self._rows("SELECT * FROM evaluations WHERE run = ? ORDER BY step, t, attempt, offset", [run["id"]])
        for row in rows:
            row["metrics"] = self._object(row["metrics"])
            row |= {key: json.loads(row[key] or "null") for key in ("per_class", "confusion")}
        return cast(list[EvaluationRow], rows)

    def events(self, run: RunRow, kind: str | None = None) -> list[EventRow]:
        """States, alerts, tags, notes, as they were written."""
        rows = self._rows("SELECT * FROM events WHERE run = ? ORDER BY t, attempt, offset", [run["id"]])
        found = [row | {"body": self._object(row["body"])} for row in rows if kind in (None, row["kind"])]
        return cast(list[EventRow], found)

    def attempts(self, run: RunRow) -> list[AttemptRow]:
        """The attempts of a run: first step, number of dropped points, machine."""
        rows = self._rows("SELECT * FROM attempts WHERE run = ? ORDER BY n", [run["id"]])
        return cast(list[AttemptRow], [row | {"body": self._object(row["body"])} for row in rows])

    def seconds(self, run: RunRow) -> float:
        """Time spent in training, over all attempts."""
        sql = "SELECT sum(s) AS s FROM (SELECT max(seconds) AS s FROM pace WHERE run = ? GROUP BY attempt)"
        return float(self._rows(sql, [run["id"]])[0]["s"] or 0.0)

    def counts(self) -> dict[str, int]:
        """The number of rows of each table."""
        tables = ("runs", "series", "points", "evaluations", "checkpoints", "events")
        return {table: self._rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        with explained_errors(self.path):
            return [dict(row) for row in self._conn.execute(sql, values)]

    def _known(self) -> dict[str, tuple[int, dict[int, int]]]:
        known: dict[str, tuple[int, dict[int, int]]] = {}
        sql = "SELECT uid, folder_ns, files.attempt, size FROM runs LEFT JOIN files ON run = id"
        for uid, folder_ns, attempt, size in self._conn.execute(sql):
            sizes = known.setdefault(uid, (folder_ns, {}))[1]
            if attempt is not None:
                sizes[attempt] = size
        return known

    def _folders(self) -> set[str]:
        try:
            with os.scandir(self.runs_dir) as entries:
                return {e.name for e in entries if e.name[0] != "." and e.name.isprintable() and e.is_dir()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise EnvironmentFault(f"{self.runs_dir}: cannot be read ({error.strerror}).") from None

    def _import(self, folder: Path) -> bool:
        try:
            with transaction(self._conn):
                return importer.import_run(self._conn, folder)
        except FileNotFoundError:  # removed while we looked
            self._forget(folder.name)
        except OSError as error:  # one folder that cannot be read is no reason not to show the others
            self.unreadable[folder.name] = f"{error.filename or folder}: {error.strerror}"
        except (ValueError, RecursionError) as error:
            self._forget(folder.name)
            self.unreadable[folder.name] = f"{folder / 'run.json'}: not the record of a run ({error})"
        return False

    def _forget(self, uid: str) -> None:
        with transaction(self._conn):
            self._conn.execute("DELETE FROM runs WHERE uid = ?", [uid])

    def _judge(self, folder: Path) -> None:
        """Mark a run as crashed if its process is gone."""
        while lease.holder(folder) is None:
            # A run that just ended released its lease after its last event: import once more.
            if self._import(folder):
                continue
            left = lease.read(folder)
            sql = "SELECT id, state, step, host, boot, beat, attempt FROM runs WHERE uid = ?"
            run = self._conn.execute(sql, [folder.name]).fetchone()
            if run is None or run["state"] not in ("running", "queued") or (run["state"] == "queued" and left is None):
                return
            left = left or {}
            boot, host = left.get("boot", run["boot"]), left.get("host", run["host"])
            step = max(run["step"], whole(left.get("step")) or 0)
            if boot == lease.boot():
                reason = f"process gone at step {step}"
            elif host == lease.host():
                reason = f"machine restarted at step {step}"
            else:
                self._watch(run, whole(left.get("beat")) or 0)
                return
            with transaction(self._conn):
                # Only if no other process has written something newer.
                to = "UPDATE runs SET state = 'crashed', reason = ? WHERE id = ? AND attempt = ? AND state = ?"
                self._conn.execute(to, [reason, run["id"], run["attempt"], run["state"]])
            return

    def _watch(self, run: sqlite3.Row, beat: int) -> None:
        if beat != run["beat"]:
            with transaction(self._conn):
                to = "UPDATE runs SET beat = ?, beat_seen = ? WHERE id = ?"
                self._conn.execute(to, [beat, lease.now(), run["id"]])

    def _object(self, text: str) -> Config:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EnvironmentFault(f"{self.path}: the database is damaged. {connection.REMEDY}")
        return found


def live_index(folder: Path) -> Callable[[], None] | None:
    """A function that imports what is new in one run; its journal calls it after each flush.

    None on a network file system, where only one host may open the database.
    """
    if is_network(folder):
        return None

    def update() -> None:
        with Store(folder.parent, patience=5.0) as store:
            store.sync([folder.name])

    return update


def _within(column: str, runs: Sequence[RunRow]) -> str:
    # For a few runs by the index; for many, reading everything is faster.
    return f"{column} IN ({', '.join(str(int(run['id'])) for run in runs)})" if len(runs) <= 500 else "1"
