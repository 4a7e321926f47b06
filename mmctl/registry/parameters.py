"""Reads the signature of a component: arguments supplied by mmctl, and a pydantic model of its recipe parameters.

Arguments before `*` are supplied by mmctl; keyword-only arguments after it are recipe parameters. Their types, bounds
and defaults come from the signature, their descriptions from `Args:` in the docstring.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from mmctl.errors import PluginError
from mmctl.plugin import SUPPLIED, LossTerm
from mmctl.registry.messages import Fault, faults_of
from mmctl.registry.optional import NONE, optional, without_none
from mmctl.text import literal, short_literal

OWN = {"dataset": ("name", "root"), "augment": ("name", "after"), "loss": ("name", "weight", "rampup", "ramp")}
"""Keys of a component's table that mmctl uses itself, so that no parameter may have them; other kinds: `name`."""

CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), validate_by_name=False)


class Parameter(NamedTuple):
    """One recipe parameter, as texts for `plugins show`."""

    name: str
    type: str
    default: str
    bounds: str
    meaning: str


@dataclass(frozen=True)
class Shape:
    """The arguments of a component: names that mmctl supplies, and the model of its parameters."""

    supplied: tuple[str, ...]
    model: type[BaseModel]


def own_keys(kind: str) -> tuple[str, ...]:
    """The keys of a component's table that mmctl uses itself."""
    return OWN.get(kind, ("name",))


def shape(component: Callable[..., Any], kind: str) -> Shape:
    """The arguments of a marked component; raises PluginError if its signature breaks the rule about `*`."""
    supplied: list[str] = []
    fields: dict[str, Any] = {}
    meanings = meaning(component)
    for p in _parameters(component):
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            raise PluginError(
                f"takes {'**' if p.kind is p.VAR_KEYWORD else '*'}{p.name}: it would hide misspelt parameters"
            )
        if p.kind is p.KEYWORD_ONLY:
            if p.name in SUPPLIED[kind] or p.name in own_keys(kind):
                whose = (
                    "supplied by mmctl: put it before the *"
                    if p.name in SUPPLIED[kind]
                    else "a key that mmctl uses itself"
                )
                raise PluginError(f"parameter {p.name} is {whose}")
            annotation = _annotation(component, p)
            default = ... if p.default is p.empty else p.default
            # The alias allows parameter names that BaseModel uses itself, such as `copy`.
            fields[f"p_{p.name}"] = (annotation, Field(default, alias=p.name, description=meanings.get(p.name)))
        elif p.name not in SUPPLIED[kind]:
            supply = ", ".join(SUPPLIED[kind]) or "nothing"
            raise PluginError(f"{p.name} is before the *, but mmctl supplies only {supply}: put it after a *")
        elif p.kind is p.POSITIONAL_ONLY:
            raise PluginError(f"{p.name} is positional-only: remove the /")
        elif inspect.isclass(component) and hasattr(component, p.name):
            raise PluginError(f"class attribute {p.name} hides the argument {p.name} that mmctl supplies: rename it")
        else:
            supplied.append(p.name)
    try:
        model: type[BaseModel] = create_model(getattr(component, "__name__", kind), __config__=CONFIG, **fields)
    except (PydanticUserError, TypeError) as error:
        raise PluginError(f"a parameter has a type that cannot be checked: {str(error).splitlines()[0]}") from error
    _try_defaults(model)
    if kind == "method" and hasattr(component, "views"):  # else its constructor sets them
        check_declarations(component)
    return Shape(tuple(supplied), model)


def _parameters(component: Callable[..., Any]) -> list[inspect.Parameter]:
    if getattr(getattr(component, "__init__", None), "__module__", "") == "torch.nn.modules.module":
        return []  # nn.Module.__init__ takes *args, but a module without its own __init__ has no parameters
    try:
        return list(inspect.signature(component).parameters.values())
    except (TypeError, ValueError) as error:
        raise PluginError("its signature cannot be read") from error


