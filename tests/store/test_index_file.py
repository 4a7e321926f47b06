"""The database file: made again where it is ours, refused where it is not, done without where it cannot be used."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.fake_runs import T0, finished_run
from helpers.paths import REPO
from mmctl.run_folder.events import Note
from mmctl.run_folder.journal import append
from mmctl.run_folder.lease import Lease
from mmctl.store import connection, reading, remake
from mmctl.store.connection import IndexUnusable
from mmctl.store.store import Store

Mm = Callable[..., Result]
UID = "20261125-081501-digits-s0-0001"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in range(2):
        finished_run(tmp_path / "runs", f"20261125-08150{seed}-digits-s{seed}-000{seed}", seed=seed, created=T0 + seed)
    return tmp_path / "runs"


def listed(mm: Mm) -> tuple[list[str], str]:
    done = mm("ls", "--json")
    assert done.code == 0, done.err
    return [row["state"] for row in json.loads(done.out)["runs"]], done.err


def statements(path: Path, *sql: str) -> None:
    conn = sqlite3.connect(path)
    for one in sql:
        conn.execute(one)
    conn.commit()
    conn.close()


MIGRATIONS = "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)"
OURS: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "zeros": lambda p: p.write_bytes(b"\0" * 8192),
    "part of a header": lambda p: p.write_bytes(connection.MAGIC + b"\x10\0\1\1"),
    "header alone": lambda p: statements(p, "PRAGMA journal_mode = WAL"),
    "migrations alone": lambda p: statements(p, MIGRATIONS),
    "migrations and an index": lambda p: statements(
        p, MIGRATIONS, "CREATE UNIQUE INDEX idx ON _sqlite_migrations (migration_set, name)"
    ),
    "newer": lambda p: statements(
        p, MIGRATIONS, "PRAGMA application_id = 1835885428", "CREATE TABLE runs (x)",
        "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('mmctl', 'm999_later')",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OURS)
def test_a_file_of_ours_is_made_again_by_itself(mm: Mm, runs: Path, kind: str) -> None:
    OURS[kind](runs / connection.FILE)
    assert listed(mm) == (["completed", "completed"], "")
    assert mm("db", "check").code == 0
    assert not list(runs.glob("*.new*"))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "tables": lambda p: statements(p, "CREATE TABLE mine (x)"),
    "a table called runs": lambda p: statements(p, "CREATE TABLE runs (x)"),
    "another application": lambda p: statements(p, "PRAGMA application_id = 7", "CREATE TABLE x (y)"),
    "text": lambda p: p.write_text("my notes\n"),
    "bytes": lambda p: p.write_bytes(b"\x89PNG" * 900),
    "zeros, then data": lambda p: p.write_bytes(b"\0" * 200 + b"data"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_somebody_else_is_left_alone(mm: Mm, runs: Path, kind: str) -> None:
    path = runs / connection.FILE
    FOREIGN[kind](path)
    before = path.read_bytes()
    for words in (["ls"], ["compare"], ["db", "check"]):
        done = mm(*words)
        assert done.code == 4
        assert "not a database of mmctl. Move it away if you need it" in done.err
    assert path.read_bytes() == before


def killed_at(n: int, work: Callable[[], None]) -> bool:
    """Do the work in a child that kill -9 ends at its n-th statement of SQLite; whether it came to that."""
    real, seen = sqlite3.connect, 0

    def trace(sql: str) -> None:
        nonlocal seen
        seen += 1
        if seen == n:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*args: Any, **keys: Any) -> sqlite3.Connection:
        conn: sqlite3.Connection = real(*args, **keys)
        conn.set_trace_callback(trace)
        return conn

    child = os.fork()
    if child == 0:
        sqlite3.connect = connect  # type: ignore[assignment]
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    "stride", [pytest.param(5, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_kill_9_at_each_statement_while_the_database_is_created(stride: int, runs: Path) -> None:
    n = 1
    while killed_at(n, lambda: Store(runs).close()):
        with Store(runs) as store:
            store.sync()
            assert [run["state"] for run in store.runs()] == ["completed"] * 2, n
        for file in runs.glob("mmctl.db*"):
            file.unlink()
        n += stride
    assert n > 20, "the sweep came to its end"


def test_kill_9_while_it_is_made_again_leaves_the_old_one(runs: Path) -> None:
    with Store(runs) as store:
        store.sync()
    before = (runs / connection.FILE).read_bytes()

    def work() -> None:
        connection.replace_database = lambda *a: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        remake.remake(runs, connection.Waiting(5))

    assert killed_at(0, work)
    assert (runs / connection.FILE).read_bytes() == before
    Store.rebuild(runs).close()
    assert sorted(p.name for p in runs.glob("mmctl*")) == ["mmctl.db", "mmctl.lock"], "leftovers are removed"


def no_space(conn: sqlite3.Connection) -> None:
    pages = conn.execute("PRAGMA page_count").fetchone()[0]
    conn.execute(f"PRAGMA max_page_count = {max(pages, 1)}")


READING: list[list[object]] = [
    ["ls"], ["show", "1"], ["compare"], ["diff", "1", "2"], ["ls", "--json"], ["table", "table3", "--json"],
]  # fmt: skip


def assert_reads_on(mm: Mm, why: str) -> None:
    for words in READING:
        done = mm(*words)
        assert done.code == 0, (words, done)
        (line,) = done.err.splitlines()
        assert line.startswith("mmctl: note: "), line
        assert why in line
        assert line.endswith("This command reads on with an index in memory.")
    states, _ = listed(mm)
    assert states == ["completed", "completed"]


@pytest.mark.parametrize("there", [True, False], ids=["with database", "without"])
def test_reading_goes_on_on_a_full_disk(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if there:
        listed(mm)
        finished_run(runs, "20261125-081509-digits-s9-0009", seed=9, created=T0 - 1)
    real = connection.connect

    class Full:
        def __init__(self, path: Path, patience: float) -> None:
            self.opened, self.path = real(path, patience), path

        def __enter__(self) -> sqlite3.Connection:
            conn = self.opened.__enter__()
            if str(self.path) != ":memory:":
                no_space(conn)
            return conn

        def __exit__(self, *error: Any) -> Any:
            return self.opened.__exit__(*error)

    monkeypatch.setattr(connection, "connect", Full)
    done = mm("ls", "--json")
    assert done.code == 0, done.err
    assert "database or disk is full" in done.err
    assert len(json.loads(done.out)["runs"]) == 2 + there
    assert mm("db", "check").code == 4


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_reading_goes_on_where_the_lock_is_no_file(mm: Mm, runs: Path, kind: str) -> None:
    lock = runs / connection.LOCK
    {"folder": lock.mkdir, "loop": lambda: lock.symlink_to(lock.name)}[kind]()
    assert_reads_on(mm, str(lock))
    done = mm("db", "rebuild")
    assert done.code == 4
    assert str(lock) in done.err
    assert mm("tag", "1", "good").out.endswith("good\n"), "the tag is in the journal all the same"
    assert mm("ls", "tag:good", "--json").out.count('"uid"') == 1


def test_reading_goes_on_where_nothing_may_be_written(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(mm)
    finished_run(runs, "20261125-081509-digits-s9-0009", seed=9, created=T0 + 9)
    from mmctl.store import store as store_module

    tree = {p: p.stat().st_mtime_ns for p in runs.rglob("*")}
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
    done = mm("ls", "--json")
    assert done.code == 0
    assert done.err == f"mmctl: note: {runs}: cannot be written. This command reads on with an index in memory.\n"
    assert len(json.loads(done.out)["runs"]) == 3
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*")} == tree, "nothing was written"


@pytest.mark.slow
def test_a_locked_database_is_waited_for_in_words_and_then_done_without(
    mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(mm)
    monkeypatch.setattr(reading, "PATIENCE", 1.5)
    monkeypatch.setattr(reading.open_for_reading, "__defaults__", (reading.tell, 1.5, None))
    conn = sqlite3.connect(runs / connection.FILE, isolation_level=None)
    conn.execute("BEGIN IMMEDIATE")
    append(runs / "20261125-081500-digits-s0-0000", Note(text="x"))
    begin = time.monotonic()
    done = mm("show", "1", "--json")
    assert time.monotonic() - begin < 10
    assert done.code == 0
    waits, reads = done.err.splitlines()
    assert waits == f"mmctl: waiting for another process that uses {runs / connection.FILE} ..."
    assert "keeps the database locked" in reads
    assert json.loads(done.out)["run"]["notes"][0]["text"] == "x"
    conn.execute("ROLLBACK")
    conn.close()
    with Store(runs), pytest.raises(IndexUnusable, match="kept the database open"):
        Store.rebuild(runs, patience=0.1)


@pytest.mark.parametrize(("folder", "file"), [(0o2775, 0o664), (0o755, 0o644), (0o700, 0o644)])
def test_files_of_a_shared_folder_of_runs_are_for_the_group(mm: Mm, runs: Path, folder: int, file: int) -> None:
    old = os.umask(0o022)
    try:
        for path in (runs, runs / "20261125-081500-digits-s0-0000"):
            path.chmod(folder)
        listed(mm)
        assert mm("tag", "1", "good").code == 0
        run = runs / "20261125-081500-digits-s0-0000"
        with Lease(run):
            pass
        made = [runs / connection.FILE, runs / connection.LOCK, run / "journal.0.jsonl", run / "lease"]
        assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {
            path.name: oct(file) for path in made
        }
    finally:
        os.umask(old)


@pytest.mark.slow
def test_progress_of_a_long_import_is_shown_in_a_terminal(runs: Path) -> None:
    code = (
        "import sys, pty, os, pathlib\n"
        "from mmctl.store import reading, sync\n"
        "sync.HOLD = 0.0\n"
        "class Slow(reading.ImportProgress):\n"
        "    def __init__(self): super().__init__(); self._begin -= 2; self._shown -= 2\n"
        "reading.ImportProgress = Slow\n"
        "reading.open_for_reading(pathlib.Path(sys.argv[1])).close()\n"
    )
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    for err, shown in ((theirs, True), (subprocess.PIPE, False)):
        for path in runs.glob("mmctl.db*"):
            path.unlink()
        done = subprocess.run([sys.executable, "-c", code, runs], stderr=err, env=env, check=True, timeout=100)
        text = os.read(ours, 10_000).decode() if shown else done.stderr.decode()
        assert ("reading run folders: 1 of 2" in text) == shown
    os.close(ours)
    os.close(theirs)
