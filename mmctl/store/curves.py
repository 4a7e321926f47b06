"""Writes the points of a run and the summary of each of its curves, in one transaction."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypeAlias

CHUNK = 20_000
TAIL = 20
SUMMARY = (
    "n", "nans", "first_step", "first", "last_step", "last", "min_step", "min", "max_step", "max", "mean20", "median20",
)  # fmt: skip
Point: TypeAlias = tuple[int, float | None]
"""A step and its value; None is NaN."""


class Curves:
    """Collects points of one run and writes them with their summaries."""

    def __init__(self, conn: sqlite3.Connection, run: int) -> None:
        self.conn, self.run = conn, run
        self._new: dict[str, dict[int, float | None]] = {}
        self._waiting = 0

    def add(self, name: str, step: int, value: object) -> None:
        """Add a value; None is NaN and infinity is the text "inf" or "-inf", because JSON has neither."""
        if value != value:
            value = None
        elif type(value) is not float and value is not None:
            if value not in ("inf", "-inf") and not isinstance(value, int):
                return
            try:
                value = float(value)  # type: ignore[arg-type]
            except OverflowError:
                return
        points = self._new.get(name)
        if points is None:
            points = self._new[name] = {}
        points[step] = value  # type: ignore[assignment]
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
        return dropped

    def finish(self) -> None:
        """Write what was collected."""
        if not self._new:
            return
        found = self.conn.execute("SELECT name, id, last_step FROM series WHERE run = ?", [self.run])
        known = {name: (series, last) for name, series, last in found}
        free = self.conn.execute("SELECT max(id) FROM series").fetchone()[0] or 0
        summaries: list[list[object]] = []
        points: list[tuple[int, int, float | None]] = []
        grown: list[tuple[int, list[Point], int]] = []
        for name, values in self._new.items():
            rows = sorted(values.items())
            if name in known:
                series, last = known[name]
                grown.append((series, rows, last))
            else:
                series = free = free + 1
                summary = extended(None, rows, [value for _, value in rows[-TAIL:]])
                summaries.append([series, self.run, name, *(summary[key] for key in SUMMARY)])
            points += [(series, step, value) for step, value in rows]
        columns = ("id", "run", "name", *SUMMARY)
        sql = f"INSERT INTO series ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        self.conn.executemany(sql, summaries)
        self.conn.executemany("REPLACE INTO points VALUES (?, ?, ?)", points)
        for series, rows, last in grown:
            if rows[0][0] > last:
                old = self.conn.execute(f"SELECT {', '.join(SUMMARY)} FROM series WHERE id = ?", [series]).fetchone()
                self._store(series, dict(old), rows)
            else:
                self._summarize(series)
        self._new.clear()
        self._waiting = 0

    def _summarize(self, series: int) -> None:
        """Compute a summary from all points; delete a curve without points."""
        found = "SELECT step, value FROM points WHERE series = ? ORDER BY step"
        rows = [(step, value) for step, value in self.conn.execute(found, [series])]
        if rows:
            self._store(series, None, rows)
        else:
            self.conn.execute("DELETE FROM series WHERE id = ?", [series])

    def _store(self, series: int, old: Mapping[str, float | None] | None, rows: Sequence[Point]) -> None:
        """Write a summary with later points, which are in the table already; the earlier ones are not read."""
        tail = [value for _, value in rows[-TAIL:]]
        if old and len(tail) < TAIL:
            asked = "SELECT value FROM points WHERE series = ? ORDER BY step DESC LIMIT ?"
            tail = [value for (value,) in self.conn.execute(asked, [series, TAIL])]
        summary = extended(old, rows, tail)
        to = ", ".join(f"{key} = ?" for key in SUMMARY)
        self.conn.execute(f"UPDATE series SET {to} WHERE id = ?", [*(summary[key] for key in SUMMARY), series])


def extended(
    old: Mapping[str, float | None] | None, rows: Sequence[Point], tail: Sequence[float | None]
) -> dict[str, float | None]:
    """A summary with later points added; tail: the values of the last points."""
    made = dict(old) if old else dict.fromkeys(SUMMARY) | {"n": 0, "nans": 0}
    if not made["n"]:
        made["first_step"], made["first"] = rows[0]
    made["last_step"], made["last"] = rows[-1]
    values = [value for _, value in rows if value is not None]
    steps = [step for step, value in rows if value is not None]
    made["n"] = (made["n"] or 0) + len(rows)
    made["nans"] = (made["nans"] or 0) + len(rows) - len(values)
    if values:
        low, high = min(values), max(values)
        if made["min"] is None or low < made["min"]:
            made["min_step"], made["min"] = steps[values.index(low)], low
        if made["max"] is None or high > made["max"]:
            made["max_step"], made["max"] = steps[values.index(high)], high
    # With a NaN among the last twenty points, mean and median are NaN too.
    finite = [value for value in tail if value is not None]
    whole = len(finite) == len(tail)
    made["mean20"] = _finite(sum(finite) / len(finite)) if whole else None
    made["median20"] = _finite(median(finite)) if whole else None
    return made


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