def _annotation(component: Callable[..., Any], p: inspect.Parameter) -> Any:
    """The type of a parameter; a string (`from __future__ import annotations`) is evaluated in its module."""
    if p.annotation is p.empty:
        raise PluginError(f"parameter {p.name} has no type annotation")
    if not isinstance(p.annotation, str):
        return p.annotation
    function = component.__init__ if inspect.isclass(component) else component  # type: ignore[misc]
    names = getattr(inspect.unwrap(function), "__globals__", None) or vars(sys.modules[component.__module__])
    try:
        return eval(p.annotation, dict(names))
    except Exception as error:
        raise PluginError(f"the type of parameter {p.name}, {p.annotation}, cannot be evaluated: {error}") from error


def check_declarations(method: Any) -> None:
    """Raise PluginError if `views` or `slots` of a method, class or instance, are not what mmctl.plugin.Method says."""
    views, slots = (getattr(method, name, None) for name in ("views", "slots"))
    good = isinstance(views, Mapping) and "x" in views and set(views) <= {"x", "u"}
    if not good or any(isinstance(v, str) or not all(isinstance(p, str) for p in v) for v in views.values()):  # type: ignore[union-attr]
        raise PluginError(
            f'has views = {views!r}. Set for example views = {{"x": ("weak",), "u": ("weak", "strong")}}.'
        )
    if not isinstance(slots, Mapping) or not slots or not all(isinstance(v, LossTerm) for v in slots.values()):
        raise PluginError(
            f'has slots = {slots!r}. Set for example slots = {{"labeled": LossTerm("soft_cross_entropy")}}.'
        )


def _try_defaults(model: type[BaseModel]) -> None:
    """Raise PluginError for a default that cannot be written in a recipe or has the wrong type."""
    own_defaults = defaults(model)
    try:
        json.dumps(own_defaults)
    except (TypeError, ValueError) as error:
        raise PluginError(f"a default cannot be written in a recipe: {error}") from error
    for at, message in check_table(model, {})[1]:
        if at[0] in own_defaults:
            raise PluginError(f"the default of parameter {at[0]} does not match its type: {message}")


def values(checked: BaseModel) -> dict[str, Any]:
    """Parameter name -> Python value, as the component takes it."""
    fields = type(checked).model_fields
    return {str(field.alias or name): getattr(checked, name) for name, field in fields.items()}


