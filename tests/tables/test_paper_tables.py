"""The paper's tables: their figures are the paper's, and so are those that recipes publish."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import REPO
from mmctl.recipe.find import known_recipes
from mmctl.recipe.recipe import load
from mmctl.registry.index import Index
from mmctl.tables.spec import known_tables, read_table

Mm = Callable[..., Any]
FILES = sorted((REPO / "recipes" / "tables").glob("*.toml"))

# As the paper's text prints them, row by row; None where it prints a dash.
PAPER: dict[str, dict[str, tuple[Any, ...]]] = {
    "table1": {
        "supervised": (None, None, 20.26, None),
        "pi_model": (53.02, 31.53, 17.41, 39.19),
        "pseudo_label": (49.98, 30.91, 16.21, None),
        "mixup": (47.43, 25.72, 13.15, None),
        "vat": (36.03, 18.68, 11.05, None),
        "mean_teacher": (47.32, 17.32, 10.36, None),
        "ict": (None, None, 7.66, None),
        "mixmatch": (11.80, 7.75, 6.24, 28.88),
        "marginmix": (10.76, 8.33, 6.17, 29.12),
    },
    "table2": {
        "supervised": (None, 12.84, None, None),
        "pi_model": (8.06, 5.57, 17.41, 39.19),
        "vat": (5.63, 18.68, 11.05, None),
        "mean_teacher": (5.65, 3.39, 10.36, None),
        "ict": (3.53, None, 7.66, None),
        "mixmatch": (3.27, 2.89, 10.18, 5.59),
        "marginmix": (3.35, 3.33, 9.85, 5.80),
    },
    "table3": {
        "supervised": ("nc", 37.92, 50.29, 56.78, 63.56, 84.88),
        "barsoum": (None, None, None, None, None, 84.99),
        "mean_teacher": (None, 45.56, 50.84, 58.28, 68.36, None),
        "mixmatch": (45.60, 50.25, 58.35, 70.91, 71.24, None),
        "marginmix": (50.76, 56.75, 60.83, 75.18, 81.25, 85.36),
    },
    "table4": {
        "supervised": ("nc", 26.75, 35.25, 55.66, 85.58),
        "li": (None, None, None, None, 84.13),
        "mean_teacher": ("nc", 28.23, 36.53, 60.36, None),
        "mixmatch": (35.60, 42.25, 60.37, 65.24, None),
        "marginmix": (40.55, 45.75, 66.47, 70.68, 85.36),
    },
    "table5": {
        "baseline": (60.83,),
        "sharpening": (55.35,),
        "unsharpened": (57.29,),
        "margin": (60.44,),
        "margin_again": (60.74,),
        "horizon": (60.68,),
        "unaveraged": (59.85,),
        "nearest": (51.87,),
    },
}


def test_none_is_forgotten() -> None:
    assert [path.stem for path in FILES] == list(PAPER) == known_tables()


@pytest.mark.parametrize("name", PAPER)
def test_every_figure_is_the_papers(name: str) -> None:
    read = read_table(name)
    cells = {(cell.row, cell.column): cell.figure.value for cell in read.cells()}
    printed = {row: tuple(cells[row, column] for column in read.columns) for row in read.rows}
    assert printed == PAPER[name]
    assert read.head.unit == ("error %" if name in ("table1", "table2") else "accuracy %")


def test_cells_that_are_wrong_in_the_paper_say_so() -> None:
    flawed = {
        (name, *place): (figure.pasted, figure.right)
        for name in PAPER
        for place, figure in read_table(name).figures.items()
        if figure.pasted or figure.right
    }
    c10 = "CIFAR-10, 4000 labels, table 1"
    assert flawed == {
        ("table1", "mixmatch", "c10-250"): (None, 11.08),
        ("table2", "supervised", "svhn-4000"): ("SVHN, 1000 labels, Oliver et al. 2018", None),
        ("table2", "pi_model", "svhn-1000"): (None, 8.60),
        ("table2", "pi_model", "stl-1000"): (c10, None),
        ("table2", "pi_model", "stl-5000"): ("CIFAR-100, 10000 labels, table 1", None),
        ("table2", "vat", "svhn-4000"): ("CIFAR-10, 1000 labels, table 1", 4.20),
        ("table2", "vat", "stl-1000"): (c10, None),
        ("table2", "mean_teacher", "stl-1000"): (c10, None),
        ("table2", "ict", "stl-1000"): (c10, None),
    }


def test_what_was_pasted_from_table_1_stands_there() -> None:
    columns = {"CIFAR-10, 1000": 1, "CIFAR-10, 4000": 2, "CIFAR-100, 10000": 3}
    found = 0
    for (row, _), figure in read_table("table2").figures.items():
        if figure.pasted and figure.pasted.endswith("table 1"):
            found += 1
            assert PAPER["table1"][row][columns[figure.pasted.partition(" labels")[0]]] == figure.value
    assert found == 6


@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_that_there_is_resolves(name: str) -> None:
    """With real types. Every cell of a row with a recipe can be run."""
    read, index, tried = read_table(name), Index(), 0
    for cell in read.cells():
        column = read.columns[cell.column]
        assert not cell.lacks
        if cell.recipe:
            tried += 1
            assert load(cell.recipe.path, cell.sets, index).data == cell.recipe.data
            assert (cell.recipe.dataset_name, cell.recipe.settings.split.labels) == (column.dataset, column.labels)
            assert (cell.recipe.data["backbone"]["name"], cell.recipe.settings.train.steps) == (
                "mmctl:wrn_28_2", 1024 * 1024,
            )  # fmt: skip
    assert tried >= 7


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_that_fills_a_cell_publishes_its_figure(name: str) -> None:
    for cell in read_table(name).cells():
        if cell.recipe and (name == "table3" or not cell.sets or cell.row == "marginmix"):
            published = (cell.recipe.published or {}).get("value", None)
            assert published == (None if cell.figure.value == "nc" else cell.figure.value), cell.given


@pytest.mark.parametrize("name", ["table1", "table2", "table4"])
def test_the_methods_of_a_column_have_the_same_data_and_network(name: str) -> None:
    """Those of a method's recipe come from the table's `set`, MarginMix's from recipes of its own."""
    cells = {(cell.row, cell.column): cell.recipe for cell in read_table(name).cells()}
    for (row, column), made in cells.items():
        own = cells["marginmix", column]
        for table in ("dataset", "split", "backbone", "eval"):
            assert made is None or (own and made.data[table] == own.data[table]), (row, column, table)
        if made is not None and own is not None:
            assert made.data["augment"]["weak"] == own.data["augment"]["weak"], (row, column)
            assert made.settings.train.steps == own.settings.train.steps


