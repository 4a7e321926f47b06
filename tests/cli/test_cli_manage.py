"""What a person does with runs, as a person does it: star, rename, archive, stop, rm, restore, gc, query."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.fake_runs import family, finished_run, make_run
from helpers.processes import child, finish
from helpers.run_helpers import tree
from mmctl.errors import EnvironmentFault
from mmctl.run_folder import lease, trash
from mmctl.run_folder.lease import Lease
from mmctl.store.store import Store

Mm = Callable[..., Result]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    family(tmp_path / "runs", 3)
    return tmp_path / "runs"


def listed(mm: Mm, *words: str) -> list[str]:
    return [run["uid"] for run in json.loads(mm("ls", *words, "--json").out)["runs"]]


def test_what_a_user_decides_lives_in_the_run_folder(mm: Mm, runs: Path) -> None:
    assert mm("star", "2", "3").code == 0
    assert mm("star", "3", "--remove").out.endswith(": no star\n")
    assert mm("rename", "2", "wide").out.endswith(": wide\n")
    assert mm("rename", "2", "two words").code == 2
    assert mm("archive", "state:failed").code == 0
    for _ in range(2):
        assert listed(mm, "star:true") == listed(mm, "wide") == listed(mm)[:1]
        assert len(listed(mm)) == 9
        assert len(listed(mm, "--archived")) == 10
        assert len(listed(mm, "archived:true")) == len(listed(mm, "1")) == 1
        (runs / "mmctl.db").unlink()
        assert mm("db", "rebuild").code == 0
    assert mm("db", "check").code == 0
    assert "archived:true" in mm("star", "state:failed").err
    assert mm("archive", "state:failed", "--remove").code == 0
    assert len(listed(mm)) == 10


def test_a_database_of_the_version_before_gets_the_columns_and_reads_again(mm: Mm, runs: Path) -> None:
    mm("star", "1")
    with sqlite3.connect(runs / "mmctl.db") as conn:
        conn.execute("ALTER TABLE runs DROP COLUMN starred")
        conn.execute("ALTER TABLE runs DROP COLUMN archived")
        conn.execute("DELETE FROM _sqlite_migrations WHERE name = 'm004_marks'")
    conn.close()
    assert len(listed(mm, "star:true")) == 1


def test_tags_and_notes_of_several_runs(mm: Mm, runs: Path) -> None:
    assert mm("tag", "state:completed", "kept").out.count(": kept\n") == 9
    assert mm("tag", "2", "3", "two").out.count("two") == 2
    assert len(listed(mm, "tag:two")) == 2
    assert json.loads(mm("tag", "tag:two", "--json").out)["runs"][0]["tags"] == ["kept", "two"]
    assert mm("note", "tag:two", "look").out.count(": look\n") == 2
    assert mm("tag", "tag:none", "x").code == 2


def test_rm_restore_gc(mm: Mm, runs: Path) -> None:
    queued = make_run(runs, "20261126-000000-left-s0-0001", created=1_890_000_000_000)
    before = tree(queued)
    assert "would move" in mm("rm", "state:queued", "--dry-run").out
    assert tree(queued) == before
    assert "moved to the trash" in mm("rm", "state:queued").out
    assert queued.name not in listed(mm)
    assert queued.name in mm("restore").out
    assert mm("restore", "@last").code == 0
    assert {p.name for p in queued.iterdir()} == {"run.json", lease.FILE}
    assert {run["uid"]: run["state"] for run in json.loads(mm("ls", "--json").out)["runs"]}[queued.name] == "queued"
    assert mm("rm", "1", "2").out.count("moved") == 2
    assert mm("gc").code == 2  # it asks, and there is nobody to answer
    assert mm("gc", "--older", "1d", "--yes").err == "nothing to delete\n"
    assert json.loads(mm("gc", "--dry-run", "--json").out)["entries"] == 2
    assert json.loads(mm("gc", "--yes", "--json").out)["entries"] == 2
    assert mm("restore").err == "the trash is empty\n"
    assert mm("gc", "--older", "soon").code == 2
    assert len(listed(mm)) == 9
    assert mm("db", "check").code == 0


def test_one_run_that_cannot_be_moved_does_not_end_the_command(
    mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = [run["uid"] for run in json.loads(mm("ls", "--json").out)["runs"]]
    names, move = uids[:3], trash._rename

    def sometimes(old: Path, new: Path) -> None:
        if names[1] in old.name:
            raise EnvironmentFault(f"{old}: cannot be moved to {new} (Permission denied). Nothing was changed.")
        move(old, new)

    monkeypatch.setattr(trash, "_rename", sometimes)
    done = mm("rm", *names, "--json")
    said = json.loads(done.out)
    assert done.code == 6
    assert [one["uid"] for one in said["moved"]] == [names[0], names[2]]
    assert list(said["left"]) == [names[1]]
    assert not {*listed(mm, "--archived")} & {names[0], names[2]}
    assert mm("rm", names[1]).code == 4
    (runs / names[0]).mkdir()
    done = mm("restore", names[0], names[2], "--json")
    assert (done.code, json.loads(done.out)["restored"]) == (6, [names[2]])
    (runs / names[0]).rmdir()
    mm("rm", names[2])
    entries = trash.thrown(runs)
    with Lease(entries[0].path, train=False):
        done = mm("gc", "--yes", "--json")
    assert (done.code, json.loads(done.out)["deleted"]) == (6, [entries[1].uid])
    assert [one.uid for one in trash.thrown(runs)] == [entries[0].uid]


def test_rm_leaves_live_and_unreadable_runs(mm: Mm, runs: Path) -> None:
    first, second = (runs / uid for uid in listed(mm)[:2])
    (second / "run.json").write_text("[")
    with Lease(first):
        refused = mm("rm", first.name)
        some = mm("rm", "1", "2", "3")
    assert (refused.code, some.code) == (2, 6)
    assert "is running" in refused.err
    assert first.is_dir()
    assert second.is_dir()
    assert "--force" in some.err
    assert mm("rm", second.name, "--force").code == 0
    assert mm("restore", second.name).code == 0


HOLD = """
import signal, sys, time
from pathlib import Path
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.lease import Lease
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
folders = [Path(word) for word in sys.argv[1:]]
from contextlib import ExitStack
with ExitStack() as stack:
    for folder in folders:
        stack.enter_context(Lease(folder))
        journal.append(folder, State(state="running"))
    print("ready", flush=True)
    while not over:
        time.sleep(0.02)
    for folder in folders:
        journal.append(folder, State(state="interrupted", step=5))
