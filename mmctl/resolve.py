"""From merged layers to a checked recipe: every name found, every value checked, every default written out.

All faults are collected and told together, each with the file and line it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from mmctl.crosscheck import cross
from mmctl.errors import PluginError, RecipeError, suggest
from mmctl.layers import SET, Layers, settings_of
from mmctl.lines import Path_, Problem
from mmctl.params import Shape, check, own_keys, plain, values
from mmctl.plugin import Slot
from mmctl.recipe_names import folders
from mmctl.registry import NAME, Entry, Index
from mmctl.requires import installed, satisfies, wrong
from mmctl.settings import ORDER, TABLES, LossTerm, Published, Table, Top, ordered
from mmctl.text import dotted, literal, short_literal
from mmctl.wording import meant, semicolon


class Part(NamedTuple):
    """One component of a recipe, ready to be built."""

    entry: Entry
    component: Callable[..., Any]
    shape: Shape
    params: dict[str, Any]  # as Python values


@dataclass
class Resolved:
    """A recipe that holds."""

    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Table] = field(default_factory=dict)
    parts: dict[tuple[str, str | None], Part] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    after: dict[str, str | None] = field(default_factory=dict)


def resolve(layers: Layers, index: Index, name: str, fast: bool = False) -> Resolved:
    """Check everything and write out every default; fast: without importing a component, so without parameters."""
    work = Resolver(layers, index, fast)
    work.all(name)
    if work.problems or work.unknown:
        raise RecipeError(work.told())
    work.made.data = ordered(work.made.data)
    return work.made


class Resolver:
    """One pass over a recipe: what was made of it and what is wrong with it."""

    def __init__(self, layers: Layers, index: Index, fast: bool) -> None:
        self.layers, self.index, self.fast = layers, index, fast
        self.raw = layers.data
        self.made = Resolved()
        self.problems: list[Problem] = []
        self.unknown: list[tuple[Path_, tuple[str, ...]]] = []
        self.keys: dict[str, tuple[str, ...]] = {table: tuple(model.model_fields) for table, model in TABLES.items()}

    def say(self, path: Path_ | tuple[str | int, ...], message: str, at: Path_ | None = None) -> None:
        """Note a fault; at: where it stands, if its key stands nowhere."""
        label, line = self.layers.origin(at or tuple(str(part) for part in path))
        self.problems.append(Problem(label, line, dotted(path), message))

    def ref(self, *path: str) -> str:
        """Another value that a fault speaks of, and where it stands."""
        table = self.made.settings.get(path[0])
        value = literal(plain(getattr(table, path[1])))
        where = self.layers.origin(path) if path in self.layers.origins else "by default"
        return f"{dotted(path)} = {value} ({where})"

    def told(self) -> list[str]:
        """All faults, the recipe's own file first, by line."""
        for path, known in self.unknown:
            self.say(path, "unknown key" + meant(path[-1], dotted(path[:-1]), known, self.keys))
        first = (SET, self.layers.source.label)
        rank = {label: n for n, label in enumerate(first)}
        ordered_ = sorted(set(self.problems), key=lambda p: (rank.get(p.file, 9), p.file, p.line, p.key))
        return [str(problem) for problem in ordered_]

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
        cross(self, method)

    def table(self, path: Path_) -> dict[str, Any]:
        """A table of the recipe, empty where it is absent or no table."""
        value: Any = self.raw
        for n, part in enumerate(path, 1):
            value = value.get(part, {})
            if not isinstance(value, dict):
                self.say(path[:n], f"must be a table, [{dotted(path[:n])}] (got {short_literal(value)})")
                return {}
        return cast(dict[str, Any], value)

    def faults(self, path: Path_, faults: Iterable[tuple[tuple[str | int, ...], str]], known: Iterable[str]) -> None:
        """Note what `check` found in a table."""
        for at, message in faults:
            if message.startswith("unknown key") and len(at) == 1:
                self.unknown.append(((*path, str(at[0])), tuple(known)))
            else:
                self.say((*path, *at), message)

    def model(self, path: Path_, model: type[Table], table: Mapping[str, Any]) -> None:
        """Check one of mmctl's own tables."""
        checked, faults = check(model, table)
        self.faults(path, faults, model.model_fields)
        if checked is not None:
            self.made.settings[path[0] if path else "top"] = cast(Table, checked)
            self.put(path, plain(values(checked)))

    def put(self, path: Path_, value: dict[str, Any]) -> None:
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
            if not isinstance(specifier, str) or wrong(specifier):
                text = wrong(specifier) if isinstance(specifier, str) else 'must be versions such as ">=0.1,<0.2"'
                self.say(path, f"{text} (got {short_literal(specifier)})")
            elif (have := installed(name)) is None:
                self.say(path, f"{specifier} is asked for, and {name} is not installed")
            elif not satisfies(have, specifier):
                self.say(path, f"{specifier} is asked for, and {name} {have} is installed")
        if table:
            self.put(("requires",), dict(table))

    def published(self) -> None:
        """[published]: one figure, or figures that each hold for some --set words."""
        given = self.made.settings.get("published")
        if not isinstance(given, Published):
            return
        if given.value is None and not given.figures:
            self.say(("published", "value"), "is required")
        for n, figure in enumerate(given.figures):
            try:
                settings_of(figure.set)
            except RecipeError as error:
                self.say(("published", "figures", n, "set"), error.problems[0].removeprefix(f"{SET}: "))

    def component(
        self, kind: str, slot: str | None, path: Path_, default: str | None = None, home: str | None = None,
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
        checked, faults = check(shape.model, theirs)
        names = [str(f.alias) for f in shape.model.model_fields.values()]
        self.keys.setdefault(dotted(path), (*own_keys(kind)[1:], *names))
        self.faults(path, faults, (*own_keys(kind), *names))
        params = values(checked) if isinstance(checked, BaseModel) else {}
        part = self.made.parts[kind, slot] = Part(entry, component, shape, params)
        self.put(path, {"name": entry.qualified, **(own or {}), **plain(params)})
        return part

    def _method_recipe(self, kind: str, name: str) -> str:
        if kind == "method" and NAME.fullmatch(name):
            for folder in folders():
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
                self.term(name, table, Slot(None))
                if "name" in table:
                    self.component("loss", name, ("loss", name))
            return
        slots: Mapping[str, Slot] = getattr(method.component, "slots", {})
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
                    if key not in LossTerm.model_fields:
                        self.say((*path, key), "the method computes this term; only weight, rampup and ramp can be set")
            elif part := self.component("loss", name, path, slot.loss, method.entry.origin, terms):
                loss = part.entry.qualified
            self.made.slots[name] = Slot(loss, **terms)

    def term(self, name: str, table: Mapping[str, Any], slot: Slot) -> dict[str, Any]:
        """Weight, rampup and ramp of a loss: the recipe's over the slot's."""
        given = {key: table.get(key, getattr(slot, key)) for key in LossTerm.model_fields}
        checked, faults = check(LossTerm, given)
        self.faults(("loss", name), faults, LossTerm.model_fields)
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
