"""Finds a missing data folder before torch is imported, so that `mmctl run` reports it in under a second."""

from __future__ import annotations

from collections.abc import Sequence

from mmctl import project
from mmctl.errors import MmctlError
from mmctl.recipe.find import find_recipe
from mmctl.recipe.layers import merge_sets, read_layers
from mmctl.recipe.list_all import missing_data_folder
from mmctl.recipe.resolve import resolve
from mmctl.registry.index import Index


def check_data_folder(given: str, sets: Sequence[str]) -> None:
    """Raise the DataError of a built-in data set whose folder is missing; RecipeError if there is no such recipe.

    Other mistakes are left to `load`, which reports all of them at once. A data set of a plugin may make its folder.
    """
    path, index = find_recipe(given), Index()
    try:
        layers = merge_sets(read_layers(path), sets)
        resolve(layers, index, "recipe", fast=True)
        table = layers.data["dataset"]
        entry = index.find("dataset", table["name"])
        if entry.origin != "mmctl" or missing_data_folder(layers, index) is None:
            return
        read = index.load(entry)
    except MmctlError:
        return
    read(root=project.data_root(table.get("root"), entry.name))
