"""Numbers of images: rows that are spread evenly, and classes that are uneven."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SKEWED = 3.0
"""A larger ratio of the largest class to the smallest makes classes uneven."""


def evenly_spread(n: int, most: int) -> list[int]:
    """At most so many of the numbers 0 .. n - 1, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist() if n else []


def uneven(counts: Sequence[int]) -> bool:
    """Whether the largest class has far more images than the smallest of those that have any."""
    some = [n for n in counts if n]
    return bool(some) and max(some) / min(some) > SKEWED
