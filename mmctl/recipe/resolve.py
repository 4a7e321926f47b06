"""From merged layers to a checked recipe: every name found, every value checked, every default written out.

All faults are collected and told together, each with the file and line it stands in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel

from mmctl.errors import PluginError, RecipeError, suggest
from mmctl.plugin import LossTerm
from mmctl.recipe.find import recipe_folders
from mmctl.recipe.layers import SET, Layers, parse_sets
from mmctl.recipe.problems import Problems
from mmctl.recipe.resolved import Part, Resolved
from mmctl.recipe.rules import check_rules
from mmctl.recipe.settings import ORDER, TABLES, LossTable, Published, Table, Top, ordered
from mmctl.recipe.toml_source import KeyPath
from mmctl.registry.index import NAME, Index
from mmctl.registry.messages import meant, semicolon
from mmctl.registry.parameters import check_table, own_keys, toml_value, values
from mmctl.text import dotted, short_literal


def resolve(layers: Layers, index: Index, name: str, fast: bool = False) -> Resolved:
    """Check everything and write out every default; fast: without importing a component, so without parameters."""
    work = Resolver(layers, index, fast)
    work.all(name)
    for path, known in work.unknown:  # told last, when all keys that could be meant are known
        work.say(path, "unknown key" + meant(path[-1], dotted(path[:-1]), known, work.keys))
    if work.problems.found:
        raise RecipeError(work.problems.lines())
    work.made.data = ordered(work.made.data)
    return work.made


class Resolver:
    """One pass over a recipe: what was made of it and what is wrong with it."""

    def __init__(self, layers: Layers, index: Index, fast: bool) -> None:
        self.layers, self.index, self.fast = layers, index, fast
        self.raw = layers.data
        self.made = Resolved()
        self.problems = Problems(layers)
        self.say = self.problems.add
        self.unknown: list[tuple[KeyPath, tuple[str, ...]]] = []
        self.keys: dict[str, tuple[str, ...]] = {table: tuple(model.model_fields) for table, model in TABLES.items()}

    def all(self, name: str) -> None:
        """Everything, in the order of the file's tables."""
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
        self.augments(method)
        self.component("launcher", None, ("launcher",), default="local")
        check_rules(self.made, self.problems)

    def table(self, path: KeyPath) -> dict[str, Any]:
        """A table of the recipe, empty where it is absent or no table."""
        value: Any = self.raw
        for n, part in enumerate(path, 1):
            value = value.get(part, {})
            if not isinstance(value, dict):
                self.say(path[:n], f"must be a table, [{dotted(path[:n])}] (got {short_literal(value)})")
                return {}
        return cast(dict[str, Any], value)

    def faults(self, path: KeyPath, faults: Iterable[tuple[tuple[str | int, ...], str]], known: Iterable[str]) -> None:
        """Note what `check` found in a table."""
        for at, message in faults:
            if message.startswith("unknown key") and len(at) == 1:
                self.unknown.append(((*path, str(at[0])), tuple(known)))
            else:
                self.say((*path, *at), message)

    def model(self, path: KeyPath, model: type[Table], table: Mapping[str, Any]) -> None:
        """Check one of mmctl's own tables."""
        checked, faults = check_table(model, table)
        self.faults(path, faults, model.model_fields)
        if checked is not None:
            self.made.tables[path[0] if path else "top"] = cast(Table, checked)
            self.put(path, toml_value(values(checked)))

    def put(self, path: KeyPath, value: dict[str, Any]) -> None:
        """Write into the resolved data."""
        into = self.made.data
        for part in path:
            into = into.setdefault(part, {})
        into.update(value)

    def requires(self) -> None:
        """[requires]: distribution = "version specifier"."""
        table = self.table(("requires",))
        for name, specifier in table.items():
            path = ("requires", name)
            try:
                wanted = SpecifierSet(specifier) if isinstance(specifier, str) and specifier.strip() else None
            except InvalidSpecifier:
                wanted = None
            if wanted is None:
                text = 'must be versions such as ">=0.1,<0.2" or "==0.3.*"'
                self.say(path, f"{text} (got {short_literal(specifier)})")
            elif (have := installed_version(name)) is None:
                self.say(path, f"needs {name} {specifier}, which is not installed")
            elif not wanted.contains(have, prereleases=True):
                self.say(path, f"needs {name} {specifier}; version {have} is installed")
        if table:
            self.put(("requires",), dict(table))

    def published(self) -> None:
        """[published]: one figure, or figures that each hold for some --set words."""
        given = self.made.tables.get("published")
        if not isinstance(given, Published):
            return
        if given.value is None and not given.figures:
            self.say(("published", "value"), "is required")
        for n, figure in enumerate(given.figures):
            try:
                parse_sets(figure.set)
            except RecipeError as error:
                self.say(("published", "figures", n, "set"), error.problems[0].removeprefix(f"{SET}: "))

    def component(
        self, kind: str, slot: str | None, path: KeyPath, default: str | None = None, home: str | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> Part | None:  # fmt: skip
        """Find, load and check one component; home: the origin that `default` is a name in."""
        table = self.table(path)
        name = table.get("name", default)
        if name is None:
            known = f"Known: {', '.join(self.index.names(kind)) or 'none'}"
            self.say((*path, "name"), f"is required: which {kind}? {known}.")
            return None
        if not isinstance(name, str):
            self.say((*path, "name"), f"must be a name in quotes (got {short_literal(name)})")
            return None
        try:
            entry = self.index.find(kind, name, None if "name" in table else home or "mmctl")
            if self.fast:
                return None
            component, shape = self.index.load(entry), self.index.shape(entry)
        except PluginError as error:
            self.say((*path, "name"), self._method_recipe(kind, name) or str(error))
            return None
        theirs = {key: value for key, value in table.items() if key not in own_keys(kind)}
        checked, faults = check_table(shape.model, theirs)
        names = [str(f.alias) for f in shape.model.model_fields.values()]
        self.keys.setdefault(dotted(path), (*own_keys(kind)[1:], *names))
        self.faults(path, faults, (*own_keys(kind), *names))
        params = values(checked) if isinstance(checked, BaseModel) else {}
        part = self.made.parts[kind, slot] = Part(entry, component, shape, params)
        self.put(path, {"name": entry.qualified, **(own or {}), **toml_value(params)})
        return part

    def _method_recipe(self, kind: str, name: str) -> str:
        if kind == "method" and NAME.fullmatch(name):
            for folder in recipe_folders():
                if (folder / "methods" / f"{name}.toml").is_file():
                    return f'"{name}" is a recipe, not a method: write extends = "methods/{name}.toml" instead'
        return ""

    def root(self) -> dict[str, Any]:
        """[dataset] root, which is mmctl's own key."""
        root = self.table(("dataset",)).get("root")
        if root is None or (isinstance(root, str) and root and "\0" not in root):
            return {} if root is None else {"root": root}
        self.say(("dataset", "root"), f"must be a folder in quotes (got {short_literal(root)})")
        return {}

    def labeler(self, method: Part | None) -> None:
        """[labeler]: the recipe's, or the method's own; an error where the method asks for none."""
        if method is None:
            if "name" in self.table(("labeler",)):
                self.component("labeler", None, ("labeler",))
        elif "labeler" not in method.shape.supplied:
            if "labeler" in self.raw:
                self.say(("labeler",), f"method {method.entry.name} uses no labeler; take this table out")
        else:
            default = getattr(method.component, "default_labeler", None)
            self.component("labeler", None, ("labeler",), default, method.entry.origin)

    def losses(self, method: Part | None) -> None:
        """[loss.SLOT] against the method's slots."""
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
                self.say(("loss", name), f"method {method.entry.name} has no such loss term.{hint}")
        for name, slot in slots.items():
            table, path = tables.get(name, {}), ("loss", name)
            terms = self.term(name, table, slot)
            loss = None
            if slot.loss is None:
                self.put(path, terms)
                for key in table:
                    if key not in LossTable.model_fields:
                        self.say((*path, key), "the method computes this term; only weight, rampup and ramp can be set")
            elif part := self.component("loss", name, path, slot.loss, method.entry.origin, terms):
                loss = part.entry.qualified
            self.made.slots[name] = LossTerm(loss, **terms)

    def term(self, name: str, table: Mapping[str, Any], slot: LossTerm) -> dict[str, Any]:
        """Weight, rampup and ramp of a loss: the recipe's over the slot's."""
        given = {key: table.get(key, getattr(slot, key)) for key in LossTable.model_fields}
        checked, faults = check_table(LossTable, given)
        self.faults(("loss", name), faults, LossTable.model_fields)
        return values(checked) if checked else {}

    def augments(self, method: Part | None) -> None:
        """[augment.NAME]: each a policy; `after` names the one it is applied after."""
        tables = {name: self.table(("augment", name)) for name in self.table(("augment",))}
        for name, table in tables.items():
            after = table.get("after")
            if not NAME.fullmatch(name) or name == "clean":
                why = "means no augmentation" if name == "clean" else "is no name: small letters, digits and _"
                self.say(("augment", name), f'"{name}" {why}; choose another')
            if after is not None and (not isinstance(after, str) or after not in tables or after == name):
                others = [other for other in tables if other != name]
                hint = suggest(after, others) if isinstance(after, str) else ""
                text = f"must be another policy of this recipe (got {short_literal(after)}){semicolon(hint)}"
                self.say(("augment", name, "after"), text)
                after = None
            self.made.after[name] = after
            self.component("augment", name, ("augment", name), own={"after": after} if after else {})
        for name in tables:
            way = [name]
            while (parent := self.made.after[way[-1]]) is not None and parent not in way:
                way.append(parent)
            if parent == name:
                self.say(("augment", name, "after"), f"goes round in a circle: {' after '.join([*way, name])}")


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(distribution)
    except (PackageNotFoundError, ValueError):
        return None
