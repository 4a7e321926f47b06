"""A recipe: one TOML file, its parents and --set become a checked, complete description of a run.

    recipe = mmctl.recipe.load("recipes/digits.toml", sets=["train.steps=30"])
    recipe.train.steps, recipe.data["method"], recipe.build("backbone", known={...})

Reading and checking import the named components and nothing else; `check(..., fast=True)` imports none.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mmctl.crosscheck import missing, policies
from mmctl.errors import MmctlError, PluginError, RecipeError
from mmctl.identity import cell_of, identity
from mmctl.layers import Layers, laid, layers, open_recipe, same_name, settings_of
from mmctl.lines import Path_
from mmctl.params import plain
from mmctl.plugin import Slot
from mmctl.recipe_names import known_recipes
from mmctl.registry import Index, failure
from mmctl.resolve import Part, Resolved, resolve
from mmctl.settings import Average, Centroids, Eval, Optimizer, Schedule, Split, Top, Train

__all__ = ["Recipe", "cell_of", "check", "identity", "known_recipes", "load"]


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
    def name(self) -> str:
        """Display name."""
        return cast(Top, self.resolved.settings["top"]).name

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return cast(Top, self.resolved.settings["top"]).seed

    @property
    def note(self) -> str | None:
        """A sentence for people."""
        return cast(Top, self.resolved.settings["top"]).note

    @property
    def split(self) -> Split:
        """[split]"""
        return cast(Split, self.resolved.settings["split"])

    @property
    def centroids(self) -> Centroids:
        """[centroids]"""
        return cast(Centroids, self.resolved.settings["centroids"])

    @property
    def optimizer(self) -> Optimizer:
        """[optimizer]"""
        return cast(Optimizer, self.resolved.settings["optimizer"])

    @property
    def schedule(self) -> Schedule:
        """[schedule]"""
        return cast(Schedule, self.resolved.settings["schedule"])

    @property
    def average(self) -> Average:
        """[average]"""
        return cast(Average, self.resolved.settings["average"])

    @property
    def train(self) -> Train:
        """[train]"""
        return cast(Train, self.resolved.settings["train"])

    @property
    def eval(self) -> Eval:
        """[eval]"""
        return cast(Eval, self.resolved.settings["eval"])

    @property
    def published(self) -> dict[str, Any] | None:
        """[published], if there is one."""
        return self.data.get("published")

    @property
    def dataset_root(self) -> str | None:
        """The data set's folder as written; project.data_root makes a path of it."""
        return cast("str | None", self.data["dataset"].get("root"))

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
        return policies(self.after)

    @property
    def slots(self) -> dict[str, Slot]:
        """Loss terms of the method with this recipe's weights; `loss` is a name in full."""
        return self.resolved.slots

    @property
    def cell(self) -> str:
        """Short hash of what is computed, seed apart: runs of one cell differ in their seed alone."""
        return cell_of(self.data, self.components())

    def with_(self, sets: Sequence[str]) -> Recipe:
        """The recipe with further --set words on top."""
        return _made(self.path, (*self.sets, *sets), self.index, laid(self.layers, sets))

    def with_seed(self, seed: int) -> Recipe:
        """The recipe with another seed."""
        return self.with_([f"seed={seed}"])

    def origin(self, path: Path_) -> str:
        """Where a value of `data` was written: `recipes/base.toml:5`, `--set`, or `default`."""
        written = self.layers.origins
        return str(written[path]) if path in written else "default"

    def text(self) -> str:
        """The whole recipe as TOML that needs no other file and loads to the same data."""
        import tomli_w

        return tomli_w.dumps(self.data)

    def wants(self, kind: str, slot: str | None = None) -> set[str]:
        """The names of what mmctl has to supply to a component; empty if the recipe has none there."""
        part = self._part(kind, slot)
        return set(part.shape.supplied) if part else set()

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
        if lacking := missing(views, self.after):
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
                "params": plain(part.params),
            }
            for (kind, slot), part in self.resolved.parts.items()
        ]


def load(given: str | Path, sets: Sequence[str] = (), index: Index | None = None) -> Recipe:
    """A recipe by path or name, with `--set` words over it; RecipeError tells all that is wrong at once."""
    path = open_recipe(given)
    base = layers(path)
    return _made(path, tuple(sets), index or Index(), laid(base, sets) if sets else base)


def check(given: str | Path, sets: Sequence[str] = (), index: Index | None = None, fast: bool = False) -> None:
    """RecipeError if a recipe is wrong; fast: by its text and names alone, importing no component."""
    path = open_recipe(given)
    resolve(laid(layers(path), sets), index or Index(), _stem(path), fast)


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
        if _holds(recipe.data, settings_of(words)) and _stands(recipe, "figures", words):
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
        file = layers(recipe.path if home == recipe.layers.source.label else open_recipe(home))
        there = resolve(laid(file, words), recipe.index, recipe.name).data
    except MmctlError:
        return False  # a part of a recipe computes nothing that a figure could be of
    return cell_of(there) == cell_of(recipe.data)


def _holds(data: Any, settings: Any) -> bool:
    """Whether data has all these settings."""
    if isinstance(settings, dict):
        return isinstance(data, dict) and all(_holds(data.get(key), value) for key, value in settings.items())
    return same_name(data, settings)


def _stem(path: Path) -> str:
    """The name that a file gives to its recipe."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+")[:80] or "recipe"
