"""What a plot shows, apart from how it is drawn: svg.py, png.py and terminal_plot.py draw the same charts.

    chart = LineChart("test accuracy", [Line("mixmatch, 5 seeds", points, band)], x="step", y="accuracy, %", share=True)
    svg(chart)                      # svg.py; the image of a file or a part of a page
    png([chart])                    # png.py
    print_chart(chart, console)     # terminal_plot.py

Values are as in the store: shares are fractions (0.915) and are shown in percent where `share` is true. A value that is
NaN or infinite is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
"""x and y."""
Span: TypeAlias = tuple[float, float, float]
"""x, and the lower and upper end of a band there."""


@dataclass(frozen=True)
class Line:
    """A curve, with a band around it if there is a spread to show."""

    label: str
    points: Sequence[Point]
    band: Sequence[Span] = ()
    place: int | None = None  # decides colour and dashes; None: its place in the chart
    key: tuple[str, ...] = ()  # what it is of, whatever its label says in this chart: config_id, data_hash, run


@dataclass(frozen=True)
class LineChart:
    """Curves over the same axis."""

    title: str
    lines: Sequence[Line]
    x: str = "step"  # what the axes say
    y: str = ""
    share: bool = False
    log: bool = False  # a logarithmic y axis; values of at most 0 are gaps

    def numbered(self) -> Iterator[tuple[int, Line]]:
        """Each line with what decides its colour and dashes."""
        for n, line in enumerate(self.lines):
            yield n if line.place is None else line.place, line

    def described(self) -> str:
        """The chart in words, for people who do not see it."""
        parts = [f"Line chart of {self.y or self.title} by {self.x}."]
        for line in self.lines:
            shown = self.drawn(line.points)
            if shown:
                (x0, y0), (x1, y1) = shown[0], shown[-1]
                low, high = (pick(y for _, y in shown) for pick in (min, max))
                parts.append(
                    f"{line.label}: from {value(y0, self.share)} at {number(x0)} to {value(y1, self.share)} at "
                    f"{number(x1)}, between {value(low, self.share)} and {value(high, self.share)}."
                )
            else:
                parts.append(f"{line.label}: no values.")
        return " ".join(parts)

    def drawn(self, points: Iterable[Point]) -> list[Point]:
        """The points that have a place on the axes."""
        return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not self.log)]

    def pieces(self, line: Line) -> Iterator[list[Point]]:
        """The points of a line between its gaps."""
        piece: list[Point] = []
        for point in line.points:
            if self.drawn([point]):
                piece.append(point)
            elif piece:
                yield piece
                piece = []
        if piece:
            yield piece

    def bounds(self) -> tuple[float, float, float, float]:
        """The smallest and largest x and y, with the bands; some room where they are equal."""
        points = [point for line in self.lines for point in self.drawn(line.points)]
        ends = [self.drawn(((x, low), (x, high))) for line in self.lines for x, low, high in line.band]
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [y for _, y in points] + [y for pair in ends for _, y in pair] or [0.1, 1.0]
        low, high = _apart(min(ys), max(ys), not self.log)
        if self.share and min(ys) >= 0 and max(ys) <= 1:
            low, high = max(low, 0.0), min(high, 1.0)
        return (*_apart(min(xs), max(xs)), low, high)


@dataclass(frozen=True)
class Bar:
    """A value with an interval around it, if there is one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BarChart:
    """Bars side by side, from zero."""

    title: str
    bars: Sequence[Bar]
    x: str = ""  # what the axis of the values says
    share: bool = False
    spread: str = "95 % interval"  # what the intervals are

    @property
    def spreads(self) -> bool:
        """Whether there are intervals."""
        return any(bar.low is not None and bar.high is not None for bar in self.bars)

    def described(self) -> str:
        """The chart in words, for people who do not see it."""
        parts = [f"Bar chart of {self.x or self.title}{f', with the {self.spread}' if self.spreads else ''}."]
        for bar in self.bars:
            between = ""
            if bar.low is not None and bar.high is not None:
                between = f" ({value(bar.low, self.share)} to {value(bar.high, self.share)})"
            parts.append(f"{bar.label}: {value(bar.value, self.share)}{between}.")
        return " ".join(parts)

    def bounds(self) -> tuple[float, float]:
        """The smallest and largest value, with the intervals and with zero."""
        ends = [end for bar in self.bars for end in (bar.value, bar.low, bar.high) if end is not None]
        found = [0.0, *filter(math.isfinite, ends)]
        return _apart(min(found), max(found))


