"""Readers of files of other programs: what they find is what these programs wrote."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest

from helpers import foreign_files as made
from helpers.foreign_files import FILES, T0, event, field, history, log, scalar, tensor, wandb_exit, wandb_run
from mmctl.exchange import databases, mlflow, tensorboard, trackio, wandb
from mmctl.exchange.foreign import BadSource, ForeignRun
from mmctl.exchange.found import Options, sources
from mmctl.exchange.wire import fields, signed


def rows(run: ForeignRun, name: str) -> list[tuple[int, float]]:
    return [(step, value) for step, value, _ in run.curves[name].rows()]


def only(path: Path, work: Path, damaged: bool = False) -> ForeignRun:
    """The one run below a path, recognised by content."""
    (source,) = sources(path)
    (run,) = source.read(Options(work, damaged))
    assert isinstance(run, ForeignRun)
    return run


def read_log(path: Path, *records: bytes, damaged: bool = False) -> ForeignRun:
    path.write_bytes(log(*records))
    return wandb.read([path], damaged)


def test_event_files_as_tensorboard_wrote_them(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "fixmatch_seed0"
    folder.mkdir(parents=True)
    for path in FILES.glob("events*"):
        shutil.copy(path, folder)
    run = only(tmp_path, tmp_path)
    assert (run.name, run.project, run.state) == ("fixmatch_seed0", "logs", "completed")
    assert [step for step, _ in rows(run, "train/loss")] == list(range(10, 301, 10))
    assert rows(run, "train/loss")[2][1] == pytest.approx(1 / 3)
    assert [value for _, value in rows(run, "test/accuracy")] == pytest.approx([0.7, 0.8, 0.9])
    assert run.config == {"lr": 0.03, "bsize": 64, "opt": "sgd", "f": True}
    assert run.created == 1795925698641
    assert rows(run, "hparam/accuracy")[0][1] == pytest.approx(0.9)
    assert set(run.curves) == {"train/loss", "test/accuracy", "hparam/accuracy"}, "texts are no curves"


def test_a_file_of_wandb_as_wandb_wrote_it(tmp_path: Path) -> None:
    run = only(FILES / "offline.wandb", tmp_path)
    assert (run.id, run.name, run.project, run.host) == ("cifar/fixture1", "fixmatch-1", "cifar", "box")
    assert (run.state, run.note, run.tags, run.more["group"]) == ("completed", "a note", ["base", "two words"], "first")
    assert run.config == {"lr": 0.03, "seed": 1, "optim": {"name": "sgd", "m": 0.9}}
    assert rows(run, "train/loss") == [(10, 1.0), (20, 0.5), (30, 1 / 3)]
    assert rows(run, "nested.a") == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert all(math.isnan(value) for _, value in rows(run, "nan"))
    assert rows(run, "best") == [(30, 0.9)], "what was only set at the end stands at the last step"
    assert set(run.curves) == {"train/loss", "test/accuracy", "nested.a", "nan", "best"}
    assert run.created is not None
    assert abs(run.created / 1000 - 1795927357) < 2


def test_checksum() -> None:
    """The test vectors of RFC 3720, appendix B.4, masked as TFRecord does."""
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        assert made.crc32c(data) == crc
        assert tensorboard.masked(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert tensorboard.masked(b"abc") == ((made.crc32c(b"abc") >> 15 | made.crc32c(b"abc") << 17) + 0xA282EAD8) % 2**32


def test_tensors_of_one_number_are_scalars_and_others_are_none(tmp_path: Path) -> None:
    shape = field(2, field(2, field(1, 1)))
    kinds = {
        "float": field(1, 1) + field(4, struct.pack("<f", 0.5)),
        "floats": field(1, 1) + field(5, struct.pack("<f", 0.5)),
        "double": field(1, 2) + field(4, struct.pack("<d", 0.5)),
        "doubles": field(1, 2) + field(6, struct.pack("<d", 0.5)),
        "int": field(1, 3) + field(7, b"\x05"),
        "long": field(1, 9) + field(10, -5),
        "zero": field(1, 1) + field(2, b""),
        "vector": field(1, 1) + shape + field(4, struct.pack("<f", 0.5)),
        "two": field(1, 1) + field(4, struct.pack("<ff", 0.5, 0.5)),
        "text": field(1, 7) + field(8, b"words"),
    }
    path = made.events(
        tmp_path / "e.tfevents.1", *(event(1, T0 + 1.0, tensor(tag, body)) for tag, body in kinds.items())
    )
    run = tensorboard.read(tmp_path, [path], False)
    values = {name: rows(run, name)[0][1] for name in run.curves}
    assert values == {
        "float": 0.5, "floats": 0.5, "double": 0.5, "doubles": 0.5, "int": 5.0, "long": -5.0, "zero": 0.0
    }  # fmt: skip


def test_a_restart_drops_what_came_after_its_step(tmp_path: Path) -> None:
    first = made.curve(tmp_path, 5)
    start = event(3, T0 + 20.0, field(7, field(1, 1)))
    second = made.events(
        tmp_path / "events.out.tfevents.2.box.1.0", start, event(3, T0 + 21.0, scalar("train/loss", 9.0))
    )
    run = tensorboard.read(tmp_path, [second, first], False)
    assert rows(run, "train/loss") == [(1, 1.0), (2, 0.5), (3, 9.0)]


def test_a_long_record_is_skipped_unread(tmp_path: Path) -> None:
    size = struct.pack("<Q", 2**21)
    crc = struct.pack("<I", tensorboard.masked(size))
    path = made.events(tmp_path / "a.tfevents.1", size + crc + bytes(2**21 + 4), event(1, T0 + 1.0, scalar("x", 1.0)))
    assert rows(tensorboard.read(tmp_path, [path], False), "x") == [(1, 1.0)]


def test_records_over_several_blocks_and_settings_that_change(tmp_path: Path) -> None:
    change = field(5, field(1, field(2, "optim") + field(2, "lr") + field(16, "0.5")) + field(2, field(1, "old")))
    run = read_log(
        tmp_path / "run.wandb",
        wandb_run(old=1, optim={"lr": 0.1, "m": 0.9}, _wandb={"x": 1}), change,
        *(history(s, loss=1 / s, long="x" * 40_000) for s in range(1, 5)),
        field(2, field(1, field(1, "loss") + field(16, "7")) + field(2, field(1, 9))),
        wandb_exit(3),
    )  # fmt: skip
    assert run.config == {"optim": {"lr": 0.5, "m": 0.9}}
    assert rows(run, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25), (9, 7.0)]
    assert (run.state, run.reason) == ("failed", "exit code 3")
    assert run.ended == 1000 * (T0 + 4)


def test_a_record_that_begins_with_an_empty_piece(tmp_path: Path) -> None:
    """Where exactly the header of a piece fits into a block, LevelDB writes a piece without content there."""
    used = 7 + 7 + len(wandb_run()) + 7
    for more in range(-9, 9):
        filler = field(99, "x" * (32768 - used - 13 + more))
        run = read_log(tmp_path / "run.wandb", wandb_run(), filler, history(1, loss=0.5))
        assert rows(run, "loss") == [(1, 0.5)], more


def test_a_run_of_wandb_without_an_end_has_crashed(tmp_path: Path) -> None:
    assert read_log(tmp_path / "run.wandb", wandb_run(), history(1, loss=1.0)).state == "crashed"


def test_wandb_of_an_unknown_version_and_without_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    path.write_bytes(b":W&B\xe1\xbe\x07" + bytes(20))
    with pytest.raises(BadSource, match="version 7"):
        wandb.read([path], False)
    with pytest.raises(BadSource, match="holds no run"):
        read_log(path)


def test_a_database_of_mlflow(tmp_path: Path) -> None:
    path = made.mlflow_db(tmp_path / "mlflow.db", {"a1": "FINISHED", "b2": "FAILED", "c3": "RUNNING", "d4": "KILLED"})
    conn = sqlite3.connect(path)
    conn.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = 'd4'")
    odd = [("odd", 0.0, 1, "a1", 1, 1), ("odd", 1.7976931348623157e308, 2, "a1", 2, 0)]
    free = [("free", float(n), 100 - n, "a1", 0, 0) for n in range(3)]  # logged without steps
    conn.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", odd + free)
    conn.commit()
    conn.close()
    (source,) = sources(path)
    a, b, c = source.read(Options(tmp_path))
    assert isinstance(a, ForeignRun)
    assert isinstance(b, ForeignRun)
    assert isinstance(c, ForeignRun)
    assert (a.id, a.name, a.project, a.note) == ("a1", "run-a1", "cifar", "a note")
    assert [one.state for one in (a, b, c)] == ["completed", "failed", "crashed"]
    assert a.config == {"lr": 0.03, "seed": 0, "model": "wrn"}
    assert rows(a, "train/loss") == [(10, 1.0), (20, 0.5), (30, 1 / 3)]
    assert (a.created, a.ended) == (1000 * T0, 1000 * T0 + 9000)
    assert [made.same(x, y) for (_, x), y in zip(rows(a, "odd"), (math.nan, math.inf), strict=True)] == [True, True]
    assert rows(a, "free") == [(0, 2.0), (1, 1.0), (2, 0.0)], "in the order of their times"


def test_old_tables_of_mlflow(tmp_path: Path) -> None:
    conn = sqlite3.connect(path := tmp_path / "old.db")
    conn.executescript(
        """CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
        CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time INT, end_time INT, experiment_id INTEGER);
        CREATE TABLE metrics (key TEXT, value FLOAT, timestamp INT, run_uuid TEXT);
        INSERT INTO runs VALUES ('a', '', 'FINISHED', 1000, 2000, 7);
        INSERT INTO metrics VALUES ('loss', 2.0, 1, 'a'), ('loss', 1.0, 2, 'a');"""
    )
    conn.close()
    run = only(path, tmp_path)
    assert (rows(run, "loss"), run.project, run.config) == ([(0, 2.0), (1, 1.0)], "", {})


def test_the_folder_of_mlflow(tmp_path: Path) -> None:
    folder = made.mlruns(tmp_path / "mlruns")
    found = [run for source in sources(folder) for run in source.read(Options(tmp_path))]
    a, b = (run for run in found if isinstance(run, ForeignRun))
    assert (a.id, a.name, a.project, a.state, b.state) == ("aa", "run-aa", "it's a long name", "completed", "failed")
    assert (a.config, a.note, a.created) == ({"lr": 0.03}, "a note", 1000 * T0)
    assert rows(a, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert math.isinf(rows(a, "odd")[1][1])


def test_mlruns_that_is_cut_off(tmp_path: Path) -> None:
    folder = made.mlruns(tmp_path / "mlruns")
    loss = folder / "12" / "aa" / "metrics" / "train" / "loss"
    whole = loss.read_text()
    loss.write_text(whole[:-4])
    with pytest.raises(BadSource, match="line 3"):
        list(mlflow.read_folder(folder / "12", False))
    run = next(mlflow.read_folder(folder / "12", True))
    assert len(rows(run, "train/loss")) == 2
    loss.write_text(whole)
    meta = folder / "12" / "aa" / "meta.yaml"
    text = meta.read_text()
    for end in range(len(text) - len("\ntags: []\n")):
        meta.write_text(text[:end])
        with pytest.raises(BadSource, match=r"meta\.yaml"):
            list(mlflow.read_folder(folder / "12", False))


def test_a_database_of_trackio(tmp_path: Path) -> None:
    (source,) = sources(made.trackio_db(tmp_path / "cifar.db", ("r1", "r2")))
    a, b = source.read(Options(tmp_path))
    assert isinstance(a, ForeignRun)
    assert isinstance(b, ForeignRun)
    assert (a.id, a.name, a.project, b.id) == ("cifar/r1", "name-r1", "cifar", "cifar/r2")
    assert a.config == {"lr": 0.03, "seed": 0}
    assert (a.created, a.ended) == (1795925640000, 1795925643000)
    assert rows(a, "train/loss") == [(10, 1.0), (20, 0.5), (30, 1 / 3)]
    assert set(a.curves) == {"train/loss", "nan", "test/accuracy"}
    assert a.more == {"group": "g"}


def test_tables_of_trackio_from_before_run_ids(tmp_path: Path) -> None:
    conn = sqlite3.connect(path := tmp_path / "old.db")
    conn.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INT, metrics TEXT)")
    conn.execute("INSERT INTO metrics VALUES (1, '2026-01-01T00:00:00', 'one', 5, '{\"x\": 1.5}')")
    conn.commit()
    conn.close()
    run = only(path, tmp_path)
    assert (run.id, run.name, rows(run, "x")) == ("old/one", "one", [(5, 1.5)])


def test_a_database_that_is_written_now(tmp_path: Path) -> None:
    """What is in the write-ahead log counts, and the file is not changed."""
    path = made.trackio_db(tmp_path / "cifar.db")
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    row = ["r9", "2026-11-29T04:14:09", "late", 1, '{"x": 1}']
    conn.execute("INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)", row)
    assert [run.name for run in trackio.read(path)] == ["name-r1", "late"]
    conn.close()


def writing(path: Path) -> sqlite3.Connection:
    """A program that has written changes into a database with a rollback journal, without a commit."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA cache_size = 1")  # what does not fit goes to the file
    conn.execute("BEGIN")
    conn.execute("UPDATE metrics SET value = 999")
    assert b"x" * 4000 not in path.read_bytes()
    conn.executemany("INSERT INTO params VALUES (?, ?, 'a1')", [(f"p{n}", "x" * 4000) for n in range(50)])
    assert b"x" * 4000 in path.read_bytes()
    return conn


