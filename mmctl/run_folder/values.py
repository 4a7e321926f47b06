"""Values from JSON files that may hold anything: limits, and conversions that never fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mmctl.run_folder.upgrade import Setting

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that a JSON text can hold."""


DEPTH = 50
"""Lists and objects of a line, or of run.json, may be nested this many times."""


def deeper_than(value: object, depth: int) -> bool:
    """Whether lists and objects are nested more than `depth` times; json and SQLite fail on some that are."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True


def text(value: object) -> str:
    """Any value as text that SQLite takes."""
    if isinstance(value, str) and value.isascii():
        return value
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def whole(value: object) -> int | None:
    """A whole number that fits a database, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def number(value: object) -> float | None:
    """A number, or None."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e308 else None


def words(value: object) -> list[str]:
    """The texts of a list."""
    return [text(item) for item in value if isinstance(item, str)] if isinstance(value, list) else []


def flatten(config: Setting, prefix: str = "") -> dict[str, Setting]:
    """A resolved recipe as one flat table, `optimizer.lr` -> 0.03."""
    if not isinstance(config, dict) or not config:
        return {prefix: config} if prefix else {}
    flat: dict[str, Setting] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
