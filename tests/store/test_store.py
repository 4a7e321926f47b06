"""The store: journals in, the same rows out, whatever happened on the way."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_runs import (
    T0,
    attempt,
    checkpoint,
    data,
    evaluation,
    family,
    finished_run,
    make_run,
    points,
    state,
    write,
)
from helpers.paths import TESTS
from helpers.processes import child, finish
from mmctl.errors import EnvironmentFault
from mmctl.run_folder import lease
from mmctl.run_folder.events import Alert, Note, Tag, encode
from mmctl.run_folder.journal import Journal, append, path_of
from mmctl.run_folder.lease import Lease
from mmctl.store import check, connection, importer, schema
from mmctl.store import store as store_module
from mmctl.store.check import database_problems
from mmctl.store.live import live_index
from mmctl.store.metrics import usual_metrics
from mmctl.store.read_curves import evaluated_metrics, last_values
from mmctl.store.select import imported
from mmctl.store.store import Store

UID = "20261125-081501-digits-s0-0001"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def contents(runs: Path) -> dict[str, Any]:
    with Store(runs) as store:
        store.sync()
        return dict(check.contents(store))


def only(runs: Path, uid: str = UID) -> dict[str, Any]:
    with Store(runs) as store:
        store.sync()
        (run,) = [run for run in store.runs() if run["uid"] == uid]
        return run


def curve(runs: Path, name: str = "train/loss") -> list[tuple[int, float]]:
    with Store(runs) as store:
        store.sync()
        return store.points(store.runs()[0], name)


def summary(runs: Path, name: str = "train/loss") -> dict[str, Any]:
    with Store(runs) as store:
        store.sync()
        (row,) = [row for row in store.series(store.runs()[0]) if row["name"] == name]
        return row


def here(n: int = 1, start: int = 0) -> dict[str, Any]:
    return attempt(n, start, host=lease.host(), boot=lease.boot())


def test_a_finished_run(runs: Path) -> None:
    finished_run(runs, UID, final=0.9, tags=["first"])
    with Store(runs) as store:
        store.sync()
        (run,) = store.runs()
        assert (run["state"], run["step"], run["attempt"], run["labeled"], run["number"]) == (
            "completed",
            1000,
            1,
            40,
            1,
        )
        assert (run["data_hash"], run["split_hash"], run["tags"]) == ("d1", "s0", ["first"])
        assert store.data(run)["classes"][0] == "anger"
        assert store.about(run)["config"]["split"]["labels"] == 40
        assert store.configs([run]) == {run["id"]: store.about(run)["config"]}
        assert store.points(run, "test/ema/head/accuracy")[-1] == (1000, 0.9)
        assert [row["path"] for row in store.checkpoints(run)] == ["checkpoints/step-000001000"]
        assert len(store.evaluations(run)) == 16
        assert store.evaluations(run)[-1]["confusion"][0] == [90, 5, 3, 2]
        assert [row["body"]["s"] for row in store.events(run, "state")] == ["running", "completed"]
        assert store.attempts(run)[0]["body"]["threads"] == 1
        assert database_problems(store) == []


def test_importing_twice_changes_nothing(runs: Path) -> None:
    family(runs, 2)
    first = contents(runs)
    assert len(first) == 7
    assert contents(runs) == first


def test_bit_by_bit_equals_all_at_once(runs: Path, tmp_path: Path) -> None:
    finished_run(runs, UID, evaluations=25)
    write(
        runs / UID,
        2,
        here(2, 400),
        state("running"),
        points(440, train__loss=None),
        evaluation(440, 0.7),
        state("failed", 441),
    )
    append(runs / UID, Tag(add=["good"]))
    slow = tmp_path / "slow"
    (slow / UID).mkdir(parents=True)
    shutil.copy(runs / UID / "run.json", slow / UID)
    for n in (1, 2, 0):
        whole = path_of(runs / UID, n).read_bytes()
        for end in range(0, len(whole) + 700, 700):
            path_of(slow / UID, n).write_bytes(whole[:end])  # most of these end in a torn line
            with Store(slow) as store:
                store.sync()
    ours, theirs = contents(runs)[UID], contents(slow)[UID]
    ours[0] = theirs[0] = [value for value in ours[0] if value in theirs[0]]  # the signature is a file time
    assert ours == theirs


def test_rebuild_gives_the_same_answers(runs: Path) -> None:
    family(runs, 2)
    before = contents(runs)
    (runs / connection.FILE).unlink()
    assert contents(runs) == before
    Store.rebuild(runs).close()
    assert contents(runs) == before


@pytest.mark.parametrize("damage", [b"", b"x" * 5000, None, "half", "page"])
def test_a_damaged_database_is_told_and_made_again(runs: Path, damage: bytes | str | None) -> None:
    family(runs, 2)
    before = contents(runs)
    path = runs / connection.FILE
    whole = path.read_bytes()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    elif damage is None:
        path.unlink()
    elif damage == "half":
        path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    else:
        path.write_bytes(whole[:4096] + b"\xff" * 4096 * 8 + whole[4096 * 9 :])
    if damage in (b"", None):
        assert contents(runs) == before
    else:
        with pytest.raises(EnvironmentFault, match="mmctl db rebuild"):
            contents(runs)
        Store.rebuild(runs).close()
        assert contents(runs) == before


def test_a_newer_database_is_made_again(runs: Path) -> None:
    family(runs, 2)
    before = contents(runs)
    conn = sqlite3.connect(runs / connection.FILE)
    conn.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('mmctl', 'm999_later')")
    conn.commit()
    conn.close()
    assert contents(runs) == before
    with Store(runs) as store:
        assert schema.applied(store._conn) == set(schema.MIGRATIONS)
    assert [p.name for p in runs.glob("mmctl.db*")] == [connection.FILE]


def test_a_changed_value_is_found_by_check(runs: Path) -> None:
    finished_run(runs, UID)
    contents(runs)
    conn = sqlite3.connect(runs / connection.FILE)
    conn.execute("UPDATE points SET value = 0.99 WHERE step = 1000")
    conn.commit()
    conn.close()
    with Store(runs) as store:
        assert database_problems(store) == [f"{UID}: differs from its journals"]


def test_a_resumed_run_takes_back_later_points(runs: Path) -> None:
    folder = make_run(runs, UID)
    steps = [points(step, train__loss=float(step)) for step in range(100, 1000, 100)]
    late = Alert(step=850, name="collapse", text="x")
    write(
        folder,
        1,
        attempt(),
        state("running"),
        *steps,
        evaluation(500, 0.5),
        evaluation(900, 0.9),
        checkpoint(500),
        checkpoint(800),
        late,
    )
    assert summary(runs)["max"] == 900
    write(folder, 2, here(2, 500), state("running", 500), points(600, train__loss=0.5), t=T0 + 10**6)
    assert curve(runs) == [(100, 100.0), (200, 200.0), (300, 300.0), (400, 400.0), (500, 500.0), (600, 0.5)]
    row = summary(runs)
    assert (row["n"], row["max"], row["max_step"], row["min"], row["min_step"]) == (6, 500, 500, 0.5, 600)
    assert (row["last"], row["mean20"], row["median20"]) == (0.5, 1500.5 / 6, 250.0)
    with Store(runs) as store:
        (run,) = store.runs()
        assert [row["step"] for row in store.evaluations(run)] == [500]
        assert [row["step"] for row in store.checkpoints(run)] == [500]
        assert store.events(run, "alert") == []
        assert store.attempts(run)[1]["dropped"] == 4 + 6
        assert (run["attempt"], run["step"]) == (2, 600)


def test_an_evaluation_from_outside_is_no_point_of_the_curve_and_ends_with_its_checkpoint(runs: Path) -> None:
    folder = finished_run(runs, UID)
    append(folder, replace(evaluation(1000, 0.5), t=T0 + 10**6))
    assert curve(runs, "test/ema/head/accuracy")[-1] == (1000, 0.9)
    with Store(runs) as store:
        assert store.evaluations(store.runs()[0])[-1]["attempt"] == 0
    write(folder, 2, here(2, 500), state("running"), t=T0 + 2 * 10**6)
    with Store(runs) as store:
        store.sync()
        assert all(row["step"] <= 500 for row in store.evaluations(store.runs()[0]))
    append(folder, replace(evaluation(750, 0.6), t=T0 + 3 * 10**6))
    with Store(runs) as store:
        store.sync()
        assert store.evaluations(store.runs()[0])[-1]["step"] == 750
        assert database_problems(store) == []


def test_an_earlier_attempt_that_grows_late_is_put_in_its_place(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), points(100, train__loss=1.0))
    write(folder, 2, here(2, 100), points(200, train__loss=2.0))
    contents(runs)
    write(folder, 1, points(150, train__loss=9.0), points(50, train__loss=0.5))
    assert curve(runs) == [(50, 0.5), (100, 1.0), (200, 2.0)]


def test_values_that_are_no_numbers(runs: Path) -> None:
    folder = make_run(runs, UID)
    odd = [math.nan, math.inf, 1, True, "text", None, [1], 2.5]
    write(folder, 1, attempt(), *(points(step, train__loss=value) for step, value in enumerate(odd)))
    path = path_of(folder, 1)
    with path.open("ab") as file:
        file.write(b'{"e":"points","t":1,"step":9,"v":{"train/loss":1' + b"0" * 400 + b"}}\n")
    assert [(step, repr(value)) for step, value in curve(runs)] == [
        (0, "nan"), (1, "inf"), (2, "1.0"), (3, "1.0"), (5, "nan"), (7, "2.5"),
    ]  # fmt: skip
    row = summary(runs)
    assert (row["n"], row["nans"], row["first"], row["max"], row["min"], row["median20"]) == (
        6,
        2,
        None,
        math.inf,
        1.0,
        None,
    )


def test_a_tail_of_both_infinities(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), points(1, train__loss=math.inf), points(2, train__loss=-math.inf))
    assert (summary(runs)["mean20"], summary(runs)["median20"]) == (None, None)


def test_tail_is_of_the_last_twenty(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), *(points(step, train__loss=float(step)) for step in range(1, 31)))
    row = summary(runs)
    assert (row["mean20"], row["median20"], row["first"], row["last_step"]) == (20.5, 20.5, 1.0, 30)


@pytest.mark.parametrize(
    "event",
    [
        {"e": "unheard-of", "x": 1},
        {"e": "points"},
        {"e": "points", "step": "5", "v": {"a": 1}},
        {"e": "points", "step": 2**70, "v": {"a": 1}},
        {"e": "points", "step": 1, "v": [1]},
        {"e": "evaluation", "step": 1},
        {"e": "checkpoint"},
        {"e": "pace", "step": 3, "seconds": "x"},
        {"e": "state", "s": 5, "step": "x"},
        {"e": "tag", "add": "x", "remove": [None, 3, {}]},
        {"e": "data", "counts": None},
        {"e": "attempt", "from": None, "t": "yesterday"},
        {"e": "note", "text": "\ud800"},
    ],
)
def test_strange_events_do_no_harm(runs: Path, event: dict[str, Any]) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), points(1, train__loss=1.0))
    with path_of(folder, 1).open("ab") as file:
        file.write(json.dumps({"t": T0, **event}).encode() + b"\n")
    write(folder, 1, points(2, train__loss=2.0))
    assert len(curve(runs)) >= 1
    assert curve(runs)[-1] == (2, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"uid": 5}',
        '{"seed": "x", "created": 1e400, "name": "\\ud800", "tags": 7}',
        '{"seed": 99999999999999999999}',
    ],
)
def test_a_strange_run_json_does_no_harm(runs: Path, text: str) -> None:
    finished_run(runs, UID)
    (runs / "other").mkdir()
    (runs / "other" / "run.json").write_text(text)
    assert UID in contents(runs)


def test_folders_come_and_go(runs: Path, tmp_path: Path) -> None:
    assert contents(runs) == {}
    elsewhere = finished_run(tmp_path / "elsewhere", UID)
    shutil.copytree(elsewhere, runs / UID)
    (runs / "no-run").mkdir()
    (runs / ".hidden").mkdir()
    assert list(contents(runs)) == [UID]
    shutil.rmtree(runs / UID)
    assert contents(runs) == {}
    conn = sqlite3.connect(runs / connection.FILE)
    assert conn.execute("SELECT (SELECT count(*) FROM points) + (SELECT count(*) FROM series)").fetchone() == (0,)
    conn.close()


def test_a_run_put_anew_under_an_old_name_is_read_anew(runs: Path) -> None:
    finished_run(runs, UID, evaluations=8)
    contents(runs)
    shutil.rmtree(runs / UID)
    finished_run(runs, UID, evaluations=2, seed=3)
    assert only(runs)["seed"] == 3
    assert len(curve(runs, "test/ema/head/accuracy")) == 2


def test_a_new_attempt_is_seen_although_sizes_are_the_same(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished_run(runs, UID)
    monkeypatch.setattr(importer, "SETTLED", -(10**18))  # trust the folder's time at once
    assert only(runs)["attempt"] == 1
    write(folder, 2, here(2, 500), state("completed", 1000))
    assert only(runs)["attempt"] == 2


def test_without_a_folder_or_the_right_to_write(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "nowhere") as store:
        store.sync()
        assert store.runs() == []
    assert not (tmp_path / "nowhere").exists()
    finished_run(runs, UID)
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
    assert only(runs)["state"] == "completed"
    assert not (runs / connection.FILE).exists()


def test_a_run_whose_process_has_gone_is_crashed(runs: Path) -> None:
    folder = make_run(runs, UID)
    with Lease(folder) as held:
        held.beat(42, 1000, 1.0)
        write(folder, 1, here(), state("running"), points(40, train__loss=1.0))
        assert only(runs)["state"] == "running"
    run = only(runs)
    assert (run["state"], run["reason"]) == ("crashed", "process gone at step 42")
    append(folder, Note(text="oh"))
    assert only(runs)["state"] == "crashed"
    with Lease(folder):
        write(folder, 2, here(2, 40), state("running"))
        assert (only(runs)["state"], only(runs)["reason"]) == ("running", None)
        write(folder, 2, state("completed", 1000))
    assert only(runs)["state"] == "completed"


def test_an_attempt_killed_before_its_first_state_is_crashed(runs: Path) -> None:
    folder = finished_run(runs, UID, end="interrupted")
    assert only(runs)["state"] == "interrupted"
    write(folder, 2, here(2, 500))
    run = only(runs)
    assert (run["state"], run["attempt"], run["step"]) == ("crashed", 2, 500)


def test_a_folder_without_a_journal(runs: Path) -> None:
    folder = make_run(runs, UID)
    assert only(runs)["state"] == "queued"
    with Lease(folder):
        assert only(runs)["state"] == "queued"
    assert only(runs)["state"] == "crashed"


def test_a_machine_that_was_restarted(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(host=lease.host(), boot="another"), state("running"), points(7, train__loss=1.0))
    assert (only(runs)["state"], only(runs)["reason"]) == ("crashed", "machine restarted at step 7")


def test_another_machine_is_judged_by_its_beat_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), state("running"))
    clock = [T0]
    monkeypatch.setattr(store_module.lease, "now", lambda: clock[0])

    def look(beat: int, after: int) -> int | None:
        clock[0] += after * 1000
        content = {"host": "box", "boot": "b", "pid": 1, "beat": beat, "step": 5}
        (folder / "lease").write_text(json.dumps(content))
        run = only(runs)
        assert run["state"] == "running"
        silent: int | None = run["silent"]
        return silent

    assert look(3, 0) is None
    assert look(3, 59) is None
    assert look(3, 31) == 90
    assert look(4, 1) is None
    assert look(4, 10_000) == 10_000


def test_a_state_from_outside(runs: Path) -> None:
    folder = finished_run(runs, UID)
    append(folder, replace(state("nc", 1000, "marked by hand"), t=T0 + 10**6))
    assert (only(runs)["state"], only(runs)["reason"]) == ("nc", "marked by hand")
    write(folder, 2, here(2, 500), state("completed", 1000), t=T0 + 2 * 10**6)
    assert only(runs)["state"] == "completed"


def test_the_journal_keeps_the_database_up_to_date(runs: Path) -> None:
    folder = make_run(runs, UID)
    with Lease(folder), Journal(folder, 1, live_index(folder)) as book:
        book.write(here())
        book.write(state("running"))
        book.write(points(1, train__loss=0.5))
        seen = None
        for _ in range(100):
            threading.Event().wait(0.1)
            with Store(runs) as store:
                seen = store.runs()
            if seen:
                break
        assert seen
        assert seen[0]["state"] == "running"
        book.write(state("completed", 1))
    with Store(runs) as store:
        assert store.runs()[0]["state"] == "completed"


@pytest.mark.slow
def test_eight_processes_on_an_empty_folder(runs: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmctl.run_folder.journal import Journal\n"
        "from mmctl.store.live import live_index\n"
        "from helpers.fake_runs import attempt, make_run, points, state\n"
        "runs, n = Path(sys.argv[1]), sys.argv[2]\n"
        "folder = make_run(runs, 'run-' + n)\n"
        "with Journal(folder, 1, live_index(folder)) as book:\n"
        "    book.write(attempt())\n"
        "    for step in range(2500): book.write(points(step, train__loss=1.0))\n"
        "    book.write(state('completed', 2500))\n"
        "from mmctl.store.store import Store\n"
        "with Store(runs) as store: store.sync()\n"
    )
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n" + code
    others = [child(code, runs, n) for n in range(8)]
    assert [finish(other) for other in others] == [(0, "", "")] * 8
    with Store(runs) as store:
        assert [run["state"] for run in store.runs()] == ["completed"] * 8
        assert store.counts()["points"] == 20_000
        assert database_problems(store) == []


@pytest.mark.slow
def test_two_importers_at_once(runs: Path) -> None:
    family(runs, 3)
    code = (
        "import sys, pathlib; from mmctl.store.store import Store\n"
        "with Store(pathlib.Path(sys.argv[1])) as s: s.sync()\n"
    )
    others = [child(code, runs) for _ in range(4)]
    assert [finish(other) for other in others] == [(0, "", "")] * 4
    with Store(runs) as store:
        assert database_problems(store) == []


def test_a_locked_database_is_waited_for_and_then_told(runs: Path) -> None:
    finished_run(runs, UID)
    contents(runs)
    conn = sqlite3.connect(runs / connection.FILE, isolation_level=None)
    conn.execute("BEGIN IMMEDIATE")
    append(runs / UID, Note(text="x"))
    with Store(runs, patience=0.2) as store, pytest.raises(EnvironmentFault, match="keeps the database locked"):
        store.sync()
    conn.execute("ROLLBACK")
    conn.close()


def test_rebuild_waits_for_those_who_read(runs: Path) -> None:
    finished_run(runs, UID)
    with Store(runs), pytest.raises(EnvironmentFault, match="kept the database open"):
        Store.rebuild(runs, patience=0.1)
    Store.rebuild(runs, patience=0.1).close()


def test_names_that_no_terminal_or_database_likes(runs: Path) -> None:
    make_run(runs, UID, name="a\ud800\x1b[31m", tags=["\udcff"])
    run = only(runs)
    assert run["name"] == "a\\ud800\x1b[31m"
    assert run["tags"] == ["\\udcff"]


def test_a_torn_line_stays_torn_without_costing_anything(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), points(1, train__loss=1.0))
    with path_of(folder, 1).open("ab") as file:
        file.write(encode(points(2, train__loss=2.0))[:-4])
    assert curve(runs) == [(1, 1.0)]
    write(folder, 2, here(2, 1), points(3, train__loss=3.0))
    assert curve(runs) == [(1, 1.0), (3, 3.0)]


def test_what_an_older_attempt_writes_late_does_not_count(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), *(points(step, train__loss=1.0) for step in range(1, 7)))
    write(folder, 2, here(2, 4), points(5, train__loss=2.0), state("interrupted", 5))
    assert curve(runs) == [*((step, 1.0) for step in range(1, 5)), (5, 2.0)]
    write(folder, 1, points(7, train__loss=1.0), state("completed", 7))
    assert curve(runs) == [*((step, 1.0) for step in range(1, 5)), (5, 2.0)]
    assert only(runs)["state"] == "interrupted"


def test_data_event_is_kept_whole(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), data(labeled=80))
    assert only(runs)["labeled"] == 80


def test_kill_is_seen_by_the_next_reader(runs: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mmctl.run_folder.journal import Journal\n"
        "from mmctl.store.live import live_index\n"
        "from mmctl.run_folder.events import Attempt, Points\nfrom mmctl.run_folder.lease import *\n"
        "folder = Path(sys.argv[1])\n"
        "with Lease(folder) as lease, Journal(folder, 1, live_index(folder)) as book:\n"
        "    book.write(Attempt(number=1, start=0, host=host(), boot=boot()))\n"
        "    for step in range(1, 100000):\n"
        "        book.write(Points(step=step, values={'train/loss': 1.0})); time.sleep(0.001)\n"
        "        if step == 1000: print('go', flush=True)\n"
    )
    other = child(code, make_run(runs, UID))
    assert other.stdout
    other.stdout.readline()
    assert only(runs)["state"] == "running"
    # On a loaded machine its writing thread may be late; that it writes at all is what counts here.
    end = time.monotonic() + 60
    while len(curve(runs)) <= 400 and time.monotonic() < end:
        time.sleep(0.05)
    other.kill()
    finish(other)
    run = only(runs)
    assert run["state"] == "crashed"
    assert 400 < run["step"] == len(curve(runs))
    with Store(runs) as store:
        assert database_problems(store) == []


def test_one_unreadable_run_does_not_hide_the_others(runs: Path) -> None:
    finished_run(runs, UID)
    path_of(make_run(runs, "other"), 1).mkdir()
    with Store(runs) as store:
        store.sync()
        assert [(run["uid"], run["state"]) for run in store.runs()] == [(UID, "completed"), ("other", "unreadable")]
        assert "journal.1.jsonl is not a file" in store.unreadable["other"]


@pytest.mark.parametrize("about", [{"config": "text", "published": [1]}, {"config": None, "published": "x"}])
def test_parts_of_a_strange_run_json(runs: Path, about: dict[str, Any]) -> None:
    folder = make_run(runs, UID)
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | about))
    with Store(runs) as store:
        store.sync()
        rows = store.runs()
        assert (store.configs(rows), store.published(rows)) == ({rows[0]["id"]: {}}, {rows[0]["id"]: {}})


def test_a_run_that_ends_while_we_look_is_not_crashed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, here(), state("running"))

    def holder(asked: Path) -> None:
        if path_of(folder, 1).read_bytes().count(b"completed") == 0:
            write(folder, 1, state("completed", 1000))

    monkeypatch.setattr(store_module.lease, "holder", holder)
    assert only(runs)["state"] == "completed"


def test_a_clock_that_was_put_back_changes_nothing(runs: Path) -> None:
    folder = make_run(runs, UID)
    write(folder, 1, attempt(), state("running"), evaluation(500, 0.5), evaluation(900, 0.9), t=T0)
    write(folder, 2, here(2, 500), state("completed", 500), t=T0 - 10**9)
    assert only(runs)["state"] == "completed"
    with Store(runs) as store:
        assert [row["step"] for row in store.evaluations(store.runs()[0])] == [500]


def test_check_is_calm_about_a_run_that_lives(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(runs, "r1")
    write(folder, 1, attempt(), state("running"), data())
    with Lease(folder), Store(runs) as opened:
        opened.sync()
        real = check.contents

        def written_meanwhile(self: Store) -> Any:
            found = list(real(self))
            if not self.memory:
                found = [(uid, [*rows, "more"]) for uid, rows in found]
            return iter(found)

        monkeypatch.setattr(check, "contents", written_meanwhile)
        assert database_problems(opened) == []
    with Store(runs) as opened:
        assert database_problems(opened) == ["r1: differs from its journals"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_database_of_an_older_schema_is_upgraded_silently(
    version: int, runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    family(runs, 2)
    before = contents(runs)
    conn = sqlite3.connect(runs / connection.FILE)
    conn.execute("PRAGMA user_version = 1")
    if version == 1:
        conn.execute("ALTER TABLE runs RENAME COLUMN config_id TO cell")
    conn.execute("ALTER TABLE runs DROP COLUMN precision")
    conn.executemany("DELETE FROM _sqlite_migrations WHERE name = ?", [[m] for m in schema.MIGRATIONS[version:]])
    conn.commit()
    conn.close()
    assert contents(runs) == before
    assert capfd.readouterr().err == ""


DEEP = '{"format": 1, "components": [], "config": ' + '{"a":' * 900 + "1" + "}" * 901


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "[" * 100_000, DEEP], ids=["empty", "text", "list", "open", "deep"]
)
def test_a_record_that_cannot_be_read_is_named_and_hides_no_other_run(runs: Path, text: str) -> None:
    make_run(runs, "r1")
    make_run(runs, "r2")
    with Store(runs) as store:
        store.sync()
        (runs / "r1" / "run.json").write_text(text)
        store.sync()
        assert [(run["uid"], run["state"]) for run in store.runs()] == [("r1", "unreadable"), ("r2", "queued")]
        assert "run.json: not the record of a run" in store.unreadable["r1"]


def test_a_question_about_few_of_many_runs_reads_these_alone(tmp_path: Path) -> None:
    for n in range(3):
        finished_run(tmp_path, f"r{n}")
    with Store(tmp_path) as store:
        store.sync()
        asked: list[str] = []
        store._conn.set_trace_callback(asked.append)
        one = store.runs()[:1]
        asked.clear()
        assert imported(store, one) == set()
        assert usual_metrics(store, one) == ["test/accuracy", "test/balanced_accuracy"]
        assert last_values(store, one)[one[0]["id"]]
        assert evaluated_metrics(store, one)
        store._conn.set_trace_callback(None)
        plans = [row["detail"] for sql in asked for row in store._rows(f"EXPLAIN QUERY PLAN {sql}")]
    tables = {"runs", "series", "points", "evaluations", "e"}
    assert not [plan for plan in plans if plan.startswith("SCAN") and plan.split()[1] in tables], plans
    assert len([plan for plan in plans if plan.startswith("SEARCH")]) >= 4
