"""The database on a disk that machines share, where they do not see each other's locks: one machine at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.fake_runs import finished_run
from mmctl.store import connection, owner
from mmctl.store.connection import IndexUnusable
from mmctl.store.reading import open_for_reading
from mmctl.store.store import Store

UID = "20260101-000000-a-s0-0001"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with one run, on a shared disk."""
    monkeypatch.setattr(connection, "is_network", lambda path: True)
    monkeypatch.setattr(owner, "PAUSE", 0.01)
    finished_run(tmp_path / "runs", UID)
    return tmp_path / "runs"


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within this block, this is another machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "host", lambda: "login2")
        patch.setattr(owner, "boot", lambda: "another-boot")
        yield


def test_the_last_process_of_a_machine_gives_it_free(runs: Path) -> None:
    with Store(runs) as one:
        one.sync()
        assert json.loads((runs / owner.FILE).read_text())["host"] == owner.host()
        with Store(runs) as two:
            two.sync()
        assert (runs / owner.FILE).exists(), "the first has it open still"
        one.sync()
    assert not (runs / owner.FILE).exists()
    with sqlite3.connect(runs / connection.FILE) as disk:
        assert disk.execute("PRAGMA journal_mode").fetchone() == ("delete",), "none that another machine cannot see"
    disk.close()


def test_another_machine_waits_and_reads_in_memory(runs: Path) -> None:
    with Store(runs) as here:
        here.sync()
        before = (runs / connection.FILE).read_bytes()
        with elsewhere():
            said = r"mmctl\.db: \S+ has the database open, and this disk is shared: one"
            with pytest.raises(IndexUnusable, match=said):
                Store(runs, patience=0.1)
            told: list[str] = []
            with open_for_reading(runs, told.append, patience=0.1) as there:
                assert there.memory
                assert [run["state"] for run in there.runs()] == ["completed"]
        assert "has the database open" in told[-1]
        assert (runs / connection.FILE).read_bytes() == before
    with elsewhere(), Store(runs, patience=0.1) as there:
        there.sync()


@pytest.mark.parametrize("left", [None, b"", b"{", b"[1]"])
def test_what_a_dead_machine_left_is_taken_over(
    left: bytes | None, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "STALE", 0.2)
    with Store(runs) as here:
        here.sync()
        if left is not None:
            (runs / owner.FILE).write_bytes(left)
        with elsewhere():
            there = Store(runs, patience=5)
            there.sync()
        assert json.loads((runs / owner.FILE).read_text())["host"] == "login2"
        with pytest.raises(IndexUnusable, match="login2 has taken over the database"):
            here.sync()
        with elsewhere():
            there.close()
    assert list(runs.glob(".mmctl.owner*")) == []


def test_a_machine_that_crashed_takes_up_its_own(runs: Path) -> None:
    (runs / owner.FILE).write_text(json.dumps({"host": owner.host(), "boot": "before-the-crash", "pid": 1, "t": 1}))
    with Store(runs, patience=0.1) as store:
        store.sync()
        assert json.loads((runs / owner.FILE).read_text())["boot"] == owner.boot()


def test_a_disk_of_this_machine_needs_no_owner(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "is_network", lambda path: False)
    with Store(runs) as store:
        store.sync()
        assert not (runs / owner.FILE).exists()
