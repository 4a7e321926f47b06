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
from mmctl.run_folder import lease
from mmctl.run_folder.events import Evaluation, decode
from mmctl.run_folder.upgrade import Config
from mmctl.run_folder.values import number, text
from mmctl.store import connection
from mmctl.store.connection import explained_errors
from mmctl.store.remake import open_or_remake, remake
from mmctl.store.rows import (
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    ParentRow,
    RunRow,
    SeriesRow,
    StoredRecord,
    TwinRow,
    parent_row,
)
from mmctl.store.sync import Progress, Sync

STALE = 60_000
"""Milliseconds without a heartbeat after which a run on another machine is shown as `running?`."""
COLUMNS = (
    "r.id, r.uid, r.name, r.recipe, r.method, r.labeler, r.seed, r.config_id, r.created, r.total_steps, "
    "r.primary_metric, iif(r.unreadable IS NULL, r.state, 'unreadable') AS state, r.reason, r.code, r.step, r.attempt, "
    "r.started, r.ended, r.host, r.device, r.precision, r.threads, r.exact, r.data_hash, r.split_hash, r.labeled, "
    "r.beat_seen, r.starred, r.archived, r.unreadable, r.altered"
)
FEW = 2500
"""So many runs are looked up by the index."""
NUMBER = "row_number() OVER (ORDER BY r.created, r.uid) AS number"


