"""Reads the points of curves: of many at once, thinned out in SQL, for plots; one after the other, for exports.

And what exports need of many runs at once.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from mmctl.run_folder.events import Evaluation, decode
from mmctl.run_folder.values import text
from mmctl.store.connection import explained_errors
from mmctl.store.rows import RunRow
from mmctl.store.store import Store, within

CurveKey: TypeAlias = tuple[int, str]
"""The id of a run, and the full name of one of its curves."""
Curve: TypeAlias = list[tuple[int, float]]
"""Steps and values; NaN is NaN."""


def read_curves(
    store: Store, runs: Sequence[RunRow], names: Collection[str], most: int | None = None, *, apart: bool = False
) -> dict[CurveKey, Curve]:
    """The curves of these names that these runs have.

    most: the largest number of points of one curve. Curves that have more are cut into as many equal parts, at the same
    steps for all of them unless `apart`, and each part becomes one point: its first step, and its mean (NaN if it has
    a NaN).
    """
    if not runs or not names:
        return {}
    chosen = f"s.run IN ({', '.join(str(run['id']) for run in runs)}) AND s.name IN ({', '.join('?' * len(names))})"
    ends = store._rows(f"SELECT max(n) AS n, max(last_step) AS last FROM series s WHERE {chosen}", list(names))[0]
    if most is not None and (ends["n"] or 0) > most:
        last = "s.last_step" if apart else str(int(ends["last"]))
        part = f"iif({apart:d} AND s.n <= {most:d}, p.step, p.step * {most:d} / ({last} + 1))"
        sql = "SELECT s.run, s.name, min(p.step) AS step, iif(count(p.value) < count(*), NULL, avg(p.value)) AS value "
        sql += f"FROM series s JOIN points p ON p.series = s.id WHERE {chosen} GROUP BY s.id, {part} ORDER BY s.id, 3"
    else:
        sql = "SELECT s.run, s.name, p.step, p.value FROM series s JOIN points p ON p.series = s.id "
        sql += f"WHERE {chosen} ORDER BY s.id, p.step"
    found: dict[CurveKey, Curve] = {}
    for row in store._rows(sql, list(names)):
        value = math.nan if row["value"] is None else row["value"]
        found.setdefault((row["run"], row["name"]), []).append((row["step"], value))
    return found


def names_among(store: Store, runs: Sequence[RunRow], names: Sequence[str]) -> set[str]:
    """Those of these names that a curve of one of these runs has."""
    ids = json.dumps([run["id"] for run in runs])
    sql = f"SELECT DISTINCT name FROM series WHERE name IN ({', '.join('?' * len(names))}) AND run IN "
    return {name for (name,) in _tuples(store, sql + "(SELECT value FROM json_each(?))", [*names, ids])}


def reduced_values(
    store: Store, runs: Sequence[RunRow], names: Mapping[int, str], column: str
) -> dict[int, tuple[int, float | None, float | None]]:
    """Of the curve that `names` gives each run: number of points, last value, value of a column of `series`."""
    among = sorted(set(names.values()))
    sql = f"SELECT run, name, n, last, {column} FROM series WHERE name IN ({', '.join('?' * len(among))})"
    rows = _tuples(store, f"{sql} AND {within('run', runs)}", among)
    return {run: (n, last, value) for run, name, n, last, value in rows if names.get(run) == name}


def last_values(store: Store, runs: Sequence[RunRow]) -> dict[int, dict[str, float]]:
    """The last value of each curve of these runs, by id and name; NaN is NaN."""
    found: dict[int, dict[str, float]] = {run["id"]: {} for run in runs}
    sql = f"SELECT run, name, last FROM series WHERE {within('run', runs)} ORDER BY run, name"
    for run, name, last in _tuples(store, sql):
        if run in found:
            found[run][name] = math.nan if last is None else last
    return found


def seconds_of(store: Store, runs: Sequence[RunRow]) -> dict[int, float]:
    """The time that each of these runs spent in training, over all attempts, by id; none where it is not known."""
    each = f"SELECT run, max(seconds) AS s FROM pace WHERE {within('run', runs)} GROUP BY run, attempt"
    rows = store._rows(f"SELECT run, sum(s) AS s FROM ({each}) GROUP BY run")
    return {row["run"]: row["s"] for row in rows if row["s"]}


def evaluated_metrics(store: Store, runs: Sequence[RunRow]) -> list[str]:
    """The names of the metrics in the evaluations of these runs."""
    ids = ", ".join(str(run["id"]) for run in runs)
    among = f"FROM evaluations e {{}} WHERE e.run IN (SELECT value FROM json_each('[{ids}]'))"
    # As bytes: a name may be no text that Python decodes. SQLite 3.40 takes no NaN, which Python reads.
    sql = "SELECT DISTINCT CAST(m.key AS BLOB) AS name " + among.format(
        ", json_each(iif(json_valid(e.body), e.body, '{}'), '$.metrics') m"
    )
    names = [text(row["name"].decode("utf-8", "surrogatepass")) for row in store._rows(sql)]
    for row in store._rows(f"SELECT e.body AS body {among.format('')} AND NOT json_valid(e.body)"):
        event = decode(row["body"])
        names += map(text, event.metrics) if isinstance(event, Evaluation) else ()
    return list(dict.fromkeys(names))


def each_point(store: Store, series: int) -> Iterator[tuple[int, float | None]]:
    """The points of a curve of any length, as they are read; None is NaN."""
    with explained_errors(store.path):
        yield from _cursor(store).execute("SELECT step, value FROM points WHERE series = ? ORDER BY step", [series])


def _tuples(store: Store, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Rows as tuples: of many, dicts take most of the time."""
    with explained_errors(store.path):
        return _cursor(store).execute(sql, values).fetchall()


def _cursor(store: Store) -> sqlite3.Cursor:
    cursor = store._conn.cursor()
    cursor.row_factory = None
    return cursor


@contextmanager
def one_moment(store: Store) -> Iterator[None]:
    """All that is read inside is of one moment, whatever other processes write."""
    with explained_errors(store.path):
        store._conn.execute("BEGIN")
        try:
            yield
        finally:
            store._conn.execute("ROLLBACK")
