"""Finds a missing data folder before torch is imported, so that `mmctl run` reports it in under a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmctl import project
from mmctl.errors import MmctlError
from mmctl.recipe.find import find_recipe
from mmctl.recipe.layers import Layers, merge_sets, read_layers
from mmctl.recipe.list_all import missing_data_folder
from mmctl.recipe.resolve import resolve
from mmctl.registry.index import Index


def check_data_folder(given: str, sets: Sequence[str], index: Index, done: dict[Path, Layers]) -> None:
    """Raise the DataError of a built-in data set whose folder is missing; RecipeError if there is no such recipe.

    Other mistakes are left to `load`, which reports all of them at once. A data set of a plugin may make its folder.
    done: the files that were read, for `load`.
    """
    path = find_recipe(given)
    try:
        layers = merge_sets(read_layers(path, done), sets)
        resolve(layers, index, "recipe", fast=True)
        table = layers.data["dataset"]
        entry = index.find("dataset", table["name"])
        if entry.origin != "mmctl" or missing_data_folder(layers, index) is None:
            return
        read = index.load(entry)
    except MmctlError:
        return
    read(root=project.data_root(table.get("root"), entry.name))
