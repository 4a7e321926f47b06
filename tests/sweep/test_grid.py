"""The grid of a sweep: which values are axes, and which of its cells is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import tiny_project
from mmctl.errors import RecipeError, UserError
from mmctl.sweep.grid import Axis, grid, is_table, parse_axes


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("split.labels=320,400", ("320", "400")),
        ("method.name=a, b", ("a", "b")),
        ("train.steps=5", None),
        ("a=[1,2]", None),
        ("a=[1,2],[3]", ("[1,2]", "[3]")),
        ("a='x,y'", None),
        ('a="x,y",z', ('"x,y"', "z")),
        ("loss={name='brier', weight=1}", None),
        ("launcher.prefix=a,b", None),
    ],
)
def test_commas_outside_of_brackets_and_quotes_make_an_axis(word: str, values: tuple[str, ...] | None) -> None:
    fixed, axes = parse_axes([word])
    assert (fixed, axes) == (([word], []) if values is None else ([], [Axis(word.partition("=")[0], values)]))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a=1,"], "a value is missing"),
        (["a=1,1"], "is there twice"),
        (["a=1,2", "a=3,4"], "has several values already"),
    ],
)
def test_axes_that_are_no_axes(words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_axes(words)


def test_every_combination_is_a_cell(tmp_path: Path) -> None:
    tiny_project.written("supervised")
    made = grid(["tiny.toml"], ["split.labels=15,30", "train.steps=3", "optimizer.lr=0.1,0.2"], [4, 5])
    assert [cell.label for cell in made.cells] == [
        f"tiny split.labels={labels} optimizer.lr={rate}" for labels in (15, 30) for rate in (0.1, 0.2)
    ]
    assert {cell.recipe.settings.train.steps for cell in made.cells} == {3}
    assert [(r.settings.split.labels, r.seed) for r in made.runs([4, 5])] == [
        (labels, seed) for labels in (15, 15, 30, 30) for seed in (4, 5)
    ]
    assert [recipe.seed for recipe in made.runs([])] == [0] * 4


def test_the_first_wrong_cell_is_named(tmp_path: Path) -> None:
    tiny_project.written("supervised")
    with pytest.raises(RecipeError, match=r"^tiny method.name=supervized: "):
        grid(["tiny.toml"], ["method.name=supervised,supervized"])


def test_a_sweep_that_is_much_too_large_is_refused() -> None:
    many = ",".join(map(str, range(1000)))
    with pytest.raises(UserError, match="the most is 100,000"):
        grid(["tiny.toml"], [f"a={many}", f"b={many}"])


def test_a_table_stands_for_the_recipes_of_its_cells(tmp_path: Path) -> None:
    assert is_table("table3")
    assert not is_table("digits")
    Path("mine.toml").write_text(
        'title = "t"\nsource = "s"\nunit = "accuracy %"\n'
        "[columns.few]\ndataset = 'digits'\nlabels = 40\n[columns.more]\ndataset = 'digits'\nlabels = 100\n"
        "[columns.far]\ndataset = 'nowhere'\nlabels = 40\n"
        "[rows.a]\nrecipe = 'digits'\n[rows.again]\nrecipe = 'digits'\n[rows.known]\n"
    )
    assert is_table("mine.toml")
    made = grid(["mine.toml"], ["train.steps=3,5"])
    assert [cell.label for cell in made.cells] == [
        f"mine.toml a/{column} train.steps={steps}" for steps in (3, 5) for column in ("few", "more")
    ]
    assert [cell.recipe.settings.split.labels for cell in made.cells] == [40, 100] * 2
    assert any("a/far train.steps=3: left out: there is no data set component nowhere" in line for line in made.notes)
