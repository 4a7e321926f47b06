"""Results as JSON, for programs."""

from __future__ import annotations

from collections.abc import Mapping

from mmctl.text import to_json


def print_json(value: Mapping[str, object]) -> None:
    """One object in pure ASCII; NaN is null and infinity is the text "inf", as in the journal."""
    print(to_json({"schema_version": 1, **value}, indent=2))
