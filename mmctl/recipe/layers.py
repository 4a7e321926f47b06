"""Merges a recipe with its parents and --set options, and keeps the origin of each value."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.errors import RecipeError
from mmctl.recipe.find import find_by_name, no_such_recipe, same_file
from mmctl.recipe.settings import COMPONENTS, ORDER, Top
from mmctl.recipe.toml_source import MAX_LINE, KeyPath, Problem, Source, broken_limits, key_path, read_toml
from mmctl.registry.optional import NONE
from mmctl.registry.parameters import own_keys
from mmctl.text import display_path, dotted, is_utf8, printable, short_literal

MAX_PARENTS = 8
OPTIONAL_TABLES = {*ORDER} - {"extends", *Top.model_fields}
OWN = ("name", "note")
"""Keys that say what one file is, so that a recipe does not inherit them."""
SET = "--set"


class Origin(NamedTuple):
    """The file and line of a value; line 0 = the command line."""

    label: str
    line: int

    def __str__(self) -> str:
        return f"{self.label}:{self.line}" if self.line else self.label


@dataclass
class Layers:
    """The merged data of a recipe and the origin of every table and value in it."""

    source: Source
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> Origin:
        """Where a key is written; if nowhere, where its nearest parent table is, else the file of the recipe."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins[path] if path else Origin(self.source.label, 1)

    def merge(self, data: Mapping[str, Any], where: Callable[[KeyPath], Origin]) -> None:
        """Merge further data into this: tables key by key, any other value replaces the old one."""
        self._merge(self.data, data, where, ())

    def _merge(
        self, into: dict[str, Any], new: Mapping[str, Any], where: Callable[[KeyPath], Origin], at: KeyPath
    ) -> None:
        if is_component(at) and "name" in new and not same_name(into.get("name"), new["name"]):
            # A new component has other parameters: remove the old ones. mmctl's own keys (a loss term's weight and
            # ramp, a policy's `after`) are kept, except the root of a data set.
            kept = set(own_keys(at[0])) - {"name", "root"}
            for key in [key for key in into if key not in kept]:
                del into[key]
                self._forget((*at, key))
        self.origins[at] = where(at)
        for key, value in new.items():
            path = (*at, key)
            if value == NONE and is_optional_table(path):
                into.pop(key, None)
                self._forget(path)
            elif isinstance(value, dict) and isinstance(into.get(key, {}), dict):
                if key not in into:
                    self._forget(path)
                self._merge(into.setdefault(key, {}), value, where, path)
            else:
                self._forget(path)
                into[key] = copy.deepcopy(value)
                self.origins[path] = where(path)

    def _forget(self, at: KeyPath) -> None:
        for path in [p for p in self.origins if p[: len(at)] == at]:
            del self.origins[path]

    def copy(self) -> Layers:
        """A copy that can be changed."""
        return Layers(self.source, copy.deepcopy(self.data), dict(self.origins))


def is_component(path: KeyPath) -> bool:
    """Whether a table names a component."""
    return (len(path) == 1 and path[0] in COMPONENTS) or (len(path) == 2 and path[0] in ("loss", "augment"))


def is_optional_table(path: KeyPath) -> bool:
    """Whether `none` takes a whole table away: one of the top level, or one of [loss], [augment] or [requires]."""
    return path[0] in (OPTIONAL_TABLES if len(path) == 1 else ("loss", "augment", "requires") if len(path) == 2 else ())


def same_name(old: object, new: object) -> bool:
    """Whether two names can mean the same component, such as `fuzzy` and `mmctl:fuzzy`."""
    if not isinstance(old, str) or not isinstance(new, str):
        return old == new
    short = ":" not in old or ":" not in new
    return old == new or (short and old.rpartition(":")[2] == new.rpartition(":")[2])


def read_layers(path: Path, done: dict[Path, Layers] | None = None) -> Layers:
    """Read a recipe file and merge it with all its parents; done: files that were read before, as a cache.

    Each parent is first merged with its own parents. A later parent wins over an earlier one, and the file wins over
    all parents. Raises RecipeError for files that cannot be read and for wrong `extends`.
    """
    return _layers(path, (), {} if done is None else done)