"""


def test_stop(mm: Mm, runs: Path) -> None:
    folders = [finished_run(runs, f"live-{n}", end="interrupted") for n in (1, 2)]
    process = child(HOLD, *folders)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert lease.process(folders[0]) == process.pid
    assert mm("stop", "1").code == 2
    alone = mm("stop", "live-1")
    assert alone.code == 2
    assert "live-2: is trained by the same process" in alone.err
    done = mm("stop", "state:running", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"schema_version": 1, "stopped": ["live-1", "live-2"], "running": []}
    assert finish(process)[0] == 0
    assert mm("stop", "state:running").code == 2
    elsewhere = json.loads((folders[0] / lease.FILE).read_text()) | {"boot": "another"}
    (folders[0] / lease.FILE).write_text(json.dumps(elsewhere))
    assert lease.process(folders[0]) is None


def content(runs: Path) -> dict[str, object]:
    """The schema and all rows of the database, but for when a folder was last read, which each command may write."""
    with closing(sqlite3.connect(runs / "mmctl.db")) as conn:
        conn.row_factory = sqlite3.Row
        found: dict[str, object] = {"": [tuple(row) for row in conn.execute("SELECT name, sql FROM sqlite_schema")]}
        for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            rows = [dict(row) for row in conn.execute(f'SELECT * FROM "{name}"')]
            found[name] = [{key: value for key, value in row.items() if key != "folder_ns"} for row in rows]
    return found


def test_query_only_reads(mm: Mm, runs: Path) -> None:
    assert "CREATE TABLE runs" in mm("query").out
    assert mm("query", "SELECT count(*) AS n FROM runs", "--format", "csv").out == "n\n10\n"
    found = json.loads(mm("query", "SELECT uid FROM runs", "-n", "2", "--json").out)
    assert (found["columns"], len(found["rows"]), found["cut"]) == (["uid"], 2, True)
    before = content(runs)
    for sql in (
        "DELETE FROM runs", "PRAGMA user_version = 3", "ATTACH 'x.db' AS x", "VACUUM", "DROP TABLE runs", "BEGIN",
        "CREATE TABLE x (y)", "INSERT INTO tags SELECT 1, 'x'", "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM runs",
        "SELECT nosuch FROM runs", "", "nonsense", "SELECT randomblob(1000000000)",
        "WITH x AS (SELECT 1) UPDATE runs SET name = 'x'", "SELECT * FROM pragma_table_list",
    ):  # fmt: skip
        result = mm("query", sql)
        assert (result.code, result.out) == (2, ""), sql
        assert "Traceback" not in result.err
    assert content(runs) == before
    assert not Path("x.db").exists()
    assert len(listed(mm)) == 10


def test_db_backup_and_vacuum(mm: Mm, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mm("db", "backup", "copy.db").code == 0
    assert mm("db", "backup", "copy.db").code == 2
    with sqlite3.connect("copy.db") as conn:
        assert conn.execute("SELECT count(*) FROM runs").fetchone()[0] == 10
    conn.close()
    assert mm("db", "backup", "nowhere/copy.db").code == 4

    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    with monkeypatch.context() as patch:  # a memory stick
        patch.setattr("mmctl.store.upkeep.os.link", no_links)
        assert mm("db", "backup", "stick.db").code == 0
        assert Path("stick.db").read_bytes() == Path("copy.db").read_bytes()
        assert mm("db", "backup", "stick.db").code == 2
        patch.setattr(Path, "replace", no_links)
        assert mm("db", "backup", "other.db").code == 4
    assert not list(tmp_path.glob("*other.db*"))
    with Store(runs) as store:
        store.sync()
    for folder in list(runs.glob("2*"))[1:]:
        shutil.rmtree(folder)
    found = json.loads(mm("db", "vacuum", "--json").out)
    assert found["after"] < found["before"]
    assert mm("db", "check").code == 0
