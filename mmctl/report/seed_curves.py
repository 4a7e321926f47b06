"""One curve from the curves of several seeds: their mean, with a band."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from mmctl.report import stats
from mmctl.report.charts import Line, Point, Span

BANDS = ("std", "interval", "range", "none")
MOST_POINTS = 400
"""The largest number of points of a drawn curve."""
XY: TypeAlias = list[Point]


def smoothed(curve: Sequence[tuple[int, float]], weight: float) -> list[tuple[int, float]]:
    """A running mean with this weight for what came before; corrected, so that the first value counts as itself."""
    if not weight:
        return list(curve)
    total = share = 0.0
    made = []
    for step, y in curve:
        if math.isfinite(y):
            total, share = weight * total + (1 - weight) * y, weight * share + 1 - weight
            y = total / share
        made.append((step, y))
    return made


def mean_line(title: str, curves: Sequence[XY], band: str, share: bool) -> tuple[Line, float | None]:
    """The mean of curves and its band; and from where on it is over fewer of them.

    Where a curve has no point at a place of another one, the way between its two nearest ones counts.
    """
    if len(curves) < 2:
        return Line(title, curves[0] if curves else []), None
    xs = sorted({x for curve in curves for x, _ in curve})
    if len(xs) > 2 * MOST_POINTS:
        xs = [xs[n * (len(xs) - 1) // (MOST_POINTS - 1)] for n in range(MOST_POINTS)]
    points: XY = []
    spans: list[Span] = []
    counts: list[int] = []
    for x in xs:
        values = [y for curve in curves if math.isfinite(y := _between(curve, x))]
        counts.append(len(values))
        points.append((x, stats.mean(values) if values else math.nan))
        if (ends := _band(values, band, share)) is not None:
            spans.append((x, *ends))
    most = max(counts)
    fewer = next((x for x, (before, now) in zip(xs[1:], pairwise(counts), strict=True) if before == most > now), None)
    return Line(title, points, spans), fewer


def _between(curve: XY, x: float) -> float:
    n = bisect_left(curve, x, key=lambda point: point[0])
    if n < len(curve) and curve[n][0] == x:
        return curve[n][1]
    if n in (0, len(curve)):
        return math.nan
    (x0, y0), (x1, y1) = curve[n - 1], curve[n]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _band(values: Sequence[float], band: str, share: bool) -> tuple[float, float] | None:
    if len(values) < 2 or band == "none":
        return None
    if band == "range":
        return min(values), max(values)
    bounds = (0.0, 1.0) if share else (-math.inf, math.inf)
    if band == "interval":
        return stats.interval(values, bounds=bounds)
    mean, std = stats.mean(values), stats.std(values) or 0.0
    return max(bounds[0], mean - std), min(bounds[1], mean + std)
