"""The JSON schema of recipes, which helps an editor while one types; `recipe validate` is the judge."""

from __future__ import annotations

from typing import Any

from mmctl.errors import PluginError
from mmctl.recipe.settings import COMPONENTS, TABLES, LossTable, Top
from mmctl.registry.index import Index
from mmctl.registry.parameters import schema

OWN: dict[str, dict[str, Any]] = {
    "dataset": {"root": {"type": "string", "description": "Its folder; absent = data/NAME in the project."}},
    "augment": {"after": {"type": "string", "description": "The policy that this one is applied after."}},
    "loss": schema(LossTable)["properties"],
}


def recipe_schema(index: Index) -> tuple[dict[str, Any], list[str]]:
    """The schema over all components that can be loaded, and what is wrong with the others.

    Kept plain, one alternative for a component and no references outside: editors know no more.
    """
    broken: list[str] = []
    top = schema(Top)["properties"]
    properties: dict[str, Any] = {
        "extends": {
            "description": "The recipe that this one is laid over, or a list of them, later ones winning.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        },
        **top,
        "requires": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    properties |= {kind: _component(index, kind, broken) for kind in COMPONENTS}
    for kind in ("loss", "augment"):
        properties[kind] = {"type": "object", "additionalProperties": _component(index, kind, broken)}
    shared: dict[str, Any] = {}
    for name, model in TABLES.items():
        made = schema(model)
        made.pop("required", None)  # a parent may give it
        shared |= made.pop("$defs", {})
        properties[name] = made | {"description": (model.__doc__ or "").strip()}
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mmctl recipe"}
    whole = {"type": "object", "additionalProperties": False, "properties": properties, "$defs": shared}
    return {**about, **whole}, broken


def _component(index: Index, kind: str, broken: list[str]) -> dict[str, Any]:
    names: list[str] = []
    choices: list[dict[str, Any]] = []
    for entry in index.entries:
        if entry.kind != kind:
            continue
        try:
            made = schema(index.shape(index.find(kind, entry.qualified)).model)
        except PluginError as error:
            broken.append(str(error))
            continue
        spellings = [entry.name, entry.qualified]
        names += spellings
        properties = {"name": {"enum": spellings}, **OWN.get(kind, {}), **made.get("properties", {})}
        choices.append(
            {
                "title": entry.qualified,
                "description": entry.summary,
                "properties": properties,
                "required": ["name"],
                "additionalProperties": False,
            }
            | ({"$defs": made["$defs"]} if "$defs" in made else {})
        )
    # Without a name the component is a parent's or the method's, and its parameters are not known here.
    choices.append({"title": "inherited", "not": {"required": ["name"]}})
    return {"type": "object", "properties": {"name": {"enum": list(dict.fromkeys(names))}}, "oneOf": choices}
