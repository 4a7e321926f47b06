"""A table of a project: its runs are of the very recipe, its commands can be run, and faults of its file are told."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_runs import attempt, data, finished_run, make_run, points, state, write
from mmctl.errors import RecipeError
from mmctl.recipe.recipe import load
from mmctl.tables import fill
from mmctl.tables.spec import read_table

Mm = Callable[..., Any]


TABLE = """
title = "Mine"
source = "nowhere"
unit = "error %"

[columns.few]
title = "20"
group = "digits"
dataset = "digits"
labels = 20

[columns.more]
dataset = "digits"
labels = 40

[columns.cifar]
dataset = "imagenet"
labels = 40

[rows.marginmix]
recipe = "digits"
set = ["train.steps=100"]

[rows.mixmatch]
recipe = "digits-mixmatch"

[rows.gone]
recipe = "{dataset}-gone-{labels}"

[rows.theirs]
source = "someone else"

[rows.loose]
where = ["method:mixmatch", "cfg.optimizer.lr<1"]

[cells.marginmix]
few = { value = 10.0, std = 0.5, right = 9.0, note = "misprinted" }
more = "nc"

[cells.mixmatch]
more = 5.25

[cells.theirs]
few = 1.5
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(TABLE)
    return path


def run_of(runs: Path, recipe: str, seed: int, *sets: str, final: float = 0.9, **more: Any) -> Path:
    """A finished run of a real recipe."""
    made = load(recipe, sets)
    number = len(list(runs.glob("*"))) if runs.is_dir() else 0
    uid = f"20261125-08{number:04d}-{made.name}-s{seed}-{number:04x}"
    folder = finished_run(
        runs, uid, final=final, seed=seed, name=made.name, method=made.method_name, config_id=made.config_id,
        total=made.settings.train.steps, labels=int(made.settings.split.labels), **more,
    )  # fmt: skip
    about = json.loads((folder / "run.json").read_text())
    about |= {"config": made.data | {"seed": seed}, "components": made.components(), "labeler": made.labeler_name}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def ours(mm: Mm, path: Path, row: str, column: str, *more: str) -> dict[str, Any] | None:
    found = json.loads(mm("table", path, "--json", *more).out)["cells"]
    return next(cell["ours"] for cell in found if (cell["row"], cell["column"]) == (row, column))