def _layers(path: Path, below: tuple[tuple[Path, Source], ...], done: dict[Path, Layers]) -> Layers:
    """below: the recipes that led here through `extends`, each with its source."""
    if len(below) > MAX_PARENTS:
        raise _extends(below[-1][1], f"is nested more than {MAX_PARENTS} deep: a parent extends a parent and so on")
    if any(same_file(path, seen) for seen, _ in below):
        circle = " -> ".join(display_path(p) for p in [*(p for p, _ in below), path])
        raise _extends(below[-1][1], f"is circular: {circle}")
    resolved = Path(os.path.realpath(path))  # Path.resolve raises for a loop of links
    if resolved in done:
        return done[resolved]
    source = read_toml(path)
    if {"columns", "rows"} <= source.data.keys():
        raise RecipeError([f"{source.label}: is a table, not a recipe; show it with: mmctl table {source.label}"])
    layers = Layers(source)
    for file in _parents(path, source):
        parent = _layers(file, (*below, (path, source)), done)
        layers.merge({key: value for key, value in parent.data.items() if key not in OWN}, parent.origin)
    own = {key: value for key, value in source.data.items() if key != "extends"}
    layers.merge(own, lambda at: Origin(source.label, source.line(at)))
    done[resolved] = layers
    return layers


def _extends(source: Source, message: str) -> RecipeError:
    return RecipeError([str(Problem(source.label, source.line(("extends",)), "extends", message))])


def _parents(path: Path, source: Source) -> list[Path]:
    given = source.data.get("extends", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        text = 'must be a recipe name in quotes or a list of names, such as ["methods/fixmatch", "base/digits"]'
        raise _extends(source, f"{text} (got {short_literal(given)})")
    if "extends" in source.data and not 0 < len(names) <= MAX_PARENTS:
        many = f"has {len(names)} recipes; at most {MAX_PARENTS} are allowed"
        raise _extends(source, many if names else "is an empty list: name a recipe, or remove the line")
    return [_parent(name, path, source) for name in names]


def _parent(given: str, path: Path, source: Source) -> Path:
    if (found := find_by_name(given, (path.parent,), besides=path)) is None:
        raise _extends(source, no_such_recipe(given))
    return found


def parse_sets(sets: Sequence[str]) -> dict[str, Any]:
    """The data of `--set a.b=VALUE` options; a VALUE that is not TOML is a string. RecipeError if one is wrong."""
    data: dict[str, Any] = {}
    problems: list[Problem] = []
    for word in sets:
        key, equals, value = word.partition("=")
        path = key_path(key)
        if not is_utf8(word):
            problems.append(Problem(SET, 0, printable(word[:80]), "is not UTF-8 text"))
        elif not equals or path is None or len(word) > MAX_LINE:
            problems.append(Problem(SET, 0, printable(word[:80]), "must be KEY=VALUE, such as train.steps=2000"))
        elif path[0] == "extends":
            problems.append(Problem(SET, 0, "extends", "can be set in a file only"))
        else:
            table = data
            for part in path[:-1]:
                inner = table.setdefault(part, {})
                if not isinstance(inner, dict):
                    inner = table[part] = {}
                table = inner
            new = _value(value.strip())
            broken = broken_limits({path[-1]: new})
            problems += [Problem(SET, 0, dotted((*path[:-1], *at)), text) for at, text in broken]
            if isinstance(new, dict) and isinstance(table.get(path[-1]), dict):
                table[path[-1]].update(new)
            else:
                table[path[-1]] = new
    problems += [] if problems else [Problem(SET, 0, dotted(at), text) for at, text in broken_limits(data)]
    if problems:
        raise RecipeError(map(str, problems))
    return data


def _value(text: str) -> Any:
    try:
        data = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return data["value"] if list(data) == ["value"] else text


def merge_sets(base: Layers, sets: Sequence[str]) -> Layers:
    """A copy of the layers with these --set options merged into it."""
    layers = base.copy()
    layers.merge(parse_sets(sets), lambda at: Origin(SET, 0))
    return layers
