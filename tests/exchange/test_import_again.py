"""Importing a run again: nothing that is here is lost, and what is new at the source arrives."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.fake_runs import finished_run, points, write
from helpers.foreign_files import curve, history, log, mlflow_db, wandb_exit, wandb_run
from mmctl.exchange.bring_in import Imported, Wishes, bring_in
from mmctl.run_folder import trash
from mmctl.run_folder.events import Note
from mmctl.run_folder.journal import append
from mmctl.run_folder.record import read_record
from mmctl.store.store import Store

Mm = Callable[..., Result]
WISHES: Wishes = {"again": False, "damaged": False, "heavy": True, "dry_run": False}
UID = "20261125-080000-digits-s0-abcd"


def bring(paths: Path | list[Path], runs: Path, **wishes: bool) -> list[Imported]:
    return bring_in([paths] if isinstance(paths, Path) else paths, runs, WISHES | wishes)  # type: ignore[operator]


def results(paths: Path | list[Path], runs: Path, **wishes: bool) -> list[str]:
    return [one["result"] for one in bring(paths, runs, **wishes)]


def heavy_run(folder: Path) -> Path:
    """A run with a checkpoint and predictions."""
    made = finished_run(folder, UID)
    for name in ("checkpoints/step-000001000/model", "predictions/step-1000"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"heavy")
    return made


def heavy_files(folder: Path) -> list[str]:
    parts = ("checkpoints", "predictions")
    return sorted(
        str(path.relative_to(folder)) for part in parts for path in (folder / part).rglob("*") if path.is_file()
    )


def part(path: Path, steps: range, *more: bytes, id: str = "id", name: str = "run") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log(wandb_run(id, name), *(history(step, loss=1 / step) for step in steps), *more))
    return path


def steps(runs: Path) -> list[list[int]]:
    """The steps of each run."""
    with Store(runs, memory=True) as store:
        store.sync()
        return [[step for step, _ in store.points(run, "loss")] for run in store.runs()]


@pytest.mark.parametrize("links", [True, False])
def test_an_update_keeps_checkpoints_predictions_and_files_put_here(
    tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    source, runs = heavy_run(tmp_path / "from"), tmp_path / "runs"
    assert results(source, runs) == ["imported"]
    (runs / UID / "predictions" / "made-here").write_bytes(b"here")
    (runs / UID / "figure.txt").write_text("mine")
    write(source, 1, points(2000, train__loss=0.1))
    mm("export", UID, "-o", "light.tar", "--no-checkpoints")
    if not links:

        def refuse(*words: object, **more: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    assert results(source, runs, heavy=False) == ["updated"]
    kept = ["checkpoints/step-000001000/model", "predictions/made-here", "predictions/step-1000"]
    assert heavy_files(runs / UID) == kept
    assert (runs / UID / "predictions" / "made-here").read_bytes() == b"here"
    write(source, 1, points(3000, train__loss=0.1))
    assert results(source, runs) == ["updated"]
    assert heavy_files(runs / UID) == kept, "what was made here also stays where the source has others"
    assert (runs / UID / "figure.txt").read_text() == "mine"
    assert trash.thrown(runs) == []


def test_an_update_from_a_run_file_without_checkpoints_keeps_them(
    tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, there = heavy_run(tmp_path / "runs"), tmp_path / "there"
    assert results(source, there) == ["imported"]
    write(source, 1, points(2000, train__loss=0.1))
    assert mm("export", UID, "-o", "light.tar", "--no-checkpoints").code == 0
    assert results(tmp_path / "light.tar", there) == ["updated"]
    assert heavy_files(there / UID) == ["checkpoints/step-000001000/model", "predictions/step-1000"]


def test_notes_and_checkpoints_that_come_later_arrive(tmp_path: Path, mm: Mm) -> None:
    source, there = heavy_run(tmp_path / "runs"), tmp_path / "there"
    assert results(source, there, heavy=False) == ["imported"]
    assert results(source, there, heavy=False) == ["unchanged"]
    assert mm("export", UID, "-o", "all.tar").code == 0
    assert results(tmp_path / "all.tar", there, dry_run=True) == ["updated"]
    assert heavy_files(there / UID) == []
    assert results(tmp_path / "all.tar", there) == ["updated"]
    assert len(heavy_files(there / UID)) == 2
    assert results(source, there) == ["unchanged"]
    append(there / UID, Note(text="said here"))
    assert results(source, there) == ["unchanged"]
    append(source, Note(text="said there"))
    assert results(source, there) == ["updated"]
    assert results(source, there) == ["unchanged"]
    lines = (there / UID / "journal.0.jsonl").read_text()
    assert ("said here" in lines, "said there" in lines) == (True, True)


def test_the_files_of_a_resumed_run_of_wandb_are_one_run(tmp_path: Path) -> None:
    first = part(tmp_path / "wandb" / "offline-run-1-id" / "run-id.wandb", range(1, 6))
    later = [history(step, loss=1 / step) for step in range(6, 12)]
    second = tmp_path / "wandb" / "offline-run-2-id" / "run-id.wandb"
    second.parent.mkdir()
    second.write_bytes(log(wandb_run("id", "run"), *later, wandb_exit()))
    part(tmp_path / "wandb" / "offline-run-3-other" / "run-other.wandb", range(1, 3), id="other")
    for n, paths in enumerate(([tmp_path / "wandb"], [second.parent, first.parent, second])):
        runs = tmp_path / f"runs{n}"
        assert {*results(paths, runs)} == {"imported"}
        assert [*range(1, 12)] in steps(runs)
    # One after the other: the first is updated by both, and the second alone takes nothing away.
    assert results(first, tmp_path / "apart") == ["imported"]
    (one,) = bring(second, tmp_path / "apart")
    assert (one["result"], "--again replaces it" in one["message"]) == ("kept", True)
    assert steps(tmp_path / "apart") == [[1, 2, 3, 4, 5]]
    assert results(first.parent.parent, tmp_path / "apart") == ["updated", "imported"]
    assert [*range(1, 12)] in steps(tmp_path / "apart")


def test_an_older_copy_of_a_finished_run_does_not_make_it_crashed(tmp_path: Path) -> None:
    path, runs = part(tmp_path / "run.wandb", range(1, 6), wandb_exit()), tmp_path / "runs"
    assert results(path, runs) == ["imported"]
    assert results(part(path, range(1, 6)), runs) == ["kept"]
    with Store(runs, memory=True) as store:
        store.sync()
        assert [run["state"] for run in store.runs()] == ["completed"]


def test_another_run_of_the_same_name_does_not_replace_one(tmp_path: Path) -> None:
    """Trackio before run ids knows a run by the names of its file and of itself."""
    for n, count in enumerate((3, 5)):
        (tmp_path / str(n)).mkdir()
        conn = sqlite3.connect(tmp_path / str(n) / "old.db")
        conn.execute("CREATE TABLE metrics (id INTEGER, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)")
        rows = [(s, "2026-01-01T00:00:00", "run-0", s, json.dumps({"loss": s + n})) for s in range(count)]
        conn.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
        conn.commit()
        conn.close()
    assert results(tmp_path / "0" / "old.db", tmp_path / "runs") == ["imported"]
    assert results(tmp_path / "1" / "old.db", tmp_path / "runs") == ["kept"]
    assert steps(tmp_path / "runs") == [[0, 1, 2]]


def test_a_run_that_was_imported_before_first_points_were_kept_is_updated(tmp_path: Path) -> None:
    path, runs = part(tmp_path / "run.wandb", range(1, 6)), tmp_path / "runs"
    (one,) = bring(path, runs)
    record = json.loads((runs / one["uid"] / "run.json").read_text())
    assert record["origin"].pop("first") == {"curve": "loss", "step": 1, "value": "1.0"}
    (runs / one["uid"] / "run.json").write_text(json.dumps(record))
    assert results(part(path, range(1, 9)), runs) == ["updated"]


def test_points_without_steps_are_numbered_and_of_one_step_the_last_stays(tmp_path: Path) -> None:
    conn = sqlite3.connect(path := mlflow_db(tmp_path / "mlflow.db", {"a": "FINISHED"}, steps=0))
    rows = [("loss", float(n), 100 + n, "a", 0, 0) for n in range(7)]
    rows += [("twice", 1.0, 1, "a", 500, 0), ("twice", 2.0, 2, "a", 500, 0)]
    conn.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows[:7])
    conn.commit()
    (one,) = bring(path, tmp_path / "runs")
    assert one["points"] == 7
    assert read_record(tmp_path / "runs" / one["uid"])["total_steps"] == 6
    with Store(tmp_path / "runs", memory=True) as store:
        store.sync()
        assert [run["step"] for run in store.runs()] == [6]
    conn.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows[7:])
    conn.commit()
    conn.close()
    (one,) = bring(path, tmp_path / "runs")
    assert (one["result"], one["points"]) == ("updated", 8)
    with Store(tmp_path / "runs", memory=True) as store:
        store.sync()
        assert store.points(store.runs()[0], "twice") == [(500, 2.0)]


def test_event_files_given_one_by_one_are_the_run_of_their_folder(tmp_path: Path) -> None:
    files = [curve(tmp_path / "run", steps, f"events.out.tfevents.{steps}.box.1.0") for steps in (3, 5)]
    assert results(files, tmp_path / "runs") == ["imported"]
    assert results(files[1], tmp_path / "runs") == ["unchanged"]
    assert results(tmp_path / "run", tmp_path / "runs") == ["unchanged"]


def test_a_source_without_runs_is_said(tmp_path: Path, mm: Mm) -> None:
    empty = mlflow_db(tmp_path / "empty.db", {"a": "FINISHED"})
    conn = sqlite3.connect(empty)
    conn.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
    conn.commit()
    conn.close()
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\nlifecycle_stage: active\nname: Default\n")
    for path in (empty, tmp_path / "mlruns"):
        done = mm("import", path)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"mmctl: {path}: holds no runs (deleted ones do not count).\n"
    some = mm("import", empty, part(tmp_path / "run.wandb", range(1, 3)))
    assert (some.code, "empty.db: holds no runs" in some.err) == (6, True)
    report = json.loads(mm("import", empty, "--json").out)
    assert [one["result"] for one in report["runs"]] == ["failed"]


def test_a_dry_run_writes_no_checkpoints(tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    heavy_run(tmp_path / "runs")
    assert mm("export", "-o", "all.tar").code == 0
    written: list[str] = []

    def leave(folder: str, **words: object) -> None:
        written.extend(str(path) for path in Path(folder).rglob("*") if path.is_file() and path.stat().st_size)

    monkeypatch.setattr("mmctl.exchange.bring_in.shutil.rmtree", leave)
    monkeypatch.setattr("tempfile._rmtree", leave, raising=False)
    monkeypatch.setattr("tempfile.TemporaryDirectory._rmtree", classmethod(lambda cls, name, **words: leave(name)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert results(tmp_path / "all.tar", tmp_path / "there", dry_run=True) == ["imported"]
    assert sorted(Path(name).name for name in written) == ["journal.1.jsonl", "run.json"]


def test_the_trash_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(trash, "thrown", lambda runs: calls.append(runs) or [])
    path = mlflow_db(tmp_path / "m.db", {"a": "FINISHED", "b": "FINISHED", "c": "FINISHED"})
    assert results(path, tmp_path / "runs") == ["imported"] * 3
    assert len(calls) == 1


def test_imported_runs_of_a_shared_folder_are_for_the_group(tmp_path: Path, mm: Mm) -> None:
    heavy_run(tmp_path / "runs")
    assert mm("export", "-o", "all.tar").code == 0
    before = os.umask(0o077)
    try:
        for n, source in enumerate((tmp_path / "runs", tmp_path / "all.tar", part(tmp_path / "a.wandb", range(1, 3)))):
            shared = tmp_path / f"shared{n}"
            shared.mkdir()
            shared.chmod(0o2770)
            if source.is_dir():
                source = source / UID
            assert results(source, shared) == ["imported"]
            (uid,) = [path.name for path in shared.iterdir() if path.name[0] != "."]
            for path in (shared / uid, *(shared / uid).rglob("*")):
                wanted = 0o070 if path.is_dir() else 0o060
                assert path.stat().st_mode & wanted == wanted, path
    finally:
        os.umask(before)


def test_a_file_that_cannot_be_read_leaves_out_its_run_alone(
    tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = heavy_run(tmp_path / "runs"), finished_run(tmp_path / "runs", "20261125-080000-digits-s1-abce")
    opened = os.open

    def refuse(path: str, *words: object, **more: object) -> int:
        if str(path) == str(bad / "checkpoints" / "step-000001000" / "model"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    exported = mm("export", "-o", "all.tar")
    assert exported.code == 6
    assert f"left out: {bad}/checkpoints/step-000001000/model: cannot be read (Permission denied)." in exported.err
    with tarfile.open("all.tar") as tar:
        assert {name.partition("/")[0] for name in tar.getnames()} >= {good.name}
        assert not [name for name in tar.getnames() if name.startswith(UID)]
    alone = mm("export", UID, "-o", "one.tar")
    assert (alone.code, "model: cannot be read" in alone.err, Path("one.tar").exists()) == (2, True, False)
    found = bring([bad, good], tmp_path / "there")
    assert [one["result"] for one in found] == ["failed", "imported"]
    assert "model: cannot be read (Permission denied)" in found[0]["message"]


def test_a_part_of_a_run_that_cannot_be_listed_is_named(
    tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = heavy_run(tmp_path / "runs")
    scan = os.scandir

    def refuse(path: str = ".") -> object:
        if str(path) == str(run / "checkpoints"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    exported = mm("export", UID, "-o", "all.tar")
    assert (exported.code, f"{run}/checkpoints: cannot be read (Permission denied)" in exported.err) == (2, True)
    (one,) = bring(run, tmp_path / "there")
    assert (one["result"], one["message"]) == ("failed", f"{run}/checkpoints: cannot be read (Permission denied).")


def test_names_that_no_run_file_may_have_are_refused_before_it_is_written(tmp_path: Path, mm: Mm) -> None:
    run = heavy_run(tmp_path / "runs")
    (run / "a\u202eb.txt").write_text("x")
    exported = mm("export", UID, "-o", "all.tar")
    assert (exported.code, "Rename it" in exported.err, "\u202e" in exported.err) == (2, True, False)
    (one,) = bring(run, tmp_path / "there")
    assert (one["result"], "Rename it" in one["message"]) == ("failed", True)
    (run / "a\u202eb.txt").rename(run / "ab.txt")
    assert mm("export", UID, "-o", "all.tar").code == 0
    assert results(tmp_path / "all.tar", tmp_path / "there") == ["imported"]
