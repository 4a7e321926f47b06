"""A recipe: the checked, complete description of a run, from a TOML file, its parents and --set options.

    recipe = load("recipes/digits.toml", sets=["train.steps=30"])
    recipe.settings.train.steps, recipe.data["method"], recipe.build("backbone", known={...})

Loading a recipe imports the components that it names; `check_recipe(..., fast=True)` imports none.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmctl.errors import MmctlError, PluginError, RecipeError
from mmctl.identity import config_id_of
from mmctl.plugin import LossTerm
from mmctl.recipe.find import find_recipe
from mmctl.recipe.layers import Layers, Origin, merge_sets, parse_sets, read_layers, same_name
from mmctl.recipe.problems import Problems
from mmctl.recipe.resolve import resolve
from mmctl.recipe.resolved import Resolved, build_order
from mmctl.recipe.rules import check_views
from mmctl.recipe.settings import Settings
from mmctl.recipe.toml_source import KeyPath, Source, read_toml
from mmctl.registry.index import Index, failure
from mmctl.registry.parameters import toml_value


@dataclass(frozen=True, eq=False)
class Recipe:
    """A checked recipe; `data` has every value, including defaults, and full component names."""

    path: Path
    sets: tuple[str, ...]
    index: Index = field(repr=False)
    layers: Layers = field(repr=False)
    resolved: Resolved = field(repr=False)

    @property
    def source(self) -> str:
        """The text of the recipe file."""
        return self.layers.source.text

    @property
    def data(self) -> dict[str, Any]:
        """All values as nested TOML data; keys without a value are absent."""
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
        """Seed of all random numbers."""
        return self.settings.top.seed

    @property
    def published(self) -> dict[str, Any] | None:
        """The published result of this recipe, or None."""
        return self.data.get("published")

    @property
    def dataset_root(self) -> str | None:
        """The folder of the data set as in the recipe, or None; project.data_root turns it into a path."""
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
        """Short name of the labeler, or None if the method uses none."""
        part = self.resolved.parts.get(("labeler", None))
        return part.entry.name if part else None

    @property
    def after(self) -> dict[str, str | None]:
        """Augmentation policy -> the policy that is applied before it, or None."""
        return self.resolved.after

    @property
    def policies(self) -> tuple[str, ...]:
        """Augmentation policies in the order in which they must be built."""
        return build_order(self.after)

    @property
    def slots(self) -> dict[str, LossTerm]:
        """Loss terms of the method with the weights of this recipe; `loss` is a full name."""
        return self.resolved.slots

    @property
    def config_id(self) -> str:
        """Short hash of what is computed, without the seed: runs of one configuration differ only in their seed."""
        return config_id_of(self.data, self.components())

    def with_sets(self, sets: Sequence[str]) -> Recipe:
        """The recipe with further --set options; RecipeError if they are wrong."""
        return _recipe(self.path, (*self.sets, *sets), self.index, merge_sets(self.layers, sets))

    def with_seed(self, seed: int) -> Recipe:
        """The recipe with another seed."""
        return self.with_sets([f"seed={seed}"])

    def origin(self, path: KeyPath) -> str:
        """Where a value of `data` comes from: `recipes/base.toml:5`, `--set` or `default`."""
        return str(self.layers.origins.get(path, "default"))

    def text(self) -> str:
        """The complete recipe as TOML without `extends`; it loads to the same data."""
        import tomli_w

        return tomli_w.dumps(self.data)

    def build(self, kind: str, slot: str | None = None, known: Mapping[str, Any] | None = None) -> Any:
        """Build one component from its parameters and the values in `known` that it asks for.

        Returns None if the recipe has no such component; raises PluginError if the component raises.
        """
        part = self.resolved.parts.get((kind, slot))
        if part is None:
            assert slot is None or slot in self.slots, f"no {kind} {slot}"
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

    def who(self, kind: str, slot: str | None = None) -> str:
        """A component of the recipe for messages: `loss plugins:mine`."""
        return f"{kind} {self.resolved.parts[kind, slot].entry.qualified}"

    def check_views(self, views: Mapping[str, Sequence[str]]) -> None:
        """Raise RecipeError if the views of a built method use augmentation policies that the recipe does not have."""
        problems = Problems(self.layers)
        check_views(views, self.after, self.method_name, problems)
        if problems.found:
            raise RecipeError(problems.lines())

    def components(self) -> list[dict[str, Any]]:
        """The components of the recipe, for the record of the run."""
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
            | ({} if part.entry.origin == "mmctl" else {"helpers": self.index.helpers(part.entry)})
            for (kind, slot), part in self.resolved.parts.items()
        ]


def load(
    given: str | Path, sets: Sequence[str] = (), index: Index | None = None, done: dict[Path, Layers] | None = None
) -> Recipe:
    """Load a recipe by path or name, with `--set` options; RecipeError lists all problems at once.

    done: files that were read before, as for `read_layers`.
    """
    path = find_recipe(given)
    return _recipe(path, tuple(sets), index or Index(), merge_sets(read_layers(path, done), sets), done)


def from_data(data: Mapping[str, Any], name: str, index: Index | None = None) -> Recipe:
    """A checked recipe from data in memory; name: its default name, also in messages."""
    import tomli_w

    layers = Layers(Source(name, tomli_w.dumps(data), dict(data), {}))
    layers.merge(data, lambda at: Origin(name, 0))
    return _recipe(Path(name), (), index or Index(), layers)


def load_stored(path: Path, rename: Callable[[dict[str, Any]], dict[str, Any]], index: Index | None = None) -> Recipe:
    """The resolved recipe that a run keeps, after `rename` gave its keys their present names.

    Its [requires] is not checked: whoever opens the run says what has changed since it began.
    """
    source = read_toml(path)
    layers = Layers(source)
    layers.merge(rename(source.data), lambda at: Origin(source.label, source.line(at)))
    return _recipe(path, (), index or Index(), layers, stored=True)


def check_recipe(given: str | Path, sets: Sequence[str] = (), index: Index | None = None, fast: bool = False) -> None:
    """Raise RecipeError if a recipe is wrong; fast: check syntax and names only, without importing components."""
    path = find_recipe(given)
    resolve(merge_sets(read_layers(path), sets), index or Index(), _stem(path), fast)


def _recipe(
    path: Path, sets: tuple[str, ...], index: Index, layers: Layers, done: dict[Path, Layers] | None = None,
    stored: bool = False,
) -> Recipe:  # fmt: skip
    recipe = Recipe(path, sets, index, layers, resolve(layers, index, _stem(path), stored=stored))
    published = recipe.data.pop("published", {})
    figures = published.pop("figures", [])
    if "value" in published and _applies(recipe, "value", (), done):
        recipe.data["published"] = published
        return recipe
    for figure in figures:
        figure_sets = figure.pop("set")
        # Most figures belong to other values; this comparison is much faster than to resolve their recipe.
        if _has_all(recipe.data, parse_sets(figure_sets)) and _applies(recipe, "figures", figure_sets, done):
            recipe.data["published"] = figure | published | figure
            layers.origins |= {("published", key): layers.origin(("published", "figures")) for key in figure}
    return recipe


def _applies(recipe: Recipe, key: str, sets: Sequence[str], done: dict[Path, Layers] | None) -> bool:
    """Whether a published result is valid for this recipe: its settings are those of the file with the result.

    key: the key of the result in [published]; sets: the --set options of the result.
    """
    file = recipe.layers.origin(("published", key)).label
    is_own = file == recipe.layers.source.label
    if is_own and not recipe.sets and not sets:
        return True
    try:
        layers = read_layers(recipe.path if is_own else find_recipe(file), done)
        there = resolve(merge_sets(layers, sets), recipe.index, recipe.name).data
    except MmctlError:
        return False  # the file is a fragment, which cannot have a result
    return config_id_of(there) == config_id_of(recipe.data)


def _has_all(data: Any, settings: Any) -> bool:
    """Whether `data` has all values of `settings`."""
    if isinstance(settings, dict):
        return isinstance(data, dict) and all(_has_all(data.get(key), value) for key, value in settings.items())
    return same_name(data, settings)


def _stem(path: Path) -> str:
    """The default name of the recipe in a file."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+")[:80] or "recipe"
