"""The recipe of a copied component: a shipped recipe that uses the original, with the copy in its place."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from mmctl.errors import MmctlError
from mmctl.recipe.find import known_recipes
from mmctl.recipe.recipe import Recipe, load
from mmctl.registry.parameters import defaults, toml_value
from mmctl.registry.sources import Entry
from mmctl.registry.static_index import StaticIndex
from mmctl.text import dotted, literal

FIRST = ("digits", "digits-mixmatch", "digits-supervised", "ferplus-small")
SLOTS = {"augment": "weak", "loss": "labeled"}
REQUIRED: dict[tuple[str, str], dict[str, Any]] = {
    ("backbone", "timm"): {"model": "resnet18"},
    ("backbone", "torchvision"): {"model": "resnet18"},
    ("augment", "torchvision"): {"policy": "RandAugment"},
    ("dataset", "eurosat"): {"split": "usb"},
}
"""Values of parameters without a default, for components that no shipped recipe uses."""

Table = tuple[tuple[str, str | None], dict[str, Any]]
"""Kind and slot, and the keys of the table."""


def recipe_of(entry: Entry, name: str, marks: dict[str, str]) -> str:
    """The text of a recipe that uses the copy; marks: name of each copied component -> its new name."""
    parent, tables = _parent(entry, marks)
    lines = [f"# {parent} with the {entry.kind} {name}, a copy of {entry.name}."]
    lines += [f"extends = {literal(parent)}", f"name = {literal(name)}"]
    for (kind, slot), table in tables:
        lines += ["", f"[{dotted((kind, slot) if slot else (kind,))}]"]
        lines += [f"{dotted((key,))} = {literal(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def required_of(entry: Entry) -> dict[str, Any]:
    """Values for the parameters of a built-in component that have no default."""
    return REQUIRED.get((entry.kind, entry.name), {})


def _parent(entry: Entry, marks: dict[str, str]) -> tuple[str, list[Table]]:
    """The simplest shipped recipe that uses the component, and the tables in which it is replaced by its copy."""
    index = StaticIndex(sources="off")
    names = [name for name in known_recipes() if name.startswith("digits/")]
    for parent in (*FIRST, *names):
        if parent.startswith("ferplus") and entry.kind != "dataset":
            continue  # needs a download
        try:
            recipe = load(parent, index=index)
        except MmctlError:
            continue  # a fragment, or a recipe of the project that is wrong
        tables = list(_tables(recipe, entry.kind, marks))
        if any(table["name"] == marks[entry.name] for _, table in tables):
            return parent, tables
    slot = SLOTS.get(entry.kind)
    return FIRST[0], [((entry.kind, slot), {"name": marks[entry.name], **required_of(entry)})]


def _tables(recipe: Recipe, kind: str, marks: dict[str, str]) -> Iterator[Table]:
    for (of, slot), part in recipe.resolved.parts.items():
        if of != kind or part.entry.origin != "mmctl" or part.entry.name not in marks:
            continue
        usual = defaults(part.shape.model)
        params = {key: value for key, value in toml_value(part.params).items() if value != usual.get(key)}
        table = {"name": marks[part.entry.name], **params}
        root = inspect.signature(part.component).parameters.get("root")
        if kind == "dataset" and root is not None and root.default is root.empty:
            table["root"] = recipe.dataset_root or f"data/{part.entry.name}"  # the folder of the original
        yield (of, slot), table
