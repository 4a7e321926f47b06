"""Whether a mirrored image may belong to another class, by the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = (("left", "right"), ("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"))
SYMBOLS = re.compile(r"(?:class|digit|label|letter|char)?[ _-]?([0-9]|[a-z])", re.IGNORECASE)


def unsafe_flip(classes: Sequence[str]) -> str | None:
    """Why horizontal flips look unsafe: the classes are digits or letters, or differ in left and right; else None."""
    words = {name: re.split(r"[^a-z0-9]+", name.lower()) for name in classes}
    for one, other in SIDES:
        for name, parts in words.items():
            twin = [other if part == one else part for part in parts]
            if one in parts and (found := next((n for n, p in words.items() if p == twin), None)):
                return f"the classes {name} and {found} are mirror images of each other"
    symbols = [match for name in classes if (match := SYMBOLS.fullmatch(name))]
    if len(classes) > 1 and len(symbols) == len(classes):
        kind = "digits" if all(match[1].isdigit() for match in symbols) else "letters"
        return f"the classes look like {kind}, and a mirrored one is none"
    return None
