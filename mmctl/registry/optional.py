"""The word `none`, which takes an inherited value away: TOML has no null."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

NONE = "none"


def without_none(model: type[BaseModel], table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with None where `none` takes an optional value away."""
    names = optional(model) if NONE in table.values() else ()
    return {key: None if value == NONE and key in names else value for key, value in table.items()}


def optional(model: type[BaseModel]) -> set[str]:
    """The parameters that can be without a value; not those whose type has the word `none` itself."""
    found = set()
    for name, field in model.model_fields.items():
        members = set(_members(field.annotation))
        if type(None) in members and NONE not in members:
            found.add(str(field.alias or name))
    return found


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a union, and the values of the literals and enumerations in it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _members(inner[0])
    elif origin is Literal:
        yield from inner
    elif origin in (Union, UnionType):
        for one in inner:
            yield from _members(one)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (member.value for member in annotation)
    else:
        yield origin or annotation
