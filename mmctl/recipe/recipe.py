"""A recipe: one TOML file, its parents and --set become a checked, complete description of a run.

    recipe = load("recipes/digits.toml", sets=["train.steps=30"])
    recipe.settings.train.steps, recipe.data["method"], recipe.build("backbone", known={...})

Reading and checking import the named components and nothing else; `check_recipe(..., fast=True)` imports none.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmctl.errors import MmctlError, PluginError, RecipeError
from mmctl.identity import config_id_of
from mmctl.plugin import LossTerm
from mmctl.recipe.find import find_recipe
from mmctl.recipe.layers import Layers, merge_sets, parse_sets, read_layers, same_name
from mmctl.recipe.resolve import resolve
from mmctl.recipe.resolved import Part, Resolved, build_order, missing_policies
from mmctl.recipe.settings import Settings
from mmctl.recipe.toml_source import KeyPath
from mmctl.registry.index import Index, failure
from mmctl.registry.parameters import toml_value


@dataclass(frozen=True, eq=False)
class Recipe:
    """A checked recipe; `data` holds every value, defaults written out, component names in full."""

    path: Path
    sets: tuple[str, ...]
    index: Index = field(repr=False)
    layers: Layers = field(repr=False)
    resolved: Resolved = field(repr=False)

    @property
    def source(self) -> str:
        """The file as the user wrote it."""
        return self.layers.source.text

    @property
    def data(self) -> dict[str, Any]:
        """Plain nested data; keys of None are absent."""
        return self.resolved.data

    @property
    def settings(self) -> Settings:
        """The fixed tables: settings.train.steps, settings.split.labels ..."""
        return self.resolved.settings

    @property
    def name(self) -> str:
        """Display name."""
        return self.settings.top.name

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.settings.top.seed

    @property
    def published(self) -> dict[str, Any] | None:
        """[published], if there is one."""
        return self.data.get("published")

    @property
    def dataset_root(self) -> str | None:
        """The data set's folder as written; project.data_root makes a path of it."""
        return self.data["dataset"].get("root")  # type: ignore[no-any-return]

    @property
    def dataset_name(self) -> str:
        """Short name of the data set."""
        return self.resolved.parts["dataset", None].entry.name

    @property
    def method_name(self) -> str:
        """Short name of the method."""
        return self.resolved.parts["method", None].entry.name

    @property
    def labeler_name(self) -> str | None:
        """Short name of the labeler, None if the method uses none."""
        part = self.resolved.parts.get(("labeler", None))
        return part.entry.name if part else None

    @property
    def after(self) -> dict[str, str | None]:
        """Augmentation policy -> the policy that it is applied after."""
        return self.resolved.after

    @property
    def policies(self) -> tuple[str, ...]:
        """Augmentation policies in the order in which they can be built."""
        return build_order(self.after)

    @property
    def slots(self) -> dict[str, LossTerm]:
        """Loss terms of the method with this recipe's weights; `loss` is a name in full."""
        return self.resolved.slots

    @property
    def config_id(self) -> str:
        """Short hash of what is computed, without the seed: runs of one configuration differ only in their seed."""
        return config_id_of(self.data, self.components())

    def with_(self, sets: Sequence[str]) -> Recipe:
        """The recipe with further --set words on top."""
        return _made(self.path, (*self.sets, *sets), self.index, merge_sets(self.layers, sets))

    def with_seed(self, seed: int) -> Recipe:
        """The recipe with another seed."""
        return self.with_([f"seed={seed}"])

    def origin(self, path: KeyPath) -> str:
        """Where a value of `data` was written: `recipes/base.toml:5`, `--set`, or `default`."""
        written = self.layers.origins
        return str(written[path]) if path in written else "default"

    def text(self) -> str:
        """The whole recipe as TOML that needs no other file and loads to the same data."""
        import tomli_w

        return tomli_w.dumps(self.data)

    def build(self, kind: str, slot: str | None = None, known: Mapping[str, Any] | None = None) -> Any:
        """Make one component from what it asks for among `known` and its parameters; None if there is none."""
        part = self._part(kind, slot)
        if part is None:
            return None
        supplied = {name: value for name, value in (known or {}).items() if name in part.shape.supplied}
        try:
            return part.component(**supplied, **copy.deepcopy(part.params))
        except MmctlError:
            raise
        except Exception as error:
            if part.entry.origin == "mmctl" and not isinstance(error, ValueError):
                raise
            raise PluginError(failure(part.entry, error, "cannot be built")) from error

    def _part(self, kind: str, slot: str | None) -> Part | None:
        parts = self.resolved.parts
        if (kind, slot) not in parts and kind in ("loss", "augment"):
            assert slot in (self.slots if kind == "loss" else self.after), f"no {kind} {slot}"
        return parts.get((kind, slot))

    def check_views(self, views: Mapping[str, Sequence[str]]) -> None:
        """RecipeError if a method, once built, shows pictures through a policy that the recipe lacks."""
        if lacking := missing_policies(views, self.after):
            at = self.layers.origin(("method", "name"))
            text = f"method {self.method_name} shows pictures through it; add [augment.{{}}] with a name"
            raise RecipeError([f"{at}: augment.{name}: {text.format(name)}" for name in lacking])

    def components(self) -> list[dict[str, Any]]:
        """What the run was made of, for its record."""
        return [
            {
                "kind": kind,
                "slot": slot,
                "name": part.entry.qualified,
                "origin": part.entry.origin,
                "version": part.entry.version,
                "file": str(part.entry.file) if part.entry.file else None,
                "file_hash": part.entry.sha256,
                "params": toml_value(part.params),
            }
            for (kind, slot), part in self.resolved.parts.items()
        ]


