"""mmctl.open: runs, curves and comparisons for notebooks."""

import json
import sys

import pytest

import mmctl
from helpers.fake_runs import finished_run
from mmctl.errors import UserError


def test_rows_curves_and_comparison(tmp_path):
    for seed in (1, 2):
        finished_run(tmp_path, f"r{seed}", seed=seed)
    runs = mmctl.open(str(tmp_path))
    assert [row["seed"] for row in runs.rows()] == [1, 2]
    assert runs.curve("r1", runs.rows()[0]["metric"])
    assert runs.compare()["panels"][0]["configurations"][0]["values"][0]["n"] == 2
    with pytest.raises(UserError, match=r"no such series\. It has: "):
        runs.curve("r1", "nonsense")


def test_names_are_escaped_in_html(tmp_path):
    folder = finished_run(tmp_path, "r1", seed=1)
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"name": "<script>x", "recipe": "<script>x"}))
    shown = mmctl.open(str(tmp_path))._repr_html_()
    assert "<script>" not in shown
    assert "r1" in shown


def test_without_pandas_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        mmctl.open(str(tmp_path)).to_pandas()
