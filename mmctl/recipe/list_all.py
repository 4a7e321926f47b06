"""Lists all recipes for `mmctl recipe list`, without importing components, so that it is fast."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

from mmctl import project
from mmctl.errors import MmctlError, RecipeError
from mmctl.recipe import find
from mmctl.recipe.layers import Layers, read_layers
from mmctl.recipe.resolve import resolve
from mmctl.registry.index import Index
from mmctl.registry.static_index import outline

NEEDED = ("dataset", "backbone", "method")
"""A recipe without one of these is a fragment: other recipes can extend it, but it cannot be run."""


@dataclass(frozen=True)
class ListedRecipe:
    """One recipe of the list."""

    name: str  # as `mmctl run` takes it
    folder: str  # below the recipe folder; "" = directly in it
    shipped: bool  # with mmctl; False = the project's own
    purpose: str
    lacks: tuple[str, ...] = ()  # what a fragment does not name
    labels: int | str | None = None
    steps: int | None = None
    data_missing: str | None = None  # the folder of its data set, if it does not exist
    problem: str | None = None  # the first problem, if there are any


def list_recipes() -> list[ListedRecipe]:
    """All recipes, the project's own first."""
    index, own, done = Index(), project.root() / "recipes", dict[Path, Layers]()
    return [_listed(name, folder != own, file, index, done) for name, (folder, file) in find.recipe_files().items()]


def _listed(name: str, shipped: bool, file: Path, index: Index, done: dict[Path, Layers]) -> ListedRecipe:
    head = (name, name.rpartition("/")[0], shipped, find.purpose(file))
    try:
        layers = read_layers(file, done)
        named = {kind: layers.data[kind].get("name") for kind in NEEDED if isinstance(layers.data.get(kind), dict)}
        if lacks := tuple(kind for kind in NEEDED if named.get(kind) is None):
            return ListedRecipe(*head, lacks=lacks)
        settings = resolve(layers, index, "recipe", fast=True).settings
        missing = missing_data_folder(layers, index)
    except MmctlError as error:
        return ListedRecipe(*head, problem=error.problems[0] if isinstance(error, RecipeError) else str(error))
    return ListedRecipe(*head, labels=settings.split.labels, steps=settings.train.steps, data_missing=missing)


def missing_data_folder(layers: Layers, index: Index) -> str | None:
    """The folder of the data set if it is needed and missing."""
    table = layers.data["dataset"]
    entry = index.find("dataset", table["name"])
    root = project.data_root(table.get("root"), entry.name)
    if (read := outline(entry)) is not None:
        asked = inspect.signature(read).parameters.get("root")
        if asked is None or asked.default is not inspect.Parameter.empty:
            return None
    if root.is_dir():
        return None
    return str(root.relative_to(project.root()) if root.is_relative_to(project.root()) else root)
