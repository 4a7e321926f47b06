"""Writes the points of a run and the summary of each of its curves, in one transaction."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from statistics import median
from typing import Any

CHUNK = 20_000
TAIL = 20
SUMMARY = (
    "n", "nans", "first_step", "first", "last_step", "last", "min_step", "min", "max_step", "max", "mean20", "median20",
)  # fmt: skip


class Curves:
    """Collects points of one run and writes them with their summaries."""

    def __init__(self, conn: sqlite3.Connection, run: int) -> None:
        self.conn, self.run = conn, run
        self._ids: dict[str, int] = {}
        self._new: dict[int, dict[int, float | None]] = defaultdict(dict)
        self._waiting = 0

    def add(self, name: str, step: int, value: object) -> None:
        """Add a value; None is NaN and infinity is the text "inf", because JSON has neither."""
        if value is not None and not isinstance(value, float):
            if value not in ("inf", "-inf") and not isinstance(value, int):
                return
            try:
                value = float(value)
            except OverflowError:
                return
        self._new[self._id(name)][step] = value
        self._waiting += 1
        if self._waiting >= CHUNK:
            self.finish()

    def cut(self, step: int) -> int:
        """Delete all points after a step; returns their number."""
        self.finish()
        dropped = 0
        for (series,) in self.conn.execute("SELECT id FROM series WHERE run = ?", [self.run]).fetchall():
            gone = self.conn.execute("DELETE FROM points WHERE series = ? AND step > ?", [series, step]).rowcount
            if gone:
                self._summarize(series)
            dropped += gone
        self._ids.clear()
        return dropped

    def finish(self) -> None:
        """Write what was collected."""
        for series, points in self._new.items():
            last = self.conn.execute("SELECT last_step FROM series WHERE id = ?", [series]).fetchone()[0]
            rows = sorted(points.items())
            write = "REPLACE INTO points VALUES (?, ?, ?)"
            self.conn.executemany(write, ((series, step, value) for step, value in rows))
            if last is None or rows[0][0] > last:
                self._extend(series, rows)
            else:
                self._summarize(series)
        self._new.clear()
        self._waiting = 0

    def _id(self, name: str) -> int:
        if name not in self._ids:
            self.conn.execute("INSERT OR IGNORE INTO series (run, name) VALUES (?, ?)", [self.run, name])
            found = "SELECT id FROM series WHERE run = ? AND name = ?"
            self._ids[name] = self.conn.execute(found, [self.run, name]).fetchone()[0]
        return self._ids[name]

    def _extend(self, series: int, rows: list[tuple[int, float | None]]) -> None:
        """Add later points to a summary without reading the earlier ones."""
        old = dict(self.conn.execute(f"SELECT {', '.join(SUMMARY)} FROM series WHERE id = ?", [series]).fetchone())
        if not old["n"]:
            old["first_step"], old["first"] = rows[0]
        old["last_step"], old["last"] = rows[-1]
        old["n"] += len(rows)
        for step, value in rows:
            if value is None:
                old["nans"] += 1
                continue
            if old["min"] is None or value < old["min"]:
                old["min_step"], old["min"] = step, value
            if old["max"] is None or value > old["max"]:
                old["max_step"], old["max"] = step, value
        self._store(series, old)

    def _summarize(self, series: int) -> None:
        """Compute a summary from all points; delete a curve without points."""
        found = "SELECT step, value FROM points WHERE series = ? ORDER BY step"
        rows = [(step, value) for step, value in self.conn.execute(found, [series])]
        if not rows:
            self.conn.execute("DELETE FROM series WHERE id = ?", [series])
            return
        empty = ", ".join(f"{key} = {0 if key in ('n', 'nans') else 'NULL'}" for key in SUMMARY)
        self.conn.execute(f"UPDATE series SET {empty} WHERE id = ?", [series])
        self._extend(series, rows)

    def _store(self, series: int, summary: dict[str, Any]) -> None:
        tail = "SELECT value FROM points WHERE series = ? ORDER BY step DESC LIMIT ?"
        values = [value for (value,) in self.conn.execute(tail, [series, TAIL])]
        # With a NaN among the last twenty points, mean and median are NaN too.
        whole = None not in values
        summary["mean20"] = _finite(sum(values) / len(values)) if whole and values else None
        summary["median20"] = _finite(median(values)) if whole and values else None
        to = ", ".join(f"{key} = ?" for key in SUMMARY)
        self.conn.execute(f"UPDATE series SET {to} WHERE id = ?", [*(summary[key] for key in SUMMARY), series])


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
