"""A published table as data: rows are methods, columns are data sets with a number of labels, cells have recipes.

table = read_table("table3")
for cell in table.cells(): cell.figure, cell.recipe, cell.sets, cell.lacks
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from mmctl import project
from mmctl.errors import MmctlError, RecipeError, UserError, suggest
from mmctl.recipe.find import find_by_name, is_file, recipe_folders
from mmctl.recipe.layers import Layers, parse_sets, read_layers, same_name
from mmctl.recipe.recipe import Recipe, load
from mmctl.recipe.settings import Positive, Table
from mmctl.recipe.toml_source import Problem, Source, read_toml
from mmctl.registry.index import Index
from mmctl.registry.messages import key_hint
from mmctl.registry.parameters import check_table
from mmctl.registry.static_index import StaticIndex
from mmctl.text import dotted, literal, printable, short_literal

Percent = Annotated[float, Field(ge=0, le=100)]
Sets = Annotated[list[str], Field(description="Values over the recipe's, as `--set` takes them.")]


class Head(Table):
    """The keys at the top of the file."""

    title: str = Field(description="What the table shows.")
    source: str = Field(description="Where it was published.")
    unit: Literal["accuracy %", "error %"] = Field(
        description="Unit of the published numbers; ours are shown in it too."
    )
    metric: str = Field("test/accuracy", description="Our metric that it is compared with.")
    selection: str = Field("unstated", description="How the published numbers' checkpoint was selected.")
    notes: list[str] = Field([], description="Notes printed below the table.")
    set: Sets = []


class Column(Table):
    """A data set with a number of labels."""

    title: str | None = Field(None, description="Its heading; absent = its key.")
    group: str | None = Field(None, description="A heading above neighbouring columns.")
    dataset: str = Field(description="The data set's component.")
    labels: Positive | Literal["all"] = Field(description="Labelled images over all classes.")
    set: Sets = []


class Row(Table):
    """A method: a recipe, or conditions on runs; with neither, only published numbers are shown."""

    title: str | None = Field(None, description="Its name in the table; absent = its key.")
    recipe: str | None = Field(None, description="By path or name; {dataset} and {labels} are the column's.")
    where: list[str] = Field([], description="Filters as for `mmctl ls`, instead of a recipe.")
    source: str | None = Field(None, description="Source of this row, if it differs from the table's.")
    set: Sets = []


class Figure(Table):
    """One cell: the printed number, what is wrong with it, and a recipe of its own if it has one."""

    value: Percent | Literal["nc"] | None = Field(None, description="As printed; nc = not converged.")
    std: Annotated[float, Field(ge=0)] | None = Field(None, description="Its spread, if printed.")
    pasted: str | None = Field(None, description="The cell that this value was copied from by mistake.")
    right: Percent | None = Field(None, description="The correct value.")
    note: str | None = Field(None, description="A note on this number.")
    recipe: str | None = Field(None, description="Another recipe than the row's.")
    set: Sets = []


NONE = Figure.model_validate({})
"""An empty cell."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table; `recipe` is None if something is missing (see `lacks`) or the row has no recipe."""

    row: str
    column: str
    figure: Figure
    given: str | None = None  # the recipe's name, as the file has it
    sets: tuple[str, ...] = ()
    recipe: Recipe | None = field(default=None, repr=False)
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    """What the cells of a table share: many name the same recipe, and all recipes have the same parents."""

    index: Index
    files: dict[Path, Layers] = field(default_factory=dict)
    recipes: dict[tuple[Path, tuple[str, ...]], Recipe] = field(default_factory=dict)


