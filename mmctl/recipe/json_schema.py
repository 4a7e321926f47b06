"""The JSON schema of recipes, for completion in editors; `recipe validate` checks more than it."""

from __future__ import annotations

from typing import Any

from mmctl.errors import PluginError
from mmctl.recipe.settings import COMPONENTS, TABLES, LossTable, Top
from mmctl.registry.index import Index
from mmctl.registry.optional import NONE
from mmctl.registry.parameters import schema

OWN: dict[str, dict[str, Any]] = {
    "dataset": {
        "root": {
            "type": "string",
            "description": 'Folder of the data set. Default, or "none": data/NAME in the project.',
        }
    },
    "augment": {"after": {"type": "string", "description": "Name of the policy that is applied before this one."}},
    "loss": schema(LossTable)["properties"],
}


def recipe_schema(index: Index) -> tuple[dict[str, Any], list[str]]:
    """The schema with all components that can be loaded, and the errors of those that cannot.

    One alternative for each component and no external references, since editors support only simple schemas.
    """
    broken: list[str] = []
    shared: dict[str, Any] = {}
    top = schema(Top)["properties"]
    properties: dict[str, Any] = {
        "extends": {
            "description": "Parent recipe, or list of parents. Later parents win over earlier ones.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        },
        **top,
        "requires": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    for kind in COMPONENTS:
        made = _component(index, kind, broken, shared)
        properties[kind] = _or_none(made) if kind in ("labeler", "launcher") else made
    for kind in ("loss", "augment"):
        made = {"type": "object", "additionalProperties": _or_none(_component(index, kind, broken, shared))}
        properties[kind] = _or_none(made)
    for name, model in TABLES.items():
        table = schema(model)
        table.pop("required", None)  # a parent recipe may have the key
        shared |= table.pop("$defs", {})
        properties[name] = _or_none(table) | {"description": (model.__doc__ or "").strip()}
    recipe = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mmctl recipe",
        "type": "object", "additionalProperties": False, "properties": properties, "$defs": shared,
    }  # fmt: skip
    return recipe, broken


def _or_none(table: dict[str, Any]) -> dict[str, Any]:
    """A table that the word `none` takes away, if a parent recipe has it."""
    return {"anyOf": [table, {"const": NONE}]}


def _component(index: Index, kind: str, broken: list[str], shared: dict[str, Any]) -> dict[str, Any]:
    """The table of a component; shared: gets the definitions that its parameters refer to."""
    names: list[str] = []
    choices: list[dict[str, Any]] = []
    known: dict[str, list[dict[str, Any]]] = {}
    for entry in index.entries:
        if entry.kind != kind:
            continue
        try:
            parameters = schema(index.shape(index.find(kind, entry.qualified)).model)
        except PluginError as error:
            broken.append(str(error))
            continue
        spellings = [entry.name, entry.qualified]
        names += spellings
        properties = {**OWN.get(kind, {}), **parameters.get("properties", {})}
        for key, about in properties.items():
            if about not in known.setdefault(key, []):
                known[key].append(about)
        shared |= parameters.get("$defs", {})
        choices.append(
            {
                "title": entry.qualified,
                "description": entry.summary,
                "properties": {"name": {"enum": spellings}, **properties},
                "required": ["name"],
                "additionalProperties": False,
            }
        )
    # Without a name, the component is that of a parent recipe or of the method: it may be any of this kind.
    any_of_them = {key: each[0] if len(each) == 1 else {"anyOf": each} for key, each in known.items()}
    inherited = {"title": "inherited", "properties": any_of_them, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"name": {"enum": list(dict.fromkeys(names))}},
        "additionalProperties": True,  # each alternative says which; an editor in strict mode asks for this word
        "oneOf": [*choices, inherited],
    }