def test_runs_of_the_very_recipe_are_ours(mm: Mm, mine: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed, final in enumerate((0.90, 0.92, 0.97)):
        run_of(runs, "digits-mixmatch", seed, final=final)
    run_of(runs, "digits-mixmatch", 3, "split.labels=20", "train.batch=32")  # another batch is another recipe
    run_of(runs, "digits-mixmatch", 4, "labeler.temperature=0.4")
    run_of(runs, "digits-mixmatch", 5, "optimizer.lr=0.06")
    found = ours(mm, mine, "mixmatch", "more")
    assert found is not None
    assert (found["n"], found["nc"], found["reducer"]) == (3, 0, "last")
    assert found["mean"] == pytest.approx(7.0)
    assert found["std"] == pytest.approx(3.6056, abs=1e-4)
    assert [run["seed"] for run in found["runs"]] == [0, 1, 2]
    assert ours(mm, mine, "mixmatch", "few") is None
    assert ours(mm, mine, "marginmix", "more") is None


def test_settings_that_change_nothing_keep_a_run_in_its_cell(mm: Mm, mine: Path, tmp_path: Path) -> None:
    run_of(tmp_path / "runs", "digits-mixmatch", 0, "train.save_every=7", "dataset.root=elsewhere", "name=x")
    run_of(tmp_path / "runs", "digits-mixmatch", 1, "split.labels=20")
    assert ours(mm, mine, "mixmatch", "more") is not None
    assert ours(mm, mine, "mixmatch", "few") is not None


def test_a_number_may_be_written_without_its_point(mm: Mm, mine: Path, tmp_path: Path) -> None:
    mine.write_text(TABLE.replace('"train.steps=100"', '"train.steps=100", "labeler.temperature=1"'))
    run_of(tmp_path / "runs", "digits", 0, "train.steps=100", "labeler.temperature=1.0")
    assert ours(mm, mine, "marginmix", "more") is not None


def test_nc_is_counted_and_shown(mm: Mm, mine: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed in (0, 1):
        run_of(runs, "digits", seed, "train.steps=100", end="nc")
    run_of(runs, "digits-mixmatch", 0, final=0.9)
    run_of(runs, "digits-mixmatch", 1, end="nc", final=0.1)
    found = ours(mm, mine, "mixmatch", "more")
    assert found is not None
    assert (found["n"], found["nc"], found["mean"]) == (1, 1, pytest.approx(10.0))
    lines = [" ".join(line.split()) for line in mm("table", mine).out.splitlines()]
    assert lines[4:7] == ["marginmix 10.00 \u00b1 0.50[a] nc -", "ours - nc -", "runs 0 2 nc 0"]
    assert lines[7:10] == ["mixmatch - 5.25 -", "ours - 10.00 -", "runs 0 1, 1 nc 0"]


def test_a_run_without_an_evaluation_breaks_nothing(mm: Mm, mine: Path, tmp_path: Path) -> None:
    made = load("digits-mixmatch")
    total = made.settings.train.steps
    folder = make_run(tmp_path / "runs", "20261125-080000-x-s0-0000", config_id=made.config_id, total=total)
    about = json.loads((folder / "run.json").read_text()) | {"config": made.data, "components": made.components()}
    about["labeler"] = made.labeler_name
    (folder / "run.json").write_text(json.dumps(about))
    write(folder, 1, attempt(), state("running"), data(), points(50, train__loss=1.0), state("failed", 50, "x", 3))
    found = ours(mm, mine, "mixmatch", "more")
    assert found is not None
    assert (found["n"], found["mean"], found["counts"]) == (0, None, {"failed": 1})
    assert "1 failed" in mm("table", mine).out


def test_other_data_are_never_averaged_in(mm: Mm, mine: Path, tmp_path: Path) -> None:
    run_of(tmp_path / "runs", "digits-mixmatch", 0, final=0.5, data_hash="old")
    run_of(tmp_path / "runs", "digits-mixmatch", 1, final=0.9, data_hash="new")
    found = ours(mm, mine, "mixmatch", "more")
    assert found is not None
    assert (found["n"], found["mean"], found["data_hash"]) == (1, pytest.approx(10.0), "new")
    assert "there are runs on other data; ours is digits-mixmatch, completed last, without 1 other runs" in mm(
        "table", mine
    ).out.replace("\n", " ")


def test_conditions_in_place_of_a_recipe(mm: Mm, mine: Path, tmp_path: Path) -> None:
    run_of(tmp_path / "runs", "digits-mixmatch", 0, "optimizer.lr=0.3", final=0.8)
    run_of(tmp_path / "runs", "digits-mixmatch", 1, "optimizer.lr=0.2", final=0.9)
    run_of(tmp_path / "runs", "digits-mixmatch", 2, "optimizer.lr=2.0", final=0.7)
    run_of(tmp_path / "runs", "digits", 0)
    found = ours(mm, mine, "loose", "more")
    assert found is not None
    assert (found["n"], found["mean"]) == (1, pytest.approx(10.0)), "the one completed last; never a mean over recipes"
    assert "loose more: 2 recipes fit" in mm("table", mine).out
    for wrong, why in (('"method"', '"method" is not a condition'), ('"methd:x"', 'no field "methd"')):
        mine.write_text(TABLE.replace('"method:mixmatch"', wrong))
        done = mm("table", mine)
        assert (done.code, f"mine.toml:34: rows.loose.where: {why}" in done.err) == (2, True), done.err


def test_the_rule_behind_the_numbers_is_told(mm: Mm, mine: Path, tmp_path: Path) -> None:
    run_of(tmp_path / "runs", "digits-mixmatch", 0)
    assert "ours: 100 - test/accuracy, last evaluation;" in mm("table", mine).out
    run_of(tmp_path / "runs", "digits-mixmatch", 0, "split.labels=20", evaluations=25)
    run_of(tmp_path / "runs", "digits", 0, "split.labels=20", "train.steps=100", evaluations=25)
    out = mm("table", mine).out.replace("\n", " ")
    assert "last evaluation (mixmatch more, loose more)" in out
    assert "median of the last 20 evaluations" in out
    assert "optimistically biased" in mm("table", mine, "-m", "test/accuracy@max").out
    done = mm("table", mine, "-m", "test/nll")
    assert (done.code, "a table is in percent" in done.err) == (2, True)


def test_commands(mm: Mm, mine: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run_of(runs, "digits-mixmatch", 0)
    run_of(runs, "digits-mixmatch", 2, end="nc")
    run_of(runs, "digits-mixmatch", 3, end="failed")
    stopped = run_of(runs, "digits-mixmatch", 4, end="interrupted")
    run_of(runs, "digits-mixmatch", 7, end="interrupted")
    done = mm("table", mine, "--commands", "--seeds", "0-5")
    assert done.out.splitlines() == [
        "# marginmix digits 20",
        "mmctl run digits --set split.labels=20 --set train.steps=100 --seeds 0-5",
        "# marginmix more",
        "mmctl run digits --set train.steps=100 --seeds 0-5",
        "# mixmatch digits 20",
        "mmctl run digits-mixmatch --set split.labels=20 --seeds 0-5",
        "# mixmatch more",
        f"mmctl resume {stopped.name}",
        "mmctl run digits-mixmatch --seeds 1,3,5",
        "# there is no data set component imagenet: cifar (marginmix, mixmatch, gone)",
        "# there is no recipe digits-gone-20: digits 20 (gone)",
        "# there is no recipe digits-gone-40: more (gone)",
        "# there is no recipe imagenet-gone-40: cifar (gone)",
    ]
    told = json.loads(mm("table", mine, "--commands", "--seeds", "0-5", "--json").out)
    assert told["commands"] == done.out.splitlines()
    mine.write_text(TABLE.replace('recipe = "digits"', 'recipe = "digits-mixmatch"'))
    assert mm("table", mine, "--commands", "--seeds", "0,2").out.count("digits-mixmatch --seeds") == 0


@pytest.mark.slow
def test_a_command_runs_and_fills_its_cell(mm: Mm, mine: Path) -> None:
    """Word for word, from the project's folder; in a project of its own the recipe is beside the table."""
    Path("recipes").mkdir()
    Path("recipes/my short.toml").write_text('extends = "digits-supervised"\n')
    mine.write_text(TABLE.replace('"digits"\nset', '"my short"\nset').replace("steps=100", "steps=2"))
    (line,) = [line for line in mm("table", mine, "--commands", "--seeds", "1").out.splitlines() if "'" in line][1:]
    assert line == "mmctl run 'recipes/my short.toml' --set train.steps=2 --seeds 1"
    done = mm(*shlex.split(line)[1:], "--quiet")
    assert done.code == 0, done.err
    found = ours(mm, mine, "marginmix", "more")
    assert found is not None
    assert (found["n"], found["runs"][0]["seed"]) == (1, 1)
    assert "'my short" not in mm("table", mine, "--commands", "--seeds", "1").out.replace("20 ", "")


def test_forms(mm: Mm, mine: Path, tmp_path: Path) -> None:
    for seed, final in ((0, 0.9), (1, 0.92)):
        run_of(tmp_path / "runs", "digits-mixmatch", seed, final=final)
    mine.write_text(TABLE.replace('"Mine"', '"50 % & more_"').replace("[rows.theirs]", '[rows.theirs]\ntitle = "a|b"'))
    out = mm("table", mine, "--format", "markdown").out
    assert "| *ours* | - | 9.00 \u00b1 1.41 | - |" in out
    assert r"| a\|b | 1.50 | - | - |" in out
    assert "| marginmix | 10.00 \u00b1 0.50<sup>a</sup> | nc | - |" in out
    assert "- [a] marginmix digits 20: should be 9.00; misprinted" in out
    assert "- a|b: someone else" in out
    out = mm("table", mine, "-f", "latex").out
    assert r"% 50 \% \& more\_, error \%" in out
    assert r" & \multicolumn{1}{c}{digits} &  &  \\" in out
    assert r"\quad ours & - & $9.00 \pm 1.41$ & - \\" in out
    assert r"$10.00 \pm 0.50$\textsuperscript{a}" in out
    assert out.count(r"\begin{tabular}{lrrr}") == out.count(r"\end{tabular}") == 1
    rows = list(csv.DictReader(io.StringIO(mm("table", mine, "-f", "csv").out)))
    assert len(rows) == 5 * 3
    (row,) = (row for row in rows if (row["row"], row["column"]) == ("mixmatch", "more"))
    assert (row["published"], row["n"], row["selection"], float(row["ours"])) == ("5.25", "2", "last", pytest.approx(9))
    shown = json.loads(mm("table", mine, "-f", "json").out)
    assert shown["schema_version"] == 1
    assert shown["cells"][0]["published"] == {
        "value": 10.0, "std": 0.5, "pasted": None, "right": 9.0, "note": "misprinted",
    }  # fmt: skip
    assert (shown["rows"][3]["published_only"], shown["rows"][4]["published_only"]) == (True, False)
    done = mm("table", mine, "-f", "latx")
    assert (done.code, 'Did you mean "latex"' in done.err) == (2, True)


def test_set_on_the_command_line(mm: Mm, mine: Path, tmp_path: Path) -> None:
    run_of(tmp_path / "runs", "digits-mixmatch", 0, "train.batch=32")
    assert ours(mm, mine, "mixmatch", "more") is None
    assert ours(mm, mine, "mixmatch", "more", "--set", "train.batch=32") is not None
    done = mm("table", mine, "--set", "train.bach=32")
    assert (done.code, 'train.bach: unknown key; did you mean "batch"?' in done.err) == (2, True)
    out = mm("table", mine, "--commands", "--set", "loss.margin.weight=1.0").out  # MixMatch has no such term
    assert "mmctl run digits --set train.steps=100 --set loss.margin.weight=1.0" in out
    assert "# digits-mixmatch: --set: loss.margin: method mixmatch has no such loss term" in out


WRONG = """
title = "x"
unit = "error"
sorce = "y"
[columns.a]
dataset = "digits"
labels = 0
set = ["train.steps"]
[columns.b]
dataset = 3
[rows.one]
recipe = "x-{size}"
where = ["seed:1"]
[cells.one]
a = 120
c = "nx"
b = { std = 1.0, pasted = "x" }
[cells.on]
a = true
"""


def test_every_fault_of_a_file_is_told(mm: Mm, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG)
    done = mm("table", path)
    assert done.code == 2
    told = done.err.removeprefix("mmctl: ").splitlines()
    for line in (
        "wrong.toml:1: source: is required",
        'wrong.toml:3: unit: must be one of "accuracy %" or "error %" (got "error"); did you mean "error %"?',
        'wrong.toml:4: sorce: unknown key; did you mean "source" or "set"?',
        'wrong.toml:7: columns.a.labels: must be at least 1 or "all" (got 0)',
        "wrong.toml:10: columns.b.dataset: must be a string in quotes (got 3)",
        "wrong.toml:9: columns.b.labels: is required",
        "wrong.toml:12: rows.one.recipe: {size} is not a placeholder; use {dataset} or {labels}",
        "wrong.toml:13: rows.one.where: cannot be given together with recipe",
        'wrong.toml:15: cells.one.a.value: must be at most 100 or "nc" (got 120)',
        "wrong.toml:16: cells.one.c: no such column.",
        "wrong.toml:17: cells.one.b.std: needs a number in value",
        'wrong.toml:18: cells.on: no such row. Did you mean "one"?',
        'wrong.toml:19: cells.on.a: must be a number, "nc" or a table (got true)',
    ):
        assert line in told, done.err
    assert any("wrong.toml:8: columns.a.set: " in line and "must be KEY=VALUE" in line for line in told)
    assert any("wrong.toml:16: cells.one.c.value: must be a number or" in line and '"nx"' in line for line in told)
    path.write_text('title = "x"\nsource = "y"\nunit = "error %"\nrows = 3\n[columns]\na = 1\n')
    with pytest.raises(RecipeError) as caught:
        read_table(path)
    assert caught.value.problems == (
        "wrong.toml:4: rows: must be tables, [rows.NAME] (got 3)",
        "wrong.toml:6: columns.a: must be a table, [columns.a] (got 1)",
    )
    path.write_text('title = "x"\nsource = "y"\nunit = "error %"\n[rows.a]\n')
    assert "wrong.toml:1: columns: is required: [columns.NAME], one for each" in mm("table", path).err
    path.write_text("title = \n")
    assert mm("table", path).code == 2


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_width_is_kept_and_nothing_is_left_out(mm: Mm, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = mm("table", "table3").out
    assert max(map(len, out.splitlines())) <= columns
    assert "no room" not in out
    words = out.split()
    for figure in ("45.60", "50.25", "58.35", "70.91", "71.24", "85.36[a]"):
        assert words.count(figure) == 1


def test_text_of_a_file_cannot_steer_the_terminal(mm: Mm, mine: Path) -> None:
    mine.write_text(TABLE.replace('"Mine"', '"\\u001b[31m[red]x"').replace('"misprinted"', '"\\u001b]0;t"'))
    for form in ("text", "markdown", "latex", "csv"):
        assert "\x1b" not in mm("table", mine, "-f", form).out, form
    assert "[red]x" in mm("table", mine).out


def test_ranges() -> None:
    assert fill.ranges([4, 0, 1, 2, 7]) == "0-2,4,7"
    assert fill.ranges([3]) == "3"
    assert fill.ranges([]) == ""
