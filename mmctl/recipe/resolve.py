"""Checks a merged recipe: finds its components, checks every value and fills in every default.

All problems are collected and reported together, each with file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mmctl.errors import PluginError, RecipeError, suggest
from mmctl.plugin import LossTerm
from mmctl.recipe.find import find_by_name
from mmctl.recipe.layers import SET, Layers, parse_sets
from mmctl.recipe.problems import Problems
from mmctl.recipe.resolved import Part, Resolved
from mmctl.recipe.rules import check_rules
from mmctl.recipe.settings import ORDER, TABLES, LossTable, Published, Table, Top, ordered
from mmctl.recipe.toml_source import KeyPath
from mmctl.registry.index import Index
from mmctl.registry.messages import key_hint, semicolon
from mmctl.registry.optional import NONE
from mmctl.registry.parameters import check_table, own_keys, values, written
from mmctl.registry.sources import NAME
from mmctl.text import dotted, short_literal


def resolve(layers: Layers, index: Index, name: str, fast: bool = False, stored: bool = False) -> Resolved:
    """Check a recipe and fill in its defaults; raises RecipeError with all problems.

    name: the default of the key `name`; fast: import no component, and so check no parameters of components;
    stored: do not check the versions of [requires].
    """
    resolver = Resolver(layers, index, fast, stored)
    resolver.check_all(name)
    for path, known in resolver.unknown:  # last, since suggestions need the keys of all tables
        resolver.report(path, "unknown key" + key_hint(path[-1], dotted(path[:-1]), known, resolver.keys))
    if resolver.problems.found:
        raise RecipeError(resolver.problems.lines())
    resolver.result.data = ordered(resolver.result.data)
    return resolver.result


class Resolver:
    """One pass over a recipe: `result` is the checked recipe, `problems` what is wrong with it."""

    def __init__(self, layers: Layers, index: Index, fast: bool, stored: bool = False) -> None:
        self.layers, self.index, self.fast, self.stored = layers, index, fast, stored
        self.raw = layers.data
        self.result = Resolved()
        self.problems = Problems(layers)
        self.report = self.problems.add
        self.unknown: list[tuple[KeyPath, tuple[str, ...]]] = []
        self.keys: dict[str, tuple[str, ...]] = {table: tuple(model.model_fields) for table, model in TABLES.items()}

    def check_all(self, name: str) -> None:
        """Check all tables."""
        for key in self.raw:
            if key not in ORDER:
                self.unknown.append(((key,), ORDER))
        top = {"name": name} | {key: self.raw[key] for key in Top.model_fields if key in self.raw}
        self.model((), Top, top)
        self.requires()
        for table in TABLES:
            if table != "published" or table in self.raw:
                self.model((table,), TABLES[table], self.table((table,)))
        self.published()
        self.component("dataset", None, ("dataset",), own=self.root())
        self.component("backbone", None, ("backbone",))
        method = self.component("method", None, ("method",))
        self.labeler(method)
        self.losses(method)
        self.augments()
        self.component("launcher", None, ("launcher",), default="local")
        check_rules(self.result, self.problems)

    def table(self, path: KeyPath) -> dict[str, Any]:
        """A table of the recipe; empty if it is absent, or if its value is not a table, which is reported."""
        value: Any = self.raw
        for n, part in enumerate(path, 1):
            value = value.get(part, {})
            if not isinstance(value, dict):
                self.report(path[:n], f"must be a table, [{dotted(path[:n])}] (got {short_literal(value)})")
                return {}
        return cast(dict[str, Any], value)

    def faults(self, path: KeyPath, faults: Iterable[tuple[tuple[str | int, ...], str]], known: Iterable[str]) -> None:
        """Report the faults that `check_table` found; unknown keys are kept for later."""
        for at, message in faults:
            if message.startswith("unknown key") and len(at) == 1:
                self.unknown.append(((*path, str(at[0])), tuple(known)))
            else:
                self.report((*path, *at), message)

    def model(self, path: KeyPath, model: type[Table], table: Mapping[str, Any]) -> None:
        """Check a table with fixed keys."""
        checked, faults = check_table(model, table)
        self.faults(path, faults, model.model_fields)
        if checked is not None:
            self.result.tables[path[0] if path else "top"] = cast(Table, checked)
            self.put(path, written(checked))

    def put(self, path: KeyPath, value: dict[str, Any]) -> None:
        """Write into the data of the result."""
        into = self.result.data
        for part in path:
            into = into.setdefault(part, {})
        into.update(value)

    def requires(self) -> None:
        """[requires]: PACKAGE = "VERSIONS"."""
        table = self.table(("requires",))
        for name, text in ({} if self.stored else unmet(table)).items():
            self.report(("requires", name), text)
        if table:
            self.put(("requires",), dict(table))

    def published(self) -> None:
        """[published]: one result, or a list of results, each with its --set options."""
        published = self.result.tables.get("published")
        if not isinstance(published, Published):
            return
        if published.value is None and not published.figures:
            self.report(("published", "value"), "is required")
        for n, figure in enumerate(published.figures):
            try:
                parse_sets(figure.set)
            except RecipeError as error:
                self.report(("published", "figures", n, "set"), error.problems[0].removeprefix(f"{SET}: "))

    def component(
        self, kind: str, slot: str | None, path: KeyPath, default: str | None = None, home: str | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> Part | None:  # fmt: skip
        """Find, load and check one component.

        default: its name if the table has none, preferably of origin `home`; own: values of mmctl's own keys.
        """
        table = self.table(path)
        name = table.get("name", default)
        if name is None:
            if any(f'"{path[0]}"' in suggest(key, ORDER) for key in self.raw if key not in ORDER):
                return None  # its table is misspelt, which is reported already
            known = f"Known: {', '.join(self.index.names(kind)) or 'none'}"
            self.report((*path, "name"), f"is required: which {kind}? {known}.")
            return None
        if not isinstance(name, str):
            self.report((*path, "name"), f"must be a name in quotes (got {short_literal(name)})")
            return None
        try:
            entry = self.index.find(kind, name, None if "name" in table else home or "mmctl")
            if self.fast:
                return None
            component, shape = self.index.load(entry), self.index.shape(entry)
        except PluginError as error:
            self.report((*path, "name"), self._method_recipe(kind, name) or str(error))
            return None
        parameters = {key: value for key, value in table.items() if key not in own_keys(kind)}
        checked, faults = check_table(shape.model, parameters)
        names = [str(f.alias) for f in shape.model.model_fields.values()]
        self.keys.setdefault(dotted(path), (*own_keys(kind)[1:], *names))
        self.faults(path, faults, (*own_keys(kind), *names))
        params = values(checked) if checked else {}
        part = self.result.parts[kind, slot] = Part(entry, component, shape, params)
        self.put(path, {"name": entry.qualified, **(own or {}), **(written(checked) if checked else {})})
        return part

    def _method_recipe(self, kind: str, name: str) -> str:
        if kind == "method" and NAME.fullmatch(name) and find_by_name(f"methods/{name}", ()):
            return f'"{name}" is a recipe, not a method: use extends = "methods/{name}" instead'
        return ""

    def root(self) -> dict[str, Any]:
        """[dataset] root, which is a key of mmctl, not of the data set."""
        root = self.table(("dataset",)).get("root")
        if root in (None, NONE):
            return {}
        if isinstance(root, str) and root and "\0" not in root:
            return {"root": root}
        self.report(("dataset", "root"), f"must be a folder path in quotes (got {short_literal(root)})")
        return {}

    def labeler(self, method: Part | None) -> None:
        """[labeler]: the recipe's labeler or the method's default one; a problem if the method uses none."""
        if method is None:
            if "name" in self.table(("labeler",)):
                self.component("labeler", None, ("labeler",))
        elif "labeler" not in method.shape.supplied:
            if "labeler" in self.raw:
                self.report(("labeler",), f"method {method.entry.name} uses no labeler: remove this table")
        else:
            default = getattr(method.component, "default_labeler", None)
            self.component("labeler", None, ("labeler",), default, method.entry.origin)

    def losses(self, method: Part | None) -> None:
        """[loss.SLOT] for each loss term of the method."""
        tables = {slot: self.table(("loss", slot)) for slot in self.table(("loss",))}
        if method is None:
            for name, table in tables.items():
                self.term(name, table, LossTerm(None))
                if "name" in table:
                    self.component("loss", name, ("loss", name))
            return
        slots: Mapping[str, LossTerm] = getattr(method.component, "slots", {})
        for name in tables:
            if name not in slots:
                hint = suggest(name, slots) or f" It has {', '.join(slots)}."
                self.report(("loss", name), f"method {method.entry.name} has no such loss term.{hint}")
        for name, slot in slots.items():
            table, path = tables.get(name, {}), ("loss", name)
            terms = self.term(name, table, slot)
            loss = None
            if slot.loss is None:
                self.put(path, terms)
                for key in table:
                    if key not in LossTable.model_fields:
                        self.report(
                            (*path, key),
                            "the method computes this loss term itself: only weight, rampup and ramp can be set",
                        )
            elif part := self.component("loss", name, path, slot.loss, method.entry.origin, terms):
                loss = part.entry.qualified
            self.result.slots[name] = LossTerm(loss, **terms)

    def term(self, name: str, table: Mapping[str, Any], slot: LossTerm) -> dict[str, Any]:
        """Weight, rampup and ramp of a loss term: the recipe's values, else those of the method."""
        merged = {key: table.get(key, getattr(slot, key)) for key in LossTable.model_fields}
        checked, faults = check_table(LossTable, merged)
        self.faults(("loss", name), faults, LossTable.model_fields)
        return values(checked) if checked else {}

    def augments(self) -> None:
        """[augment.NAME]: augmentation policies; `after` names the policy that is applied before this one."""
        tables = {name: self.table(("augment", name)) for name in self.table(("augment",))}
        for name, table in tables.items():
            after = table.get("after")
            if after == NONE and NONE not in tables:
                after = None
            if not NAME.fullmatch(name) or name == "clean":
                why = (
                    "is the name for no augmentation: choose another name"
                    if name == "clean"
                    else "is an invalid name: use lower-case letters, digits and _"
                )
                self.report(("augment", name), f'"{name}" {why}')
            if after is not None and (not isinstance(after, str) or after not in tables or after == name):
                others = [other for other in tables if other != name]
                hint = suggest(after, others) if isinstance(after, str) else ""
                text = (
                    f"must be the name of another policy in this recipe (got {short_literal(after)}){semicolon(hint)}"
                )
                self.report(("augment", name, "after"), text)
                after = None
            self.result.after[name] = after
            self.component("augment", name, ("augment", name), own={"after": after} if after else {})
        for name in tables:
            chain = [name]
            while (parent := self.result.after[chain[-1]]) is not None and parent not in chain:
                chain.append(parent)
            if parent == name:
                self.report(("augment", name, "after"), f"is circular: {' after '.join([*chain, name])}")


def unmet(requires: Mapping[str, object]) -> dict[str, str]:
    """Package -> what is wrong with it, for those of a table [requires] that are not as it says."""
    found = {}
    for name, specifier in requires.items():
        try:
            wanted = SpecifierSet(specifier) if isinstance(specifier, str) and specifier.strip() else None
        except InvalidSpecifier:
            wanted = None
        if wanted is None:
            text = 'must be version specifiers such as ">=0.1,<0.2" or "==0.3.*"'
            found[name] = f"{text} (got {short_literal(specifier)})"
        elif (have := installed_version(name)) is None:
            found[name] = f"needs {name} {specifier}, which is not installed"
        elif not wanted.contains(have, prereleases=True):
            found[name] = f"needs {name} {specifier}; version {have} is installed"
    return found


def installed_version(distribution: str) -> str | None:
    """The version of an installed package, or None if it is not installed."""
    try:
        return version(distribution)
    except (PackageNotFoundError, ValueError):
        return None
