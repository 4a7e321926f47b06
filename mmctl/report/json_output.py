"""Results as JSON, for programs."""

from __future__ import annotations

from collections.abc import Mapping

from mmctl.text import to_json

LONG = 200_000
"""A longer text is not for people: without line breaks it is made several times as fast."""


def print_json(value: Mapping[str, object]) -> None:
    """One object in pure ASCII; NaN is null and infinity is the text "inf" or "-inf", as in the journal."""
    whole = {"schema_version": 1, **value}
    text = to_json(whole)
    print(text if len(text) > LONG else to_json(whole, indent=2))
