"""The statistics of a comparison over seeds: intervals and tests that say what n allows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

EXACT = 12
"""Up to so many pairs, all sign flips are tried."""


class Test(NamedTuple):
    """The difference of two cells: a minus b."""

    name: str  # paired, welch, permutation
    n: int  # pairs, or the smaller group
    difference: float
    low: float | None  # 95 % interval of the difference
    high: float | None
    p: float | None
    smallest: float | None  # the smallest p that this n allows, where there is one


def t_quantile(df: float, level: float = 0.95) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def t_p(t: float, df: float) -> float:
    """Two-sided p of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % t interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def paired(a: Sequence[float], b: Sequence[float]) -> Test:
    """Paired t over the same seeds and splits."""
    d = [x - y for x, y in zip(a, b, strict=True)]
    m = mean(d)
    if len(d) < 2:
        return Test("paired", len(d), m, None, None, None, None)
    low, high = interval(d) or (m, m)
    s = stdev(d) / math.sqrt(len(d))
    # Equal differences leave no spread to test against: t is unbounded, or there is no difference at all.
    p = (1.0 if m == 0 else 0.0) if s == 0 else t_p(m / s, len(d) - 1)
    return Test("paired", len(d), m, low, high, p, None)


def welch(a: Sequence[float], b: Sequence[float]) -> Test:
    """Welch's t of two groups that share nothing."""
    m = mean(a) - mean(b)
    n = min(len(a), len(b))
    if n < 2:
        return Test("welch", n, m, None, None, None, None)
    va, vb = stdev(a) ** 2 / len(a), stdev(b) ** 2 / len(b)
    if va + vb == 0:
        return Test("welch", n, m, m, m, 1.0 if m == 0 else 0.0, None)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    s = math.sqrt(va + vb)
    half = t_quantile(df) * s
    return Test("welch", n, m, m - half, m + half, t_p(m / s, df), None)


def permutation(a: Sequence[float], b: Sequence[float]) -> Test:
    """Exact sign-flip test of paired differences; its smallest p is 2 / 2^n."""
    d = [x - y for x, y in zip(a, b, strict=True)]
    n = len(d)
    if not 1 <= n <= EXACT:
        raise ValueError(f"the exact sign-flip test is for 1 to {EXACT} pairs, and there are {n}")
    seen = abs(sum(d)) * (1 - 1e-12)
    flips = sum(
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) >= seen for signs in itertools.product((1, -1), repeat=n)
    )
    low, high = interval(d) or (None, None)
    return Test("permutation", n, mean(d), low, high, flips / 2**n, 2 / 2**n)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjustment for several comparisons, in the given order."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = worst
    return adjusted
