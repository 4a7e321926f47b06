"""Imports run folders into the database; nothing else writes to the database.

A run is imported in one transaction, from where the last import ended. Journals are read in the order of the
attempts, so that importing bit by bit and importing everything at once leave the same rows. No order comes from clocks.

What cannot be read is named in the column `unreadable`, and what the database knows of that run stays.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, cast

from mmctl.filesystem import open_file
from mmctl.run_folder import journal
from mmctl.run_folder.events import (
    Alert,
    Attempt,
    Checkpoint,
    Data,
    Evaluation,
    Mark,
    Note,
    Pace,
    Points,
    State,
    Sweep,
    Tag,
    decode,
)  # fmt: skip
from mmctl.run_folder.lease import now
from mmctl.run_folder.record import NEEDED, RunRecord, load_record
from mmctl.run_folder.upgrade import upgrade_record
from mmctl.run_folder.values import text
from mmctl.run_folder.verify import Logged, alterations, logged_in
from mmctl.store.curves import Curves
from mmctl.store.run_row import delete_run, insert_run, mark_unreadable, placeholder
from mmctl.text import to_json

SETTLED = 2_000_000_000
"""Nanoseconds; a younger folder may still get a file with the same modification time, so it is read again."""
RUNNING = "running"
FILES = ("run.json", "recipe.toml", "split.json")
"""An edit of one of these makes the run be read again."""
RESTORE = "Restore it from a copy"


class OutOfOrderJournal(Exception):
    """A journal grew or began where it cannot be added to what was read: read the run again from the start."""


def stale(folder: str, folder_ns: int, signature: str, sizes: dict[int, int]) -> bool:
    """Whether a run folder has anything that is not imported yet."""
    try:
        if os.stat(folder).st_mtime_ns != folder_ns:  # noqa: PTH116 - ten thousand of them
            return True
    except OSError:
        return True
    if any(_size(f"{folder}/journal.{n}.jsonl") != size for n, size in sizes.items()):
        return True
    return _signature(folder) != signature


def import_run(conn: sqlite3.Connection, folder: Path) -> bool:
    """Import what is new in one run, inside a transaction of the caller; returns whether anything was new.

    FileNotFoundError: there is no such folder.
    """
    signature = _signature(folder)
    row = conn.execute("SELECT id, signature, unreadable FROM runs WHERE uid = ?", [folder.name]).fetchone()
    attempts, faults = journal.attempts(folder), []
    record: dict[str, Any] | None = None
    try:
        record = upgrade_record(load_record(folder))
    except FileNotFoundError:
        if row is None and not attempts and not (folder / "checkpoints").is_dir():
            return False  # not a run, or one that is being created
        faults.append(f"{folder / 'run.json'}: is missing. {RESTORE}, or remove the folder.")
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        faults.append(f"{folder / 'run.json'}: not the record of a run ({fault}). {RESTORE}, or remove the folder.")
    bad = _journal_faults(conn, folder, attempts, row if row is not None and row["signature"] == signature else None)
    faults += bad.values()
    if row is not None and faults:
        mark_unreadable(conn, folder, " ".join(faults))  # what is known of it is not replaced by less
        return False
    if row is not None and row["signature"] == signature and row["unreadable"] is None:
        try:
            return _Import(conn, folder, row["id"], record).run(attempts)
        except OutOfOrderJournal:
            pass
    delete_run(conn, folder.name)
    run = insert_run(conn, folder.name, record or placeholder(folder), signature)
    _Import(conn, folder, run, record).run([n for n in attempts if n not in bad])
    if faults:
        mark_unreadable(conn, folder, " ".join(faults))
    return not faults


def _journal_faults(
    conn: sqlite3.Connection, folder: Path, attempts: list[int], row: sqlite3.Row | None
) -> dict[int, str]:
    """What is wrong with journals that cannot be read; row: the run, if its record is still that of these journals."""
    faults: dict[int, str] = {}
    for n in attempts:
        path = journal.path_of(folder, n)
        try:
            open_file(path, journal.SIZE).close()
        except (OSError, ValueError) as error:
            faults[n] = f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). {RESTORE}."
    known = conn.execute("SELECT attempt, offset FROM files WHERE run = ?", [row["id"]]).fetchall() if row else []
    for n, offset in known:
        path = journal.path_of(folder, n)
        if n not in faults and (size := _size(path)) < offset:
            there = f"has {size} bytes" if size >= 0 else "is missing"
            remedy = f"{RESTORE}; `mmctl db rebuild` takes what is left."
            faults[n] = f"{path}: {there}, but {offset} bytes were read before. {remedy}"
    return faults


class _Import:
    def __init__(self, conn: sqlite3.Connection, folder: Path, run: int, record: dict[str, Any] | None) -> None:
        self.conn, self.folder, self.run_id, self.record = conn, folder, run, record
        self.curves = Curves(conn, run)
        self.evaluations: list[list[object]] = []
        self.check = False  # whether the journals say something new of the run's identity

    def run(self, attempts: list[int]) -> bool:
        info = self.folder.stat()
        found = self._all("SELECT attempt, offset, bad, fault FROM files WHERE run = ?")
        known = {row["attempt"]: row for row in found}
        newest = max(known, default=0)
        news = False
        # Attempt 0 is last: whether its evaluations still count depends on the attempts.
        for n in sorted(attempts, key=lambda n: (n == 0, n)):
            path = journal.path_of(self.folder, n)
            size = _size(path)
            begin, bad, fault = (known[n]["offset"], known[n]["bad"], known[n]["fault"]) if n in known else (0, 0, None)
            end = begin
            for line in journal.read_lines(path, begin):
                # What attempt 0 says is judged by the attempts before it: it is read again after a new one.
                if 0 < n < newest or (n > newest and 0 in known):
                    raise OutOfOrderJournal
                if line.event is not None:
                    self._take(n, line)
                elif line.fault:
                    bad, fault = bad + 1, fault or f"at byte {end}: {line.fault}"
                end = line.offset
            news = news or end > begin
            self.conn.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", [self.run_id, n, end, size, bad, fault])
        self._write()
        # Settled too if the time is in the future: the clock was put back since.
        settled = info.st_mtime_ns if abs(now() * 1_000_000 - info.st_mtime_ns) > SETTLED else 0
        self.conn.execute("UPDATE runs SET folder_ns = ? WHERE id = ?", [settled, self.run_id])
        if news or not known:
            logged = _derive(self.conn, self.run_id)
            if self.check or not known:
                self._verify(logged)
        return news

    def _verify(self, logged: Logged) -> None:
        """Mark a run whose folder was edited; it is a configuration of its own."""
        record = self.record
        if record is None or not all(isinstance(record.get(key), kind) for key, kind in NEEDED.items()):
            return
        found = alterations(self.folder, cast(RunRecord, record), logged)
        config_id = "" if found else text(record.get("config_id"))
        row = [to_json(found), config_id or self.folder.name, self.run_id]
        self.conn.execute("UPDATE runs SET altered = ?, config_id = ? WHERE id = ?", row)

    def _write(self) -> None:
        self.curves.finish()
        self.conn.executemany("REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?)", self.evaluations)
        self.evaluations.clear()

    def _take(self, n: int, line: journal.Line) -> None:
        event = line.event
        match event:
            case Points(step=step, values=values):
                for name, value in values.items():
                    self.curves.add(text(name), step, value)
            case Evaluation(step=step):
                self._evaluation(n, line, event)
            case Checkpoint(step=step):
                row = [self.run_id, step, event.path or "", n, event.t or 0, event.bytes, event.sha256, event.reason]
                self.conn.execute("REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            case Pace(step=step):
                row = [self.run_id, n, step, event.seconds, event.cpu]
                self.conn.execute("REPLACE INTO pace VALUES (?, ?, ?, ?, ?)", row)
            case State() | Attempt() | Data() | Alert() | Tag() | Sweep() | Note() | Mark():
                body, t = line.raw.decode("utf-8", "replace"), event.t or 0
                if isinstance(event, Attempt) and n > 0:
                    self._attempt(n, t, event.start or 0, body)
                elif isinstance(event, Tag):
                    self._tag(event)
                elif isinstance(event, Sweep):
                    self.conn.execute("INSERT OR IGNORE INTO sweeps VALUES (?, ?)", [self.run_id, event.name])
                self.check = self.check or isinstance(event, (Attempt, Data))
                at, after = getattr(event, "step", None), self._after(n, event.after, t)
                row = [self.run_id, n, line.offset, after, t, event.kind, at, body]
                self.conn.execute("REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _evaluation(self, n: int, line: journal.Line, event: Evaluation) -> None:
        t, after = event.t or 0, self._after(n, event.after, event.t or 0)
        if n == 0 and self._superseded(event.step, after):
            return
        body = line.raw.decode("utf-8", "replace")
        self.evaluations.append([self.run_id, n, line.offset, after, t, event.step, body])
        if n > 0:  # evaluated after training: no point of the training curve
            prefix = f"{event.split or ''}/{event.weights or ''}/{event.predictor or ''}/"
            for name, value in event.metrics.items():
                self.curves.add(prefix + text(name), event.step, value)

    def _attempt(self, n: int, t: int, start: int, body: str) -> None:
        """Delete what earlier attempts wrote after the step where this one starts."""
        self._write()
        dropped = self.curves.cut(start)
        for table in ("checkpoints", "evaluations"):
            self.conn.execute(f"DELETE FROM {table} WHERE run = ? AND step > ?", [self.run_id, start])
        self.conn.execute("DELETE FROM events WHERE run = ? AND kind = 'alert' AND step > ?", [self.run_id, start])
        row = [self.run_id, n, t, start, dropped, body]
        self.conn.execute("REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)", row)

    def _after(self, n: int, said: int | None, t: int) -> int:
        """The last attempt when an event was written; only older versions did not say it, but the time."""
        if n > 0 or said is not None:
            return n or said or 0
        asked = "SELECT max(n) FROM attempts WHERE run = ? AND t <= ?"
        return int(self.conn.execute(asked, [self.run_id, t]).fetchone()[0] or 0)

    def _superseded(self, step: int, after: int) -> bool:
        asked = "SELECT 1 FROM attempts WHERE run = ? AND from_step < ? AND n > ? LIMIT 1"
        return self.conn.execute(asked, [self.run_id, step, after]).fetchone() is not None

    def _tag(self, event: Tag) -> None:
        for tag in event.add:
            self.conn.execute("INSERT OR IGNORE INTO tags VALUES (?, ?)", [self.run_id, tag])
        for tag in event.remove:
            self.conn.execute("DELETE FROM tags WHERE run = ? AND tag = ?", [self.run_id, tag])

    def _all(self, sql: str) -> list[sqlite3.Row]:
        return self.conn.execute(sql, [self.run_id]).fetchall()


def _derive(conn: sqlite3.Connection, run: int) -> Logged:
    """Compute the columns of a listing from the run's events; returns what they repeat of the run's identity."""
    events = "SELECT attempt, after, t, step, body FROM events WHERE run = ? "
    events += "AND kind IN ('state', 'attempt', 'data', 'mark') "
    # After each attempt, what was said from outside before the next one.
    rows = conn.execute(events + "ORDER BY after, attempt = 0, offset", [run]).fetchall()
    found = [decode(row["body"]) for row in rows]
    new: dict[str, Any] = {"state": "queued", "reason": None, "code": None, "ended": None}
    step = 0
    for row, event in zip(rows, found, strict=True):
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
        elif isinstance(event, State):
            step = max(step, row["step"] or 0)
            new |= {"state": event.state, "reason": event.reason, "code": event.code}
            new["ended"] = None if event.state == RUNNING else row["t"]
        elif isinstance(event, Mark):
            said = {"name": event.name, "starred": event.star, "archived": event.archived}
            new |= {key: value for key, value in said.items() if value is not None}
    reached = conn.execute("SELECT max(last_step) FROM series WHERE run = ?", [run]).fetchone()[0]
    paced = "SELECT max(step) FROM pace WHERE run = ? AND attempt = ?"
    paces = conn.execute(paced, [run, new.get("attempt", 0)]).fetchone()[0]
    new["step"] = max(step, reached or 0, paces or 0)
    conn.execute(f"UPDATE runs SET {', '.join(f'{key} = ?' for key in new)} WHERE id = ?", [*new.values(), run])
    return logged_in(event for event in found if event is not None)


def _signature(folder: str | Path) -> str:
    """Times and sizes of the files that say what the run is."""
    found = []
    for name in FILES:
        try:
            info = os.stat(f"{folder}/{name}")  # noqa: PTH116
            found.append(f"{info.st_mtime_ns}:{info.st_size}")
        except OSError:
            found.append("-")
    return " ".join(found)


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1