@dataclass(frozen=True)
class TableFile:
    """A checked table."""

    path: Path
    source: Source = field(repr=False)
    head: Head
    columns: dict[str, Column]
    rows: dict[str, Row]
    figures: dict[tuple[str, str], Figure]

    def cells(self, sets: Sequence[str] = (), index: Index | None = None) -> list[Cell]:
        """All cells, row by row, with their recipes; sets: `--set` options for all recipes."""
        known = _Known(index or StaticIndex())
        places = [(row, column) for row in self.rows for column in self.columns]
        found = [self._cell(*place, tuple(sets), known) for place in places]
        if sets and not known.recipes:  # a --set option that no recipe takes is a mistake
            for place in places:
                if (plain := self._cell(*place, (), known).recipe) is not None:
                    plain.with_sets(sets)
        return found

    def _cell(self, row: str, column: str, sets: tuple[str, ...], known: _Known) -> Cell:
        theirs, across = self.columns[column], self.rows[row]
        figure = self.figures.get((row, column), NONE)
        given = figure.recipe or across.recipe
        if given is None:
            return Cell(row, column, figure)
        given = given.replace("{labels}", str(theirs.labels)).replace("{dataset}", theirs.dataset)
        lacks = []
        if (path := find_by_name(given, (self.path.parent, project.root()))) is None:
            lacks.append(f"there is no recipe {given}")
        try:
            known.index.find("dataset", theirs.dataset)
        except MmctlError:
            lacks.append(f"there is no data set component {theirs.dataset}")
        if path is None or lacks:
            return Cell(row, column, figure, given, lacks=tuple(lacks))
        words = (*self.head.set, *theirs.set, *across.set, *figure.set, *sets)
        try:
            words = (*_place(read_layers(path, known.files).data, theirs), *words)
            if (path, words) not in known.recipes:
                known.recipes[path, words] = load(path, words, known.index, known.files)
            return Cell(row, column, figure, given, words, known.recipes[path, words])
        except RecipeError as error:
            return Cell(row, column, figure, given, words, lacks=(f"{given}: {error.problems[0]}",))

    def at(self, *path: str) -> str:
        """File, line and key, for a message."""
        return f"{self.source.label}:{self.source.line(path)}: {dotted(path)}"


def _place(data: Mapping[str, Any], column: Column) -> Iterator[str]:
    """The `--set` options that give a recipe the column's data set and labels, where they differ."""

    def said(table: str, key: str) -> Any:
        return data[table].get(key) if isinstance(data.get(table), dict) else None

    if not same_name(said("dataset", "name"), column.dataset):
        yield f"dataset.name={column.dataset}"
    if said("split", "labels") != column.labels:
        yield f"split.labels={column.labels}"


def command_line_name(path: Path) -> str:
    """A recipe as `mmctl run` takes it: a path in the project, or the name of a shipped recipe."""
    path, root = path.resolve(), project.root().resolve()
    for folder in recipe_folders():
        if folder.resolve() in path.parents and folder.resolve() != root / "recipes":
            return str(path.relative_to(folder.resolve()).with_suffix(""))
    return str(path.relative_to(root)) if root in path.parents else str(path)


def known_tables() -> list[str]:
    """The names of all tables; each can be given without a path."""
    found = ((d, f) for d in recipe_folders() for f in sorted((d / "tables").rglob("*.toml")))
    return list(dict.fromkeys(str(f.relative_to(d / "tables").with_suffix("")) for d, f in found))


def read_table(given: str | Path) -> TableFile:
    """Read a table by path or name; RecipeError lists everything that is wrong."""
    path = Path(given)
    found = path if is_file(path) else find_by_name(f"tables/{given}", ())
    if found is None:
        known = known_tables()
        stem = path.name.removesuffix(".toml")
        hint = suggest(stem, known) + (f" Known: {', '.join(known)}." if known else "")
        raise UserError(f'no table "{printable(str(given)[:80])}", neither as a file nor by name.{hint}')
    return _Reader(found).table()


T = TypeVar("T", bound=Table)