class Store:
    """Reads and updates the index of one folder of runs."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        patience: float = 60.0,
        say: Callable[[str], None] = lambda text: None,
        memory: bool = False,
        copy: bool = True,
    ) -> None:
        """patience: seconds to wait for other processes; say: called with what is waited for.

        memory: make the index in memory, from the one on disk if copy is true.
        """
        self.runs_dir = runs_dir
        self.path = runs_dir / connection.FILE
        # A read-only folder can be read too: its index is then in memory.
        self.memory = memory or not os.access(runs_dir, os.W_OK)
        self._waiting = connection.Waiting(patience, say)
        self._stack = ExitStack()
        beside = runs_dir if copy else None
        opened = connection.in_memory(beside) if self.memory else open_or_remake(runs_dir, self._waiting)
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
    def rebuild(
        cls, runs_dir: Path, *, patience: float = 60.0, say: Callable[[str], None] = lambda text: None
    ) -> Store:
        """Create the database again from the run folders; what only it knows of unreadable runs is kept."""
        if runs_dir.is_dir():
            remake(runs_dir, connection.Waiting(patience, say))
        store = cls(runs_dir, patience=patience, say=say)
        store.sync()
        return store

    def sync(
        self,
        only: Iterable[str] | None = None,
        progress: Progress = lambda done, total: None,
        newest: int | None = None,
    ) -> None:
        """Import what is new in the run folders (of known runs only the `newest`); remove runs without a folder."""
        if not self.memory:
            connection.keep_own(self.runs_dir)
        with explained_errors(self.path):
            Sync(self._conn, self.runs_dir, self._waiting).run(only, progress, newest)

    @property
    def unreadable(self) -> dict[str, str]:
        """What is wrong with each run folder that cannot be read, and what to do."""
        sql = "SELECT uid, unreadable FROM runs WHERE unreadable IS NOT NULL ORDER BY created, uid"
        return {row["uid"]: row["unreadable"] for row in self._rows(sql)}

    def bad_lines(self, run: RunRow) -> list[str]:
        """What is wrong with lines of the journals of a run; the other lines are used."""
        rows = self._rows(
            "SELECT attempt, bad, fault FROM files WHERE run = ? AND bad > 0 ORDER BY attempt", [run["id"]]
        )
        return [
            f"journal.{row['attempt']}.jsonl: {row['bad']} damaged line{'s' if row['bad'] > 1 else ''}, left out "
            f"(the first {row['fault']})"
            for row in rows
        ]

    def runs(self, only: Sequence[str] | None = None, newest: int | None = None) -> list[RunRow]:
        """All runs, or those with these uids, or the newest; oldest first, as seen from this machine."""
        if only is None:
            sql = f"SELECT {COLUMNS} FROM runs r ORDER BY r.created DESC, r.uid DESC LIMIT ?"
            rows = self._rows(sql, [-1 if newest is None else newest])[::-1]
            for number, row in enumerate(rows, self.count_runs() - len(rows) + 1):
                row["number"] = number
        else:
            sql = f"SELECT * FROM (SELECT {COLUMNS}, {NUMBER} FROM runs r) WHERE uid IN"
            rows = self._rows(f"{sql} (SELECT value FROM json_each(?)) ORDER BY number", [json.dumps(list(only))])
        found = cast(list[RunRow], rows)
        tags, sweeps = self._words("tags", "tag", found), self._words("sweeps", "name", found)
        now = lease.now()
        for row in rows:
            row["tags"], row["sweeps"] = tags.get(row["id"], []), sweeps.get(row["id"], [])
            row["altered"] = json.loads(row["altered"])
            row["starred"], row["archived"] = bool(row["starred"]), bool(row["archived"])
            seen = row.pop("beat_seen")
            row["silent"] = (now - seen) // 1000 if seen and now - seen > STALE and row["state"] == "running" else None
        return found

    def _words(self, table: str, column: str, runs: Sequence[RunRow]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for row in self._rows(f"SELECT run, {column} AS word FROM {table} WHERE {within('run', runs)} ORDER BY 2"):
            found.setdefault(row["run"], []).append(row["word"])
        return found

    def count_runs(self) -> int:
        """The number of runs."""
        return int(self._rows("SELECT count(*) AS n FROM runs")[0]["n"])

    def twins(self, config_id: str, seed: int, hashes: tuple[str, str, str]) -> list[TwinRow]:
        """Runs of a configuration and seed with these hashes of data, split and code (in this order), newest first.

        A run that has not read its data yet has no hashes of data and split: it will have those of today.
        """
        sql = (
            "SELECT uid, state, step, total_steps, exact FROM runs WHERE config_id = ? AND seed = ? AND "
            "(data_hash = ? AND split_hash = ? OR data_hash IS NULL) AND code_hash = ? AND unreadable IS NULL AND "
            "altered = '[]' ORDER BY created DESC"
        )
        return cast(list[TwinRow], self._rows(sql, [config_id, seed, *hashes]))

    def about(self, run: RunRow) -> StoredRecord:
        """The whole run.json of a run."""
        (row,) = self._rows("SELECT about, config, published FROM runs WHERE id = ?", [run["id"]])
        about = self._object(row["about"]) | {"config": self._object(row["config"])}
        return cast(StoredRecord, about | {"published": row["published"] and self._object(row["published"])})

    def configs(self, runs: Sequence[RunRow]) -> dict[int, Config]:
        """The resolved recipes of some runs, by id."""
        return self._parts("config", runs)

    def components(self, runs: Sequence[RunRow]) -> dict[int, list[Config]]:
        """The components that some runs were made of, with their versions, by id."""
        wanted = {run["id"] for run in runs}
        rows = self._rows(
            f"SELECT id, json_extract(about, '$.components') AS part FROM runs WHERE {within('id', runs)}"
        )
        return {row["id"]: json.loads(row["part"] or "[]") for row in rows if row["id"] in wanted}

    def published(self, runs: Sequence[RunRow]) -> dict[int, Config]:
        """The [published] tables of the recipes of some runs, by id."""
        return self._parts("published", runs)

    def parents(self, runs: Sequence[RunRow]) -> dict[int, ParentRow]:
        """The run and step from which those of these runs that extend another one started, by id."""
        wanted = {run["id"] for run in runs}
        sql = "SELECT id, json_extract(about, '$.parent') AS part FROM runs WHERE instr(about, '\"parent\"') AND "
        rows = self._rows(sql + within("id", runs))
        found = {row["id"]: self._object(row["part"] or "{}") for row in rows if row["id"] in wanted}
        return {id: made for id, one in found.items() if (made := parent_row(one))}

    def _parts(self, key: str, runs: Sequence[RunRow]) -> dict[int, Config]:
        wanted = {run["id"] for run in runs}
        sql = f"SELECT id, {key} AS part FROM runs WHERE {within('id', runs)}"
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
        sql += f" AND {within('run', runs)}" if runs else ""
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
        """All evaluations of a run, by step and then as they were made; those made after training have attempt 0."""
        sql = "SELECT * FROM evaluations WHERE run = ? ORDER BY step, after, attempt = 0, offset"
        made = [(row, decode(row["body"])) for row in self._rows(sql, [run["id"]])]
        found = [
            {
                "run": row["run"], "attempt": row["attempt"], "offset": row["offset"], "t": row["t"],
                "step": row["step"], "checkpoint": event.checkpoint, "split": event.split or "",
                "weights": event.weights or "", "predictor": event.predictor or "", "n": event.n,
                "metrics": {text(k): v if v in ("inf", "-inf") else number(v) for k, v in event.metrics.items()},
                "per_class": None if event.per_class is None else [number(recall) for recall in event.per_class],
                "confusion": event.confusion, "predictions": event.predictions,
            }
            for row, event in made if isinstance(event, Evaluation)
        ]  # fmt: skip
        return cast(list[EvaluationRow], found)

    def events(self, run: RunRow, kind: str | None = None) -> list[EventRow]:
        """States, alerts, tags, notes, as they were written."""
        rows = self._rows("SELECT * FROM events WHERE run = ? ORDER BY after, attempt = 0, offset", [run["id"]])
        found = [row | {"body": self._object(row["body"])} for row in rows if kind in (None, row["kind"])]
        return cast(list[EventRow], found)

    def attempts(self, run: RunRow) -> list[AttemptRow]:
        """The attempts of a run: first step, number of dropped points, machine."""
        rows = self._rows("SELECT * FROM attempts WHERE run = ? ORDER BY n", [run["id"]])
        return cast(list[AttemptRow], [row | {"body": self._object(row["body"])} for row in rows])

    def pace(self, run: RunRow) -> list[tuple[int, int, float]]:
        """(attempt, step, seconds that the attempt had taken by then), in this order."""
        sql = "SELECT attempt, step, seconds FROM pace WHERE run = ? AND seconds IS NOT NULL ORDER BY attempt, step"
        return [(row["attempt"], row["step"], row["seconds"]) for row in self._rows(sql, [run["id"]])]

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
            cursor = self._conn.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]  # dict(row) looks for each name in turn

    def _object(self, text: str) -> Config:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EnvironmentFault(f"{self.path}: the database is damaged. {connection.REMEDY}")
        return found


def within(column: str, runs: Sequence[RunRow]) -> str:
    """SQL that chooses some runs: a few by the index; for many, all of them, since reading everything is faster."""
    return f"{column} IN ({', '.join(str(int(run['id'])) for run in runs)})" if len(runs) <= FEW else "1"
