"""Imports run folders into the database; nothing else writes to the database.

A run is imported in one transaction, from where the last import ended. Journals are read in the order of the
attempts, so that importing bit by bit and importing everything at once leave the same rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from mmctl.run_folder import journal
from mmctl.run_folder.events import (
    Alert,
    Attempt,
    Checkpoint,
    Data,
    Evaluation,
    Note,
    Pace,
    Points,
    State,
    Tag,
    decode,
    number,
    text,
    whole,
    words,
)  # fmt: skip
from mmctl.run_folder.lease import now
from mmctl.run_folder.upgrade import upgrade_record
from mmctl.store.curves import Curves
from mmctl.text import to_json

SETTLED = 2_000_000_000
"""Nanoseconds; a younger folder may still get a file with the same modification time, so it is read again."""
RUNNING = "running"


class OutOfOrderJournal(Exception):
    """The journal of an earlier attempt grew after a later one was read: read the run again from the start."""


def stale(folder: str, folder_ns: int, sizes: dict[int, int]) -> bool:
    """Whether a run folder has anything that is not imported yet."""
    try:
        if os.stat(folder).st_mtime_ns != folder_ns:  # noqa: PTH116 - ten thousand of them
            return True
    except OSError:
        return True
    return any(_size(f"{folder}/journal.{n}.jsonl") != size for n, size in sizes.items())


def import_run(conn: sqlite3.Connection, folder: Path) -> bool:
    """Import what is new in one run, inside a transaction of the caller; returns whether anything was new.

    ValueError or RecursionError: run.json holds no record of a run.
    """
    about, signature = _about(folder)
    row = conn.execute("SELECT id, signature FROM runs WHERE uid = ?", [folder.name]).fetchone()
    if row is not None and row["signature"] == signature:
        try:
            return _Import(conn, folder, row["id"]).run()
        except OutOfOrderJournal:
            pass
    conn.execute("DELETE FROM runs WHERE uid = ?", [folder.name])
    _Import(conn, folder, _insert(conn, folder.name, about, signature)).run()
    return True


class _Import:
    def __init__(self, conn: sqlite3.Connection, folder: Path, run: int) -> None:
        self.conn, self.folder, self.run_id = conn, folder, run
        self.curves = Curves(conn, run)

    def run(self) -> bool:
        info = self.folder.stat()
        found = journal.attempts(self.folder)
        known = {row["attempt"]: row["offset"] for row in self._all("SELECT attempt, offset FROM files WHERE run = ?")}
        newest = max(known, default=0)
        if any(_size(journal.path_of(self.folder, n)) < offset for n, offset in known.items()):
            raise OutOfOrderJournal
        news = 0
        # Attempt 0 is last: whether its evaluations still count depends on the attempts.
        for n in sorted(found, key=lambda n: (n == 0, n)):
            size = _size(journal.path_of(self.folder, n))
            begin = end = known.get(n, 0)
            for line in journal.read_lines(journal.path_of(self.folder, n), begin):
                if 0 < n < newest:
                    raise OutOfOrderJournal
                self._take(n, line)
                end = line.offset
                news += 1
            self.conn.execute("REPLACE INTO files VALUES (?, ?, ?, ?)", [self.run_id, n, end, size])
        self.curves.finish()
        settled = info.st_mtime_ns if now() * 1_000_000 - info.st_mtime_ns > SETTLED else 0
        self.conn.execute("UPDATE runs SET folder_ns = ? WHERE id = ?", [settled, self.run_id])
        if news or not known:
            _derive(self.conn, self.run_id)
        return news > 0

    def _take(self, n: int, line: journal.Line) -> None:
        event, t = line.event, line.event.t or 0
        match event:
            case Points(step=step, values=values):
                for name, value in values.items():
                    self.curves.add(text(name), step, value)
            case Evaluation(step=step):
                if not (n == 0 and self._superseded(step, t)):
                    self._evaluation(n, line.offset, t, event)
            case Checkpoint(step=step):
                row = [self.run_id, step, event.path or "", n, t, event.bytes, event.sha256, event.reason]
                self.conn.execute("REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            case Pace(step=step):
                row = [self.run_id, n, step, event.seconds, event.cpu]
                self.conn.execute("REPLACE INTO pace VALUES (?, ?, ?, ?, ?)", row)
            case State() | Attempt() | Data() | Alert() | Tag() | Note():
                body = line.raw.decode("utf-8", "replace")
                if isinstance(event, Attempt) and n > 0:
                    self._attempt(n, t, event.start or 0, body)
                elif isinstance(event, Tag):
                    self._tag(event)
                row = [self.run_id, n, line.offset, t, event.kind, getattr(event, "step", None), body]
                self.conn.execute("REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _evaluation(self, n: int, offset: int, t: int, event: Evaluation) -> None:
        split, weights, predictor = event.split or "", event.weights or "", event.predictor or ""
        row: list[Any] = [self.run_id, n, offset, t, event.step, event.checkpoint, split, weights, predictor, event.n]
        metrics = {k: v if v in ("inf", "-inf") else number(v) for k, v in event.metrics.items()}
        per_class = None if event.per_class is None else [number(recall) for recall in event.per_class]
        row += [to_json(part) for part in (metrics, per_class, event.confusion)]
        self.conn.execute(f"REPLACE INTO evaluations VALUES ({', '.join('?' * len(row))})", row)
        if n > 0:  # evaluated after training: no point of the training curve
            prefix = f"{split}/{weights}/{predictor}/"
            for name, value in event.metrics.items():
                self.curves.add(prefix + text(name), event.step, value)

    def _attempt(self, n: int, t: int, start: int, body: str) -> None:
        """Delete what earlier attempts wrote after the step where this one starts."""
        dropped = self.curves.cut(start)
        self.conn.execute("DELETE FROM checkpoints WHERE run = ? AND step > ?", [self.run_id, start])
        self.conn.execute(
            "DELETE FROM evaluations WHERE run = ? AND step > ? AND (attempt > 0 OR t < ?)", [self.run_id, start, t]
        )
        self.conn.execute("DELETE FROM events WHERE run = ? AND kind = 'alert' AND step > ?", [self.run_id, start])
        row = [self.run_id, n, t, start, dropped, body]
        self.conn.execute("REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)", row)

    def _superseded(self, step: int, t: int) -> bool:
        asked = "SELECT 1 FROM attempts WHERE run = ? AND from_step < ? AND t > ? LIMIT 1"
        return self.conn.execute(asked, [self.run_id, step, t]).fetchone() is not None

    def _tag(self, event: Tag) -> None:
        for tag in event.add:
            self.conn.execute("INSERT OR IGNORE INTO tags VALUES (?, ?)", [self.run_id, tag])
        for tag in event.remove:
            self.conn.execute("DELETE FROM tags WHERE run = ? AND tag = ?", [self.run_id, tag])

    def _all(self, sql: str) -> list[sqlite3.Row]:
        return self.conn.execute(sql, [self.run_id]).fetchall()


def _insert(conn: sqlite3.Connection, uid: str, about: dict[str, Any], signature: str) -> int:
    row = {
        "uid": uid,
        "about": to_json(about),
        "name": text(about.get("name")) or uid,
        "recipe": text(about.get("recipe")),
        "method": text(about.get("method")),
        "labeler": about.get("labeler") and text(about["labeler"]),
        "seed": whole(about.get("seed")),
        "config_id": text(about.get("config_id")) or uid,
        "created": whole(about.get("created")) or 0,
        "total_steps": whole(about.get("total_steps")),
        "primary_metric": text(about.get("primary")) or "test/ema/head/accuracy",
        "state": "queued",
        "signature": signature,
    }
    names = ", ".join(row)
    made = conn.execute(f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    run = int(made.lastrowid or 0)
    for tag in words(about.get("tags")):
        conn.execute("INSERT OR IGNORE INTO tags VALUES (?, ?)", [run, tag])
    return run


def _derive(conn: sqlite3.Connection, run: int) -> None:
    """Compute the columns of a listing from the run's events."""
    events = "SELECT attempt, t, kind, step, body FROM events WHERE run = ? AND kind IN ('state', 'attempt', 'data') "
    rows = conn.execute(events + "ORDER BY attempt, offset", [run]).fetchall()
    new: dict[str, Any] = {"state": "queued", "reason": None, "code": None, "ended": None}
    said, step = -1, 0
    for row in sorted(rows, key=lambda row: row["attempt"] == 0):  # stable: events of attempt 0 last
        event = decode(row["body"])
        if isinstance(event, Data):
            new |= {"data": row["body"], "labeled": event.labeled}
            new |= {"data_hash": event.data_hash, "split_hash": event.split_hash}
        elif isinstance(event, Attempt) and row["attempt"] > 0:
            step = event.start or 0
            new |= {"state": RUNNING, "reason": None, "code": None, "ended": None, "attempt": row["attempt"]}
            new |= {"host": event.host, "boot": event.boot, "device": event.device}
            new |= {"precision": event.precision, "threads": event.threads}
            new |= {"exact": int(event.exact and new.get("exact", 1))}
            new.setdefault("started", row["t"])
            said = row["t"]
        elif isinstance(event, State) and (row["attempt"] > 0 or row["t"] >= said):
            step = max(step, row["step"] or 0)
            new |= {"state": event.state, "reason": event.reason, "code": event.code}
            new["ended"] = None if event.state == RUNNING else row["t"]
            said = row["t"]
    reached = conn.execute("SELECT max(last_step) FROM series WHERE run = ?", [run]).fetchone()[0]
    paced = "SELECT max(step) FROM pace WHERE run = ? AND attempt = ?"
    paces = conn.execute(paced, [run, new.get("attempt", 0)]).fetchone()[0]
    new["step"] = max(step, reached or 0, paces or 0)
    conn.execute(f"UPDATE runs SET {', '.join(f'{key} = ?' for key in new)} WHERE id = ?", [*new.values(), run])


def _about(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / "run.json"
    info = path.stat()
    about = json.loads(path.read_bytes())
    if not isinstance(about, dict):
        raise ValueError("no JSON object")
    return _shaped(upgrade_record(about)), f"{info.st_mtime_ns}:{info.st_size}"


FLAT = {"name", "seed", "note"}
"""Keys of a recipe that are not tables."""


def _shaped(about: dict[str, Any]) -> dict[str, Any]:
    """A run.json with every table checked to be a table, so that readers need not check again."""
    config = about.get("config")
    tables = {k: v for k, v in config.items() if isinstance(v, dict) or k in FLAT} if isinstance(config, dict) else {}
    about |= {"config": tables, "components": [c for c in _list(about.get("components")) if isinstance(c, dict)]}
    for key in ("environment", "git", "published"):
        if not isinstance(about.get(key), dict):
            about[key] = None
    return about


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1