class _Reader:
    """Reads and checks one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.source = path, read_toml(path)
        self.problems: list[Problem] = []

    def say(self, path: tuple[str | int, ...], message: str) -> None:
        names = tuple(str(part) for part in path if not isinstance(part, int))
        self.problems.append(Problem(self.source.label, self.source.line(names), dotted(path), message))

    def table(self) -> TableFile:
        data = self.source.data
        if not {"columns", "rows", "cells"} & data.keys() and {"method", "dataset", "extends"} & data.keys():
            raise RecipeError([f"{self.source.label}: is a recipe, not a table; see it with: mmctl recipe show"])
        inner = ("columns", "rows", "cells")
        for key in data:
            if key not in inner and key not in Head.model_fields:
                self.say((key,), "unknown key" + key_hint(key, "", (*Head.model_fields, *inner), {}))
        head = self.one((), Head, {key: value for key, value in data.items() if key in Head.model_fields})
        columns = {name: self.one(("columns", name), Column, data) for name, data in self.tables("columns")}
        rows = {name: self.one(("rows", name), Row, data) for name, data in self.tables("rows")}
        for key in ("columns", "rows"):
            if not data.get(key):
                self.say((key,), f"is required: [{key}.NAME], one for each")
        for name, row in rows.items():
            if row and row.recipe and row.where:
                self.say(("rows", name, "where"), "cannot be given together with recipe")
        figures: dict[tuple[str, str], Figure | None] = {}
        for name, cells in self.tables("cells"):
            if name not in rows:
                self.say(("cells", name), f"no such row.{suggest(name, rows)}")
            for column, value in cells.items():
                if column not in columns:
                    self.say(("cells", name, column), f"no such column.{suggest(column, columns)}")
                figures[name, column] = self.figure(("cells", name, column), value)
        if self.problems:
            raise RecipeError(map(str, sorted(set(self.problems), key=lambda problem: problem.line)))
        assert head
        return TableFile(self.path, self.source, head, _all(columns), _all(rows), _all(figures))

    def tables(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tables [key.NAME]."""
        outer = self.source.data.get(key, {})
        if not isinstance(outer, dict):
            self.say((key,), f"must be tables, [{key}.NAME] (got {short_literal(outer)})")
            return
        for name, value in outer.items():
            if isinstance(value, dict):
                yield name, value
            else:
                self.say((key, name), f"must be a table, [{dotted((key, name))}] (got {short_literal(value)})")

    def one(self, path: tuple[str, ...], model: type[T], table: Mapping[str, Any]) -> T | None:
        """Check a table with fixed keys."""
        checked, faults = check_table(model, table)
        for at, message in faults:
            self.say((*path, *at), message)
        sets = table.get("set")
        for setting in sets if isinstance(sets, list) else ():
            try:
                parse_sets([str(setting)])
            except RecipeError as error:
                self.say((*path, "set"), f"{literal(setting)}: {error.problems[0].removeprefix('--set: ')}")
        for hole in re.findall(r"\{[^}]*\}?", str(table.get("recipe", ""))):
            if hole not in ("{labels}", "{dataset}"):
                self.say((*path, "recipe"), f"{hole} is not a placeholder; use {{dataset}} or {{labels}}")
        return checked  # type: ignore[return-value]

    def figure(self, path: tuple[str, ...], value: Any) -> Figure | None:
        """A cell: a number, "nc", or a table."""
        if not isinstance(value, dict | float | int | str) or isinstance(value, bool):
            self.say(path, f'must be a number, "nc" or a table (got {short_literal(value)})')
            return None
        figure = self.one(path, Figure, value if isinstance(value, dict) else {"value": value})
        if figure and not isinstance(figure.value, float):
            for key in ("std", "pasted", "right"):
                if getattr(figure, key) is not None:
                    self.say((*path, key), "needs a number in value")
        return figure


def _all(found: Mapping[Any, T | None]) -> dict[Any, T]:
    """The same without None: nothing was wrong."""
    return {key: value for key, value in found.items() if value is not None}
