"""What a recipe is made of: its parents, itself, and --set, laid over each other; and where each value is from."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.errors import RecipeError
from mmctl.recipe.find import find_by_name, no_such_recipe, same_file
from mmctl.recipe.settings import COMPONENTS
from mmctl.recipe.toml_source import MAX_LINE, KeyPath, Problem, Source, broken_limits, key_path, read_toml
from mmctl.registry.parameters import own_keys
from mmctl.text import display_path, dotted, printable, short_literal

MAX_PARENTS = 8
SET = "--set"


class Origin(NamedTuple):
    """Where a value was written; line 0 = on the command line."""

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
        """Where a key, or what is left of its path, was written."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, Origin(self.source.label, 1))

    def lay(self, data: Mapping[str, Any], where: Callable[[KeyPath], Origin]) -> None:
        """Lay a further layer over this one: tables merge key by key, all else replaces."""
        self._merge(self.data, data, where, ())

    def _merge(
        self, into: dict[str, Any], new: Mapping[str, Any], where: Callable[[KeyPath], Origin], at: KeyPath
    ) -> None:
        if is_component(at) and "name" in new and not same_name(into.get("name"), new["name"]):
            # The old component's parameters would trip the new one. What is mmctl's own (a loss term's weight and ramp,
            # a policy's place) belongs to the slot; only a data set's root goes with the data set.
            slot = set(own_keys(at[0])) - {"name", "root"}
            for key in [key for key in into if key not in slot]:
                del into[key]
                self._forget((*at, key))
        self.origins.setdefault(at, where(at))
        for key, value in new.items():
            path = (*at, key)
            if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
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
        """A copy that can be laid over."""
        return Layers(self.source, copy.deepcopy(self.data), dict(self.origins))


def is_component(path: KeyPath) -> bool:
    """Whether a table names a component."""
    return (len(path) == 1 and path[0] in COMPONENTS) or (len(path) == 2 and path[0] in ("loss", "augment"))


def same_name(old: object, new: object) -> bool:
    """Whether two names mean one component: `fuzzy` and `mmctl:fuzzy` may."""
    if not isinstance(old, str) or not isinstance(new, str):
        return old == new
    short = ":" not in old or ":" not in new
    return old == new or (short and old.rpartition(":")[2] == new.rpartition(":")[2])


def read_layers(path: Path, done: dict[Path, Layers] | None = None) -> Layers:
    """A recipe file over all its parents; done: files that have been read already, to be read once for many recipes.

    A parent counts with everything that it extends itself, as if it were loaded alone. Parents are laid over each other
    in the order of the list, so that a later one wins over an earlier one, and the file wins over all of them.
    """
    return _layers(path, (), {} if done is None else done)


def _layers(path: Path, below: tuple[tuple[Path, Source], ...], done: dict[Path, Layers]) -> Layers:
    """below: the files on the way here, each a parent of the one before it."""
    if len(below) > MAX_PARENTS:
        raise _extends(below[-1][1], f"is the {MAX_PARENTS + 1}th parent in a row; {MAX_PARENTS} are enough")
    if any(same_file(path, seen) for seen, _ in below):
        way = " -> ".join(display_path(p) for p in [*(p for p, _ in below), path])
        raise _extends(below[-1][1], f"goes round in a circle: {way}")
    if (whole := path.resolve()) in done:
        return done[whole]
    source = read_toml(path)
    if {"columns", "rows"} <= source.data.keys():
        raise RecipeError([f"{source.label}: is a table, not a recipe; see it with: mmctl table {source.label}"])
    made = Layers(source)
    for parent in _parents(path, source):
        theirs = _layers(parent, (*below, (path, source)), done)
        made.lay(theirs.data, theirs.origin)
    own = {key: value for key, value in source.data.items() if key != "extends"}
    made.lay(own, lambda at: Origin(source.label, source.line(at)))
    done[whole] = made
    return made


def _extends(source: Source, message: str) -> RecipeError:
    return RecipeError([str(Problem(source.label, source.line(("extends",)), "extends", message))])


def _parents(path: Path, source: Source) -> list[Path]:
    given = source.data.get("extends", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        text = 'must be a recipe in quotes, or a list of them, such as ["methods/fixmatch", "base/digits"]'
        raise _extends(source, f"{text} (got {short_literal(given)})")
    if "extends" in source.data and not 0 < len(names) <= MAX_PARENTS:
        few = "is an empty list: name a recipe, or take the line out"
        raise _extends(source, f"has {len(names)} recipes; {MAX_PARENTS} are enough" if names else few)
    return [_parent(name, path, source) for name in names]


def _parent(given: str, path: Path, source: Source) -> Path:
    try:
        found = find_by_name(given, (path.parent,), besides=path)
    except (OSError, ValueError):  # a name of 5,000 letters, or with a NUL
        found = None
    if found is None:
        raise _extends(source, no_such_recipe(given))
    return found


def parse_sets(sets: Sequence[str]) -> dict[str, Any]:
    """`--set a.b=VALUE` words as one layer: a TOML value, or a bare word that is taken as text."""
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    for word in sets:
        key, equals, value = word.partition("=")
        path = key_path(key)
        if not equals or path is None or len(word) > MAX_LINE:
            problems.append(Problem(SET, 0, printable(word[:80]), "must be KEY=VALUE, such as train.steps=2000"))
        elif path[0] == "extends":
            problems.append(Problem(SET, 0, "extends", "can be given in a file only"))
        else:
            table = made
            for part in path[:-1]:
                inner = table.setdefault(part, {})
                if not isinstance(inner, dict):
                    inner = table[part] = {}
                table = inner
            meant = _value(value.strip())
            faulty = broken_limits({path[-1]: meant})
            problems += [Problem(SET, 0, dotted((*path[:-1], *at)), text) for at, text in faulty]
            if isinstance(meant, dict) and isinstance(table.get(path[-1]), dict):
                table[path[-1]].update(meant)
            else:
                table[path[-1]] = meant
    problems += [] if problems else [Problem(SET, 0, dotted(at), text) for at, text in broken_limits(made)]
    if problems:
        raise RecipeError(map(str, problems))
    return made


def _value(text: str) -> Any:
    try:
        data = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return data["value"] if list(data) == ["value"] else text


def merge_sets(base: Layers, sets: Sequence[str]) -> Layers:
    """The layers with these --set words on top."""
    made = base.copy()
    made.lay(parse_sets(sets), lambda at: Origin(SET, 0))
    return made
