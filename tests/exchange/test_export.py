"""`mmctl export`: documented columns, values as they are, whole files or none."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sqlite3
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, finished_run, make_run, points, state, write
from mmctl.exchange import table_files, tables
from mmctl.run_folder.events import Points
from mmctl.store.rows import RunRow
from mmctl.store.store import Store

Mm = Callable[..., Result]
UID = "20261125-080000-digits-s0-abcd"


def table(text: str, tabs: bool = False) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t" if tabs else ","))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run, and one with every odd value."""
    folder = tmp_path / "runs"
    finished_run(folder, UID, created=T0, tags=["a", "b"])
    odd = make_run(folder, "odd", name='odd, "quoted"', seed=1, created=T0 + 1, settings={"method__list": [1, 2]})
    write(odd, 1, attempt(), state("running"), data())
    for step, value in enumerate((math.nan, math.inf, -math.inf, 1e-300, 0.1)):
        write(odd, 1, Points(step=step, values={"test/ema/head/accuracy": value, "x,y": value}))
    write(odd, 1, state("failed", 4, "it \x1b[31mbroke", 3))
    return folder


def test_the_table_of_runs(runs: Path, mm: Mm) -> None:
    first, odd = table(mm("export").out)
    assert list(first)[: len(tables.FACTS)] == list(tables.FACTS)
    assert (first["run"], first["state"], first["tags"], first["seed"]) == (UID, "completed", "a b", "0")
    assert first["created"] == "2026-09-21T14:13:20.000Z"
    assert (first["cfg.optimizer.lr"], first["cfg.split.labels"]) == ("0.03", "40")
    assert first["test/ema/head/accuracy@last"] == "0.9"
    assert (odd["name"], odd["cfg.method.list"], odd["reason"]) == ('odd, "quoted"', "[1,2]", "it \\u001b[31mbroke")
    assert (first["x,y@last"], odd["x,y@last"]) == ("", "0.1")
    rows = [json.loads(line) for line in mm("export", "--format", "jsonl").out.splitlines()]
    assert (rows[1]["cfg.method.list"], rows[1]["seed"], rows[0]["x,y@last"]) == ([1, 2], 1, None)
    assert list(rows[0]) == list(first)


def test_the_table_of_points(runs: Path, mm: Mm) -> None:
    rows = table(mm("export", "seed:1", "-w", "series").out)
    assert [row["value"] for row in rows if row["metric"] == "x,y"] == ["nan", "inf", "-inf", "1e-300", "0.1"]
    assert [row["step"] for row in rows if row["metric"] == "x,y"] == list("01234")
    tabs = table(mm("export", "seed:1", "-w", "series", "--format", "tsv").out, tabs=True)
    assert tabs == rows
    lines = [json.loads(line) for line in mm("export", "seed:1", "-w", "series", "--format", "jsonl").out.splitlines()]
    assert [row["value"] for row in lines if row["metric"] == "x,y"] == [None, "inf", "-inf", 1e-300, 0.1]
    with Store(runs) as store:
        assert len(table(mm("export", "-w", "series").out)) == store.counts()["points"]
    some = table(mm("export", "-w", "series", "-m", "test/accuracy").out)
    assert {(row["run"], row["metric"]) for row in some} == {
        (UID, "test/ema/head/accuracy"), ("odd", "test/ema/head/accuracy")
    }  # fmt: skip
    assert 'no run has "test/acuracy". Did you mean' in mm("export", "-w", "series", "-m", "test/acuracy").err


def test_the_table_of_evaluations(runs: Path, mm: Mm) -> None:
    rows = table(mm("export", "-w", "evaluations").out)
    assert len(rows) == 16
    best = [row for row in rows if (row["weights"], row["predictor"], row["step"]) == ("ema", "head", "1000")]
    assert [row["accuracy"] for row in best] == ["0.9"]
    assert json.loads(best[0]["confusion"])[0] == [90, 5, 3, 2]
    assert best[0]["time"].endswith("Z")
    assert best[0]["n"] == "397"


def test_evaluations_are_read_once_and_every_metric_has_a_column(
    runs: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"e": "evaluation", "step": 5, "split": "test", "t": 1, "metrics": {}}
    names = ("\ud800", 'a"b', "f1")
    lines = [json.dumps(one | {"metrics": {name: n / 4}}) for n, name in enumerate(names)]
    lines.append(json.dumps(one | {"metrics": {"by hand": math.nan, "loss": 0.5}}))  # JSON for Python alone
    with (runs / "odd" / "journal.1.jsonl").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    read: list[str] = []
    evaluations = Store.evaluations
    monkeypatch.setattr(Store, "evaluations", lambda store, run: read.append(run["uid"]) or evaluations(store, run))
    rows = table(mm("export", "-w", "evaluations", "seed:1").out)
    assert [*rows[0]][len(tables.EVALUATIONS) :] == ["\\ud800", 'a"b', "f1", "by hand", "loss"]
    assert [row["f1"] for row in rows] == ["", "", "0.5", ""]
    assert [row["loss"] for row in rows] == ["", "", "", "0.5"]
    assert read == ["odd"]