def test_what_is_not_committed_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "PATIENCE", 0.0)
    conn = writing(path := made.mlflow_db(tmp_path / "mlflow.db"))
    with pytest.raises(BadSource, match="another program is writing to it"):
        sources(path)
    (tmp_path / "killed").mkdir()  # what kill -9 leaves
    for name in ("mlflow.db", "mlflow.db-journal"):
        (tmp_path / "killed" / name).write_bytes((tmp_path / name).read_bytes())
    conn.execute("ROLLBACK")
    conn.close()
    assert [len(run.config) for run in mlflow.read_database(path)] == [3]
    before = {one.name: one.read_bytes() for one in (tmp_path / "killed").iterdir()}
    with pytest.raises(BadSource, match="a program was killed while it wrote"):
        sources(tmp_path / "killed" / "mlflow.db")
    assert {one.name: one.read_bytes() for one in (tmp_path / "killed").iterdir()} == before
    # A write-ahead log that nobody can open here: the file alone would lack what is in the log.
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("UPDATE runs SET status = 'FAILED'")
    (tmp_path / "copy").mkdir()
    for name in ("mlflow.db", "mlflow.db-wal"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    conn.close()
    assert [run.state for run in mlflow.read_database(tmp_path / "copy" / "mlflow.db")] == ["failed"]


def test_state_and_points_of_a_run_are_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.mlflow_db(tmp_path / "mlflow.db", {"a": "RUNNING"})
    conn = sqlite3.connect(path, isolation_level=None, timeout=0)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("UPDATE runs SET name = 'first'")
    describe = mlflow._describe

    def meanwhile(*words: object) -> None:
        describe(*words)  # type: ignore[arg-type]
        conn.execute("UPDATE runs SET status = 'FINISHED'")
        conn.execute("INSERT INTO metrics VALUES ('train/loss', 0.1, 1, 'a', 99, 0)")

    monkeypatch.setattr(mlflow, "_describe", meanwhile)
    (run,) = mlflow.read_database(path)
    assert (run.state, len(run.curves["train/loss"])) == ("crashed", 3)
    conn.close()


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 100] * 6)  # SQLite takes 512 characters
    folder.mkdir(parents=True)
    with pytest.raises(BadSource, match=r"mlflow.db: cannot be read \(unable to open database file\)"):
        sources(made.mlflow_db(tmp_path / "mlflow.db").rename(folder / "mlflow.db"))