@dataclass(frozen=True)
class HeatMap:
    """A table of values from 0 to 1 as darkness, such as a confusion matrix with rows that sum to 1."""

    title: str
    cells: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    y: str = "true class"
    x: str = "predicted class"

    def described(self) -> str:
        """The chart in words, for people who do not see it: the diagonal and the largest values beside it."""
        parts = [f"Table of {self.title}: {self.y} by {self.x}, in percent."]
        found = [(share, n, m) for n, row in enumerate(self.cells) for m, share in enumerate(row)]
        parts += [f"{self.rows[n]}: {value(share, True)} right." for share, n, m in found if n == m]
        wrong = sorted((one for one in found if one[1] != one[2] and one[0] > 0), reverse=True)[:3]
        parts += [f"{self.rows[n]} as {self.columns[m]}: {value(share, True)}." for share, n, m in wrong]
        return " ".join(parts)


Chart: TypeAlias = LineChart | BarChart | HeatMap


def as_object(chart: Chart) -> dict[str, object]:
    """A chart for JSON; `kind` is lines, bars or matrix."""
    kind = {LineChart: "lines", BarChart: "bars", HeatMap: "matrix"}[type(chart)]
    return {"kind": kind, **asdict(chart)}


def value(y: float, share: bool) -> str:
    """A value for people: percent with one decimal for shares, four digits otherwise."""
    if not math.isfinite(y):
        return str(y)
    return f"{100 * y:.1f} %" if share else f"{y:.4g}"


def number(x: float) -> str:
    """A position on an axis for people, such as `1200` or `0.05`."""
    return f"{x:.0f}" if x == int(x) and abs(x) < 1e7 else f"{x:.4g}"


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where it is, and what it says."""

    at: float
    text: str


def ticks(low: float, high: float, most: int, *, share: bool = False, log: bool = False) -> list[Tick]:
    """Round numbers from low to high, at most about `most` (at least 2); log: 1, 2 and 5 of each power of ten."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = max(1, math.ceil((last - first + 1) / most))
        for marks in ((1,), (1, 2, 5)) if every == 1 else ((1,),):
            at_marks = [m * 10.0**n for n in range(first, last + 1, every) for m in marks]
            at_marks = [at for at in at_marks if low * (1 - 1e-9) <= at <= high * (1 + 1e-9)]
            if len(at_marks) > 2 or (len(at_marks) == 2 and every > 1):
                return [Tick(at, f"{at * (100 if share else 1):g}") for at in at_marks]
    scale = 100 if share else 1
    found: list[Tick] = []
    while len(found) < 2:  # a wide step may miss a short axis
        found = _linear(low * scale, high * scale, most, scale)
        most += 1
    return found


def _linear(low: float, high: float, most: int, scale: int) -> list[Tick]:
    rough = (high - low) / max(1, most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next((unit * m for m in (1, 2, 5, 10) if unit * m >= rough * (1 - 1e-9)), unit * 10)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    places = [n * step for n in range(first, last + 1)]
    return [Tick(at / scale, f"{at:.{digits}f}" if digits <= 6 and abs(at) < 1e7 else f"{at:.6g}") for at in places]


def _apart(low: float, high: float, linear: bool = True) -> tuple[float, float]:
    """Two ends of an axis that are not equal."""
    if high > low and (high - low) > 1e-9 * max(abs(low), abs(high)):
        return low, high
    if not linear:
        return low / 2, high * 2
    room = abs(low) / 10 or 0.5
    return low - room, high + room
