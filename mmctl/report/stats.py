"""Is it better, by how much, and is that noise? Means, intervals and tests over seeds, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import TypedDict, TypeVar

EXACT = 12
"""The largest number of pairs for the permutation test, which counts 2^n sign patterns."""
Key = TypeVar("Key", bound=Hashable)


class Outcome(TypedDict):
    """The outcome of one comparison; `p_min` is the smallest p an exact test of so many runs can give.

    effect: the difference in standard deviations, of the differences if runs are pairs, else of the runs (Hedges' g).
    """

    name: str
    n: int
    diff: float
    effect: float | None
    low: float | None
    high: float | None
    p: float | None
    p_min: float


def mean(values: Sequence[float]) -> float:
    """The average."""
    return math.fsum(values) / len(values)


def std(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample (n - 1); one value has none."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def interval(
    values: Sequence[float], level: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float] | None:
    """The confidence interval of the mean, by Student's t, cut at the bounds of the metric; one value has none.

    Cutting takes away only what is impossible, so that the interval covers the mean as often as without it.
    """
    spread = std(values)
    if spread is None:
        return None
    half = t_quantile(level, len(values) - 1) * spread / math.sqrt(len(values))
    return max(mean(values) - half, bounds[0]), min(mean(values) + half, bounds[1])


def shared(a: Mapping[Key, float], b: Mapping[Key, float]) -> list[tuple[float, float]]:
    """The values of both sides under the same key (seed and split), in the order of the keys."""
    return [(a[key], b[key]) for key in sorted(a.keys() & b.keys(), key=str)]


def paired(pairs: Sequence[tuple[float, float]], level: float = 0.95) -> Outcome | None:
    """Student's t over the differences a - b of runs that share seed and split."""
    if len(pairs) < 2:
        return None
    gaps = [a - b for a, b in pairs]
    diff, n, spread = mean(gaps), len(gaps), std(gaps) or 0.0
    found = _student("paired t", n, diff, spread / math.sqrt(n), n - 1, smallest_p(n), level)
    return found | {"effect": hedges(diff, spread, n - 1)}


def welch(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Outcome | None:
    """Welch's t: two samples, which may differ in size and spread."""
    if len(a) < 2 or len(b) < 2:
        return None
    va, vb = (std(a) or 0.0) ** 2 / len(a), (std(b) or 0.0) ** 2 / len(b)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1)) if va + vb else 1.0
    p_min = min(1.0, 2 / math.comb(len(a) + len(b), len(a)))
    diff, spread = mean(a) - mean(b), math.sqrt((va * len(a) + vb * len(b)) / 2)
    found = _student("Welch t", min(len(a), len(b)), diff, math.sqrt(va + vb), freedom, p_min, level)
    return found | {"effect": hedges(diff, spread, len(a) + len(b) - 2)}


def hedges(diff: float, spread: float, freedom: int) -> float | None:
    """A difference in standard deviations, without the bias of a deviation that comes from few values (Hedges' g).

    Hedges, Journal of Educational Statistics 1981, eq. 6e. None: no spread, or a single degree of freedom.
    """
    if freedom < 2 or spread <= 1e-12 * max(1.0, abs(diff)):
        return None
    unbiased: float = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return unbiased * diff / spread


def mcnemar(better: int, worse: int) -> float:
    """McNemar's exact test: p of so unequal counts if each image were as likely to be in the one as in the other."""
    n, fewer = better + worse, min(better, worse)
    ways = extreme = 1
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        extreme += ways
    return min(1.0, 2 * extreme / (1 << n))


def permutation(pairs: Sequence[tuple[float, float]], level: float = 0.95) -> Outcome | None:
    """Exact sign-flip test: the share of all sign patterns of the differences whose mean is as far from zero."""
    n = len(pairs)
    if not 2 <= n <= EXACT:
        return None
    gaps = [a - b for a, b in pairs]
    seen = abs(math.fsum(gaps))
    # Sums of the same numbers in another order differ in the last bits.
    bar = seen - 1e-12 * math.fsum(abs(gap) for gap in gaps)
    patterns = product((1, -1), repeat=n)
    extreme = sum(abs(sum(s * g for s, g in zip(signs, gaps, strict=True))) >= bar for signs in patterns)
    low, high = interval(gaps, level) or (None, None)
    return {
        "name": "sign flip", "n": n, "diff": mean(gaps), "effect": hedges(mean(gaps), std(gaps) or 0.0, n - 1),
        "low": low, "high": high, "p": extreme / 2**n, "p_min": smallest_p(n),
    }  # fmt: skip


def smallest_p(n: int) -> float:
    """The smallest two-sided p that an exact test of n pairs can give: 0.0625 for five."""
    return min(1.0, 2.0 ** (1 - n))


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of several tests, adjusted by Holm's method for their number."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, ps[i] * (len(ps) - rank)))
        adjusted[i] = least
    return adjusted


def t_tail(t: float, freedom: float) -> float:
    """The probability that Student's t is at least that far from zero, on either side."""
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5) if math.isfinite(t) else 0.0


@cache
def t_quantile(level: float, freedom: float) -> float:
    """The t such that the share `level` of the distribution lies between -t and t."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1 - level:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2


def _student(name: str, n: int, diff: float, error: float, freedom: float, p_min: float, level: float) -> Outcome:
    found: Outcome = {
        "name": name, "n": n, "diff": diff, "effect": None, "low": None, "high": None, "p": None, "p_min": p_min,
    }  # fmt: skip
    if error <= 1e-12 * max(1.0, abs(diff)):  # no spread at all: a t test would claim certainty
        return found | {"p": 1.0 if diff == 0 else None}
    half = t_quantile(level, freedom) * error
    return found | {"low": diff - half, "high": diff + half, "p": t_tail(diff / error, freedom)}


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    result = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * result / a