def test_a_table_is_no_recipe(mm: Mm) -> None:
    assert not [name for name in known_recipes() if "table" in name]
    for command in (("recipe", "validate"), ("recipe", "show"), ("run",)):
        done = mm(*command, REPO / "recipes" / "tables" / "table3.toml")
        assert (done.code, done.out) == (2, "")
        assert "is a table, not a recipe; show it with: mmctl table" in done.err
    assert "table" not in mm("recipe", "validate", "tabel").err
    done = mm("table", REPO / "recipes" / "digits.toml")
    assert (done.code, "is a recipe, not a table" in done.err) == (2, True)


def test_names(mm: Mm, tmp_path: Path) -> None:
    assert mm("table").out.splitlines()[2] == "table3  MarginMix, table 3: FER+, WRN-28-2"
    assert [one["name"] for one in json.loads(mm("table", "--json").out)["tables"]] == list(PAPER)
    done = mm("table", "tabel3")
    assert (done.code, done.out) == (2, "")
    assert 'no table "tabel3"' in done.err
    assert '"table3"' in done.err
    assert mm("table", "nowhere/x.toml").code == 2
    assert mm("table", "x" * 5000).code == 2
    assert not (tmp_path / "runs").exists()
    # From a project without that recipe, the shipped one is named.
    assert "mmctl run ferplus/mixmatch --set split.labels=400 --seeds 0-4" in mm("table", "table3", "--commands").out
