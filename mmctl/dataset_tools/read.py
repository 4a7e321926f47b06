"""Reads the data set of a recipe, or a folder of images as the data set `pictures` does, with all that is damaged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmctl import project
from mmctl.data.images import check_images
from mmctl.image_files.found import Found, find_images
from mmctl.image_files.parts import in_rows, targets_of
from mmctl.plugin import Images
from mmctl.recipe.find import is_file, recipe_folders
from mmctl.recipe.recipe import Recipe, from_data, load

PICTURES = "pictures"
COLUMNS = ("path_column", "label_column", "split_column", "group_column", "delimiter", "classes")


class Target(NamedTuple):
    """A data set that was read: of a recipe, or of a folder."""

    name: str
    root: Path
    images: dict[str, Images]
    found: Found | None  # of own images: their files
    flips: bool | None  # whether the recipe mirrors images; None = there is no recipe
    resize: str  # of own images: as in the recipe
    skips: bool  # whether the recipe leaves damaged images out
    seconds: float  # that reading took


def is_folder(target: str) -> bool:
    """Whether a folder of images is meant: `photos/` is one, `photos` the project's recipe of this name, if any."""
    return Path(target).is_dir() and not is_file(recipe_folders()[0] / f"{target}.toml")


def load_target(target: str, sets: Sequence[str] = ()) -> Recipe:
    """The recipe with this name or path; of a folder, one that reads it as the data set `pictures`."""
    if not is_folder(target):
        return load(target, sets)
    folder = Path(target).absolute()
    made = bare_recipe(folder.name, {"name": PICTURES, "root": str(folder)}, {"name": "small"})
    return made.with_sets(sets) if sets else made


def bare_recipe(name: str, dataset: Mapping[str, object], backbone: Mapping[str, object]) -> Recipe:
    """A recipe that builds a data set or a backbone; the rest is what is cheapest."""
    data: dict[str, Any] = {
        "dataset": dict(dataset), "backbone": dict(backbone), "method": {"name": "supervised"},
        "augment": {"weak": {"name": "flip_crop"}},
    }  # fmt: skip
    return from_data(data, name)


def read_target(target: str, sets: Sequence[str] = ()) -> Target:
    """The data set of a recipe or folder; damaged images of `pictures` are left out and listed.

    sets: changes of the recipe, such as dataset.size=64, for a folder too. DataError if it cannot be read.
    """
    recipe = load_target(target, sets)
    table, name = recipe.data["dataset"], recipe.dataset_name
    own, root = name == PICTURES, project.data_root(recipe.dataset_root, name)
    found = find_files(root, table) if own else None
    start = time.perf_counter()
    images = (recipe.with_sets(["dataset.on_bad=skip"]) if own else recipe).build("dataset", known={"root": root})
    seconds = time.perf_counter() - start
    check_images(images, name)
    flips = any(float(policy.get("flip") or 0) > 0 for policy in recipe.data.get("augment", {}).values())
    skips = own and table.get("on_bad") == "skip"
    return Target(
        name, root, images, found, None if is_folder(target) else flips, str(table.get("resize")), skips, seconds
    )


def find_files(root: Path, table: Mapping[str, Any]) -> Found:
    """The files that the data set `pictures` reads, by its table in a recipe."""
    labels = table.get("labels")
    known = {name: table[name] for name in COLUMNS if table.get(name) is not None}
    return find_images(root, labels=None if labels is None else root / labels, **known)


def unopened(found: Found) -> Images:
    """The training images as `pictures` has them, but with black pixels: no file is opened."""
    files = in_rows(one for one in found.files if one.part in ("train", "unlabeled"))
    pixels = np.broadcast_to(np.uint8(0), (len(files), 1, 1, 1))
    return Images(pixels, targets_of(files, found.classes), found.classes, [one.id for one in files], "")
