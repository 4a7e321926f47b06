"""The result of checking a recipe: all values, and the component of each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from mmctl.plugin import LossTerm
from mmctl.recipe.settings import Settings, Table
from mmctl.registry.parameters import Shape
from mmctl.registry.sources import Entry


class Part(NamedTuple):
    """One component of a recipe, ready to be built."""

    entry: Entry
    component: Callable[..., Any]
    shape: Shape
    params: dict[str, Any]  # as Python values


@dataclass
class Resolved:
    """A checked recipe."""

    data: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)  # tables with fixed keys, and "top"
    parts: dict[tuple[str, str | None], Part] = field(default_factory=dict)
    slots: dict[str, LossTerm] = field(default_factory=dict)
    after: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The tables with fixed keys, typed."""
        return Settings(**self.tables)  # type: ignore[arg-type]  # each table was checked against the model of its name


def policy_chain(name: str, after: Mapping[str, str | None]) -> tuple[str, ...]:
    """The augmentation policies of a view in the order in which they are applied; none for `clean`."""
    if name == "clean":
        return ()
    before = after.get(name)
    return (*(policy_chain(before, after) if before else ()), name)


def build_order(after: Mapping[str, str | None]) -> tuple[str, ...]:
    """All policies in the order in which they must be built: each after the one in its `after`."""
    return tuple(dict.fromkeys(policy for name in after for policy in policy_chain(name, after)))