@pytest.mark.parametrize("what", ["runs", "evaluations", "series"])
def test_a_table_is_of_one_moment(runs: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    make = getattr(tables, f"{what}_table")

    def meanwhile(store: Store, chosen: list[RunRow], *words: object) -> object:
        with sqlite3.connect(store.path) as other:
            other.execute("DELETE FROM runs")
            other.execute("DELETE FROM series")
            other.execute("DELETE FROM evaluations")
        other.close()
        return make(store, chosen, *words)

    before = mm("export", "-w", what).out
    monkeypatch.setattr(tables, f"{what}_table", meanwhile)
    assert mm("export", "-w", what).out == before


def test_parquet_has_typed_columns(runs: Path, mm: Mm) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert mm("export", "-o", "runs.parquet").code == 0
    found = parquet.read_table("runs.parquet")
    kinds = {field.name: str(field.type) for field in found.schema}
    assert (kinds["seed"], kinds["cfg.optimizer.lr"], kinds["starred"], kinds["name"]) == (
        "int64", "double", "bool", "string"
    )  # fmt: skip
    assert found.column("cfg.method.list").to_pylist() == [None, "[1,2]"]
    mm("export", "seed:1", "-o", "points.parquet", "-w", "series")
    values = parquet.read_table("points.parquet").column("value").to_pylist()
    assert (math.isnan(values[0]), values[1:3]) == (True, [math.inf, -math.inf])


def test_parquet_without_pyarrow(runs: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = mm("export", "-o", "runs.parquet")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "Parquet needs pyarrow: pip install 'mmctl[parquet]'" in done.err
    assert not [path for path in Path().iterdir() if "parquet" in path.name]


def test_files_are_whole_and_not_replaced_unasked(runs: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    done = mm("export", "-o", "runs.csv")
    assert done.out.startswith("runs.csv: 2 runs, 2 rows, ")
    assert Path("runs.csv").read_text() == mm("export").out
    assert "runs.csv: exists already. --force replaces it." in mm("export", "-o", "runs.csv").err
    assert mm("export", UID, "-o", "runs.csv", "--force").code == 0
    before = Path("runs.csv").read_text()
    assert before.count("\n") == 2

    def broken(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    full = mm("export", "-o", "runs.csv", "--force")
    assert (full.code, "runs.csv: cannot be written (No space left on device)" in full.err) == (4, True)
    assert Path("runs.csv").read_text() == before
    assert not list(Path().glob(".runs.csv*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "runs.xls"], "its suffix is none of csv, tsv"),
        (["-o", "x/runs.csv"], "there is no folder x"),
        (["-o", "."], "its suffix is none of"),
        (["-o", "folder.csv"], "is not a file"),
        (["--format", "csvv"], 'Did you mean "csv"'),
        (["-w", "serie"], 'Did you mean "series"'),
        (["-w", "folders", "-o", "a.csv"], "whole runs are written as .tar"),
        (["-w", "runs", "-o", "a.tar"], "whole runs are written as .tar"),
        (["-m", "x"], "chooses curves of --what series"),
        (["--json"], "give it a name with -o FILE"),
        (["nothing"], "no run"),
    ],
)
def test_wrong_words(runs: Path, mm: Mm, words: list[str], message: str) -> None:
    Path("folder.csv").mkdir()
    done = mm("export", *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert done.out == ""


def test_json_describes_the_file(runs: Path, mm: Mm) -> None:
    found = json.loads(mm("export", "-o", "a.tsv", "-w", "series", "--json").out)
    assert (found["file"], found["what"], found["format"], found["runs"]) == ("a.tsv", "series", "tsv", 2)
    assert found["rows"] == len(table(Path("a.tsv").read_text(), tabs=True))
    assert found["bytes"] == Path("a.tsv").stat().st_size


def test_archived_runs_are_left_out_unless_asked_for(runs: Path, mm: Mm) -> None:
    mm("archive", "odd")
    assert [row["run"] for row in table(mm("export").out)] == [UID]
    assert len(table(mm("export", "--archived").out)) == 2


def test_an_empty_folder_of_runs_is_a_table_without_rows(mm: Mm) -> None:
    Path("runs").mkdir()
    assert mm("export", "-w", "series").out == "run,metric,step,value\n"
    assert mm("export", "-o", "a.tar").code == 2


def test_memory_does_not_grow_with_the_points(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs", UID)
    write(folder, 1, attempt(), *(points(step, **{f"m{k}": step / 7 for k in range(10)}) for step in range(1000)))
    with Store(tmp_path / "runs") as store:
        store.sync()
        for form in ("csv", "jsonl"):
            tracemalloc.start()
            with Path("points").open("wb") as out:
                made = tables.series_table(store, store.runs())
                assert table_files.write_table(made, form, out) == 10_000
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert Path("points").stat().st_size > 500_000
            assert peak < 300_000, form