def test_views_and_triggers_of_a_database_are_not_used(tmp_path: Path) -> None:
    conn = sqlite3.connect(path := tmp_path / "evil.db")
    conn.execute("CREATE VIEW metrics AS SELECT 1 AS run_name, 2 AS step, 3 AS metrics, 4 AS timestamp")
    conn.close()
    with databases.opened(path) as opened:
        assert databases.tables(opened) == {}
    with pytest.raises(BadSource, match="not a database of MLflow or Trackio"):
        sources(path)


def test_wire_format() -> None:
    body = field(1, 300) + field(2, "a") + field(3, 1.5) + field(4, -7)
    found = dict(fields(body))
    assert (found[1], found[2], found[3], signed(found[4])) == (300, b"a", struct.pack("<d", 1.5), -7)
    for n in range(1, len(body)):
        if n not in (3, 6, 15):
            with pytest.raises(ValueError, match=r"cut off|longer"):
                list(fields(body[:n]))
    with pytest.raises(ValueError, match="kind 3"):
        list(fields(b"\x0b"))


def test_hostile_values_become_plain_ones(tmp_path: Path) -> None:
    run = read_log(
        tmp_path / "run.wandb",
        wandb_run(name="\x1b[31m\ud7ff", big=10**400, deep=json.loads("[" * 30 + "]" * 30)),
        history(-1, loss=1.0), history(2**62, loss=1.0),
        history(1, huge=10**400, true=True, media={"_type": "image", "n": 1}),
    )  # fmt: skip
    assert run.curves == {}
    assert run.strange == 2
    deep = wandb_run(deep=json.loads("[" * 60 + "]" * 60))
    with pytest.raises(BadSource, match="nested too deeply"):
        read_log(tmp_path / "run.wandb", deep)