def load(given: str | Path, sets: Sequence[str] = (), index: Index | None = None) -> Recipe:
    """A recipe by path or name, with `--set` words over it; RecipeError tells all that is wrong at once."""
    path = find_recipe(given)
    base = read_layers(path)
    return _made(path, tuple(sets), index or Index(), merge_sets(base, sets) if sets else base)


def check_recipe(given: str | Path, sets: Sequence[str] = (), index: Index | None = None, fast: bool = False) -> None:
    """RecipeError if a recipe is wrong; fast: by its text and names alone, importing no component."""
    path = find_recipe(given)
    resolve(merge_sets(read_layers(path), sets), index or Index(), _stem(path), fast)


def _made(path: Path, sets: tuple[str, ...], index: Index, made: Layers) -> Recipe:
    recipe = Recipe(path, sets, index, made, resolve(made, index, _stem(path)))
    given = recipe.data.pop("published", {})
    figures = given.pop("figures", [])
    if "value" in given and _stands(recipe, "value", ()):
        recipe.data["published"] = given
        return recipe
    for figure in figures:
        words = figure.pop("set")
        # Most figures are of other values, and seeing that is cheaper than to resolve the recipe that they are of.
        if _holds(recipe.data, parse_sets(words)) and _stands(recipe, "figures", words):
            recipe.data["published"] = figure | given | figure
            made.origins |= {("published", key): made.origin(("published", "figures")) for key in figure}
    return recipe


def _stands(recipe: Recipe, key: str, words: Sequence[str]) -> bool:
    """Whether a published figure is of this very recipe: it computes what the file where the figure stands computes.

    key: of the figure in [published]; words: the --set words that the figure is of.
    """
    home = recipe.layers.origin(("published", key)).label
    if home == recipe.layers.source.label and not recipe.sets and not words:
        return True
    try:
        file = read_layers(recipe.path if home == recipe.layers.source.label else find_recipe(home))
        there = resolve(merge_sets(file, words), recipe.index, recipe.name).data
    except MmctlError:
        return False  # a part of a recipe computes nothing that a figure could be of
    return config_id_of(there) == config_id_of(recipe.data)


def _holds(data: Any, settings: Any) -> bool:
    """Whether data has all these settings."""
    if isinstance(settings, dict):
        return isinstance(data, dict) and all(_holds(data.get(key), value) for key, value in settings.items())
    return same_name(data, settings)


def _stem(path: Path) -> str:
    """The name that a file gives to its recipe."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+")[:80] or "recipe"
