"""mmctl.open: rows, curves and comparisons for notebooks; the example notebook runs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import mmctl
from helpers.fake_runs import family, finished_run
from helpers.html_page import HtmlPage
from helpers.paths import REPO
from mmctl.errors import UserError
from mmctl.notebook import opened
from mmctl.notebook.opened import Curves, Runs
from mmctl.report.summaries import listing


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    family(tmp_path / "runs", 3)
    return mmctl.open(str(tmp_path / "runs"))


def test_rows_curves_and_comparison(runs: Runs) -> None:
    assert [row["seed"] for row in runs.rows("method:mixmatch", "state:completed")] == [0, 1, 2]
    full = runs.curve("2", "test/ema/head/accuracy")
    assert runs.curve("2", "test/accuracy") == full
    assert len(full) == 4
    found = runs.compare("test/accuracy", terms=["method:mixmatch,supervised"], baseline="supervised")
    rows: Any = found["panels"]
    assert [row["values"][0]["n"] for row in rows[0]["configurations"]] == [3, 3]
    assert "against" in rows[0]["configurations"][0]["values"][0]
    curves = runs.curves("test/accuracy", "method:mixmatch")
    assert [len(line.points) for line in curves.chart.lines] == [4]
    assert [line.key for line in curves.chart.lines] == [("config-mixmatch", "d1")]
    assert runs.curves().chart.title.startswith("test/accuracy")
    for wrong in (lambda: runs.curve("2", "nonsense"), lambda: runs.rows("nosuch:1"), lambda: runs.curve("99", "x")):
        with pytest.raises(UserError):
            wrong()


def test_archived_runs_are_hidden(runs: Runs, mm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_RUNS", str(runs.folder))
    before = len(runs.rows())
    assert mm("archive", "1").code == 0
    assert len(runs.rows()) == before - 1
    assert len(runs.rows(archived=True)) == before


def test_a_notebook_shows_tables_and_drawings(runs: Runs) -> None:
    for thing in (runs, runs.rows(), runs.compare(), runs.curves()):
        shown = thing._repr_html_()
        assert "mixmatch" in shown
        HtmlPage(shown)
    assert "no runs" in runs.rows("seed:77")._repr_html_()


def test_names_are_escaped_in_html(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "r1", seed=1)
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"name": "<script>x", "recipe": "<script>x"}))
    made = mmctl.open(str(tmp_path))
    for thing in (made, made.compare(), made.curves()):
        shown = thing._repr_html_()
        assert "<script>" not in shown
        assert "&lt;script&gt;x" in shown


def test_ranges_are_checked(runs: Runs) -> None:
    """What the options of commands exclude is excluded here too, with a message."""
    for wrong, said in (
        (lambda: runs.compare(level=95), "level 95: is not a share"),
        (lambda: runs.compare(level=math.nan), "level nan"),
        (lambda: runs.compare(x="steps", at=-3), "--at -3: is not an amount"),
        (lambda: runs.compare(x="steps", at=math.inf), "--at inf"),
        (lambda: runs.curves(smooth=1.0), "would leave a flat line"),
        (lambda: runs.curves(smooth=-0.1), "--smooth -0.1"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            wrong()


def test_one_string_is_one_term(runs: Runs) -> None:
    assert runs.compare(terms="mixmatch") == runs.compare(terms=["mixmatch"])
    assert runs.compare(by="recipe") == runs.compare(by=["recipe"])
    assert runs.compare(by="recipe, method") == runs.compare(by=["recipe", "method"])


def test_a_drawing_has_its_notes(tmp_path: Path) -> None:
    for n in range(2):
        finished_run(tmp_path, f"r{n}", seed=1)
    curves = mmctl.open(str(tmp_path)).curves()
    assert curves.notes == ["1 run repeats a seed; one run of each seed counts"]
    assert f"<p>{curves.notes[0]}</p>" in curves._repr_html_()
    assert "<p>a &lt;b&gt;</p>" in Curves(curves.chart, ["a <b>", "a <b>"])._repr_html_()
    assert Curves(curves.chart, ["a", "a"])._repr_html_().count("<p>a</p>") == 1


def test_a_folder_lists_only_the_runs_that_it_shows(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []

    def counted(store: Any, chosen: Any) -> Any:
        listed.append(len(chosen))
        return listing(store, chosen)

    monkeypatch.setattr(opened, "NEWEST", 3)
    monkeypatch.setattr(opened, "listing", counted)
    assert "the newest 3 of 10 runs" in runs._repr_html_()
    assert listed == [3]


def test_pandas_if_it_is_there(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    for thing, column, n in ((runs.rows(), "uid", 10), (runs.compare(), "mean", 6), (runs.curves(), "low", 12)):
        frame: Any = thing.to_pandas()  # type: ignore[attr-defined]
        assert isinstance(frame, pandas.DataFrame)
        assert column in frame
        assert len(frame) == n, column
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        runs.to_pandas()


def test_the_example_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, in order, in a project with some runs."""
    family(tmp_path / "runs", 3)
    monkeypatch.chdir(tmp_path)
    book = json.loads((REPO / "docs" / "notebook.ipynb").read_text())
    assert book["nbformat"] == 4
    names: dict[str, Any] = {}
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    for cell in cells:
        exec(compile(cell, "docs/notebook.ipynb", "exec"), names)
    assert all(not cell["outputs"] for cell in book["cells"] if cell["cell_type"] == "code"), "kept without outputs"
