"""The grid of a sweep: every combination of recipes, values of `--set` options, and seeds.

cells = grid(["digits", "table3"], ["split.labels=40,100", "train.steps=300"], seeds=[0, 1])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import MmctlError, RecipeError, UserError
from mmctl.recipe.find import find_by_name, is_file
from mmctl.recipe.layers import Layers
from mmctl.recipe.recipe import Recipe, load
from mmctl.recipe.toml_source import read_toml
from mmctl.registry.index import Index
from mmctl.tables.spec import known_tables, read_table

MOST = 100_000
"""Runs of one sweep at most."""
OPEN, CLOSE, QUOTES = "[{(", "]})", "\"'"


class Axis(NamedTuple):
    """A setting with several values."""

    key: str
    values: tuple[str, ...]


class Cell(NamedTuple):
    """One combination, without its seeds: what a person calls it, and its recipe."""

    label: str
    recipe: Recipe


@dataclass
class Grid:
    """The cells of a sweep, and what is said about places of tables that have no recipe."""

    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def runs(self, seeds: Sequence[int]) -> list[Recipe]:
        """The recipe of each run; without seeds, with the seed of the recipe."""
        return [r.with_seed(seed) for _, r in self.cells for seed in seeds] if seeds else [r for _, r in self.cells]


def grid(given: Sequence[str], sets: Sequence[str], seeds: Sequence[int] = ()) -> Grid:
    """The cells of a sweep; RecipeError or UserError that names the first wrong one."""
    fixed, axes = parse_axes(sets)
    number = len(given) * max(1, len(seeds))
    for axis in axes:
        number *= len(axis.values)
    if number > MOST:
        raise UserError(f"the sweep would have {number:,} runs or more; the most is {MOST:,}.")
    found, index, done = Grid(), Index(), dict[Path, Layers]()
    for name in given:
        of_table = is_table(name)
        for values in product(*(axis.values for axis in axes)):
            chosen = [f"{axis.key}={value}" for axis, value in zip(axes, values, strict=True)]
            words = [*fixed, *chosen]
            if of_table:
                found.cells += _of_table(name, words, chosen, index, found)
                continue
            label = " ".join([Path(name).stem if name.endswith(".toml") else name, *chosen])
            try:
                found.cells.append(Cell(label, load(name, words, index, done)))
            except RecipeError as error:
                raise RecipeError([f"{label}: {line}" for line in error.problems]) from None
    if not found.cells:
        raise UserError("the sweep has no run.", *found.notes)
    return found


def parse_axes(sets: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The `--set` options with one value, and those with several, separated by commas.

    Commas in brackets, braces and quotes belong to a value: `a=[1,2]` is one list, `a=[1],[2]` are two.
    """
    fixed: list[str] = []
    axes: dict[str, Axis] = {}
    for word in sets:
        key, equals, text = word.partition("=")
        values = tuple(part.strip() for part in split_values(text))
        if len(values) < 2 or not equals or key.strip().partition(".")[0] == "launcher":
            fixed.append(word)
            continue
        if "" in values:
            raise UserError(
                f'--set {word}: a value is missing. Write values as "{key}=1,2", without a comma at the end.'
            )
        if len(set(values)) < len(values):
            raise UserError(f"--set {word}: a value is there twice.")
        if key.strip() in axes:
            raise UserError(f"--set {word}: {key.strip()} has several values already.")
        axes[key.strip()] = Axis(key.strip(), values)
    return fixed, [*axes.values()]


def split_values(text: str) -> Iterator[str]:
    """The parts of a text between commas that are not in brackets or quotes."""
    depth, quote, begin = 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in QUOTES:
            quote = char
        elif char in OPEN:
            depth += 1
        elif char in CLOSE:
            depth -= 1
        elif char == "," and depth <= 0:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]


def is_table(given: str) -> bool:
    """Whether a name or path is that of a table of `mmctl table`, and not of a recipe."""
    if is_file(given):
        try:
            return bool({"rows", "columns"} & read_toml(Path(given)).data.keys())
        except MmctlError:
            return False
    return given in known_tables() and find_by_name(given, ()) is None


def _of_table(name: str, words: list[str], chosen: list[str], index: Index, found: Grid) -> Iterator[Cell]:
    """The cells of a table that have a recipe; those of several places with one recipe, once."""
    seen: set[str] = set()
    for cell in read_table(name).cells(words, index):
        place = " ".join([name, f"{cell.row}/{cell.column}", *chosen])
        if cell.recipe is None:
            found.notes += [f"{place}: left out: {lack}" for lack in cell.lacks[:1]]
        elif cell.recipe.config_id not in seen:
            seen.add(cell.recipe.config_id)
            yield Cell(place, cell.recipe)
