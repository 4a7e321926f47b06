"""Whether the database matches the run folders."""

from __future__ import annotations

from collections.abc import Iterator

from mmctl.run_folder import lease
from mmctl.store.connection import explained_errors
from mmctl.store.remake import OF_A_RUN
from mmctl.store.store import Store


def database_problems(store: Store) -> list[str]:
    """What is wrong with the database: damaged pages, and each readable run that differs from its journals."""
    with explained_errors(store.path):
        pages = [row[0] for row in store._conn.execute("PRAGMA integrity_check(20)")]
    if pages != ["ok"]:
        return pages
    with Store(store.runs_dir, memory=True, copy=False) as fresh:
        fresh.sync()
        right, here = dict(contents(fresh)), dict(contents(store))
        unreadable = fresh.unreadable.keys() | store.unreadable.keys()
    wrong = sorted(uid for uid in right.keys() | here.keys() if right.get(uid) != here.get(uid))
    # A running process may have written more between the two readings.
    live = {uid for uid in wrong if (store.runs_dir / uid).is_dir() and lease.holder(store.runs_dir / uid) is not None}
    return [f"{uid}: differs from its journals" for uid in wrong if uid not in live | unreadable]


def folder_problems(store: Store) -> list[str]:
    """What is wrong with run folders: files that cannot be read, and edits."""
    edits = [f"{store.runs_dir / run['uid']}: altered: {one}" for run in store.runs() for one in run["altered"]]
    return [*store.unreadable.values(), *edits]


def bad_lines(store: Store) -> list[str]:
    """The damaged lines of journals; kill -9 in the middle of a line leaves one, and nothing is lost by it."""
    return [f"{store.runs_dir / run['uid']}: {line}" for run in store.runs() for line in store.bad_lines(run)]


def contents(store: Store) -> Iterator[tuple[str, list[object]]]:
    """All rows of each run, without ids, so that two databases can be compared."""
    for run in store._rows("SELECT * FROM runs ORDER BY uid"):
        one = [run["id"]]
        seen = ("id", "folder_ns", "beat", "beat_seen")
        rows: list[object] = [[value for key, value in run.items() if key not in seen]]
        for table in OF_A_RUN:
            found = store._rows(f"SELECT * FROM {table} WHERE run = ?", one)
            rows.append(sorted([[value for key, value in row.items() if key != "run"] for row in found], key=repr))
        for series in store._rows("SELECT * FROM series WHERE run = ? ORDER BY name", one):
            rows.append([value for key, value in series.items() if key not in ("id", "run")])
            values = store._rows("SELECT step, value FROM points WHERE series = ? ORDER BY step", [series["id"]])
            rows.append([tuple(row.values()) for row in values])
        yield run["uid"], rows