def toml_value(value: Any) -> Any:
    """A Python value as TOML data; keys whose value is None are left out."""
    if isinstance(value, Enum):
        return toml_value(value.value)
    if isinstance(value, BaseModel):
        return toml_value(values(value))
    if isinstance(value, Mapping):
        return {str(key): toml_value(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [toml_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(toml_value(item) for item in value)
    return str(value) if isinstance(value, PurePath) else value


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Parameter name -> default as TOML data; without parameters whose default is None."""
    fields = [(str(f.alias or n), f) for n, f in model.model_fields.items()]
    return {name: toml_value(f.default) for name, f in fields if not f.is_required() and f.default is not None}


def written(checked: BaseModel) -> dict[str, Any]:
    """The values as TOML data that is read as the same values: `none` where the default is not None."""
    data: dict[str, Any] = toml_value(values(checked))
    own_defaults = defaults(type(checked))
    return data | {name: NONE for name, value in values(checked).items() if value is None and name in own_defaults}


def check_table(model: type[BaseModel], table: Mapping[str, Any]) -> tuple[BaseModel | None, list[Fault]]:
    """Check a table against a model; returns the checked model, or None and all faults.

    The table is checked as JSON in strict mode: this refuses "1", true and 1.0 for an integer, but takes a list for a
    tuple, a string for a path and 1 for a float, as TOML needs it.
    """
    # Defaults are checked too: a float's default of 1 becomes 1.0, as it does when it is read from a recipe.
    full = defaults(model) | without_none(model, table)
    try:
        checked = model.model_validate_json(json.dumps(full), strict=True)
    except ValidationError as error:
        return None, faults_of(model, full, error)
    faults: list[Fault] = []
    for name, value in values(checked).items():
        # Pydantic's strict mode is not strict enough in two cases: Literal[1] takes true, and Any takes nan.
        if isinstance(table.get(name), bool) and type(value) in (int, float):
            faults.append(((name,), f"must be a number (got {short_literal(table[name])})"))
        elif isinstance(value, Mapping | list):
            faults += [((name, *at), "must be finite") for at in _not_finite(value)]
    return (None if faults else checked), faults


def _not_finite(value: Any) -> list[tuple[str | int, ...]]:
    if isinstance(value, float):
        return [] if math.isfinite(value) else [()]
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [(key, *at) for key, item in pairs for at in _not_finite(item)]


def documentation(component: Callable[..., Any]) -> str:
    """The docstring of a component or of a base class; not that of torch's nn.Module."""
    owners = component.__mro__ if isinstance(component, type) else (component,)
    own = (owner.__doc__ for owner in owners if owner is not object and owner.__module__ != "torch.nn.modules.module")
    return inspect.cleandoc(next((doc for doc in own if doc), ""))


def meaning(component: Callable[..., Any]) -> dict[str, str]:
    """Parameter name -> its description in `Args:` of the docstring, or of a base class."""
    owners = reversed(component.__mro__) if isinstance(component, type) else (component,)
    return {name: text for owner in owners for name, text in _args(owner.__doc__ or "").items()}


def _args(doc: str) -> dict[str, str]:
    section = re.search(r"^Args:[ \t]*\n((?:[ \t]+.*\n?|[ \t]*\n)+)", inspect.cleandoc(doc), re.M)
    if not section:
        return {}
    body = inspect.cleandoc("\n" + section[1])
    found = re.findall(r"^(\w+)(?:[ \t]*\([^)\n]*\))?:[ \t]*((?:.*)(?:\n[ \t]+.*)*)", body, re.M)
    return {name: " ".join(text.split()) for name, text in found}


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, simple enough for editors: without titles and nulls."""
    described, removable = model.model_json_schema(by_alias=True), optional(model)
    for name, about in described.get("properties", {}).items():
        about.pop("title", None)
        if "anyOf" in about:
            types = [part for part in about["anyOf"] if part != {"type": "null"}]
            types += [{"const": NONE}] if name in removable else []
            about.pop("anyOf")
            about.update(types[0] if len(types) == 1 else {"anyOf": types})
        if about.get("default", 0) is None:
            del about["default"]
        described["properties"][name] = about
    described.pop("title", None)
    described.pop("description", None)
    return described


def parameters(model: type[BaseModel]) -> list[Parameter]:
    """The parameters as `plugins show` lists them."""
    made = schema(model)
    required = made.get("required", ())
    rows = []
    for name, field in ((str(f.alias or n), f) for n, f in model.model_fields.items()):
        about, value = made["properties"][name], field.default
        if about.get("type") == "number" and isinstance(value, int):
            value = float(value)
        default = "required" if name in required else "-" if value is None else literal(toml_value(value))
        rows.append(Parameter(name, _type(about), default, _bounds(about), str(about.get("description", ""))))
    return rows


def _type(about: dict[str, Any]) -> str:
    if "anyOf" in about:
        return " | ".join(_type(part) for part in about["anyOf"])
    if "enum" in about or "const" in about:
        return " | ".join(literal(value) for value in about.get("enum", [about.get("const")]))
    kind = str(about.get("type", "any"))
    if kind == "array":
        inner: list[dict[str, Any]] = about.get("prefixItems") or [about.get("items") or {}]
        return f"list[{', '.join(_type(part) for part in inner)}]"
    return {"number": "float", "integer": "int", "string": "str", "boolean": "bool", "object": "table"}.get(kind, kind)


def _bounds(about: dict[str, Any]) -> str:
    """`> 0, <= 1`; in a union whose types differ in their bounds, those of each type: `int >= 1 | float > 0, <= 1`."""
    parts = [part for part in about.get("anyOf", []) if part != {"const": NONE}]
    each = [_bounds(part) for part in parts]
    if len(set(each)) > 1:
        return " | ".join(f"{_type(part)} {bounds}" for part, bounds in zip(parts, each, strict=True) if bounds)
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    return each[0] if each else ", ".join(f"{sign} {about[key]}" for key, sign in signs.items() if key in about)
