"""Where everything of a chart stands: lines, boxes and words with their places in pixels, for svg.py and png.py.

A shape has a role, such as `line3` or `axis`; what draws it gives every role its colour.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mmctl.report.charts import BarChart, Chart, HeatMap, LineChart, Point, number, ticks, value

SIZE, SMALL, BIG = 13, 12, 15
"""Sizes of the letters, in pixels."""
GAP = 8
COLOURS = 6
DASHES: Sequence[Sequence[int]] = ((), (8, 4), (2, 3), (10, 3, 2, 3))
"""Lines differ in colour and in dashes: 12 that differ in both, so that no one needs to see colours."""
DOTS = 40
"""A curve with so few points has a dot at each."""


@dataclass(frozen=True)
class Stroke:
    """A line through points; closed: an area instead, without an outline."""

    points: Sequence[Point]
    role: str
    dash: Sequence[int] = ()
    closed: bool = False


@dataclass(frozen=True)
class Box:
    """A rectangle, or a dot if it is round; `tip` is shown where a mouse rests on it."""

    x: float
    y: float
    width: float
    height: float
    role: str
    opacity: float = 1.0
    tip: str = ""
    round: bool = False


@dataclass(frozen=True)
class Words:
    """A text; anchor: which of its ends is at x (start, middle, end). Its middle is at height y."""

    x: float
    y: float
    text: str
    role: str = "words"
    anchor: str = "start"
    size: int = SIZE
    upright: bool = False  # turned by 90 degrees, read from below


Shape: TypeAlias = Stroke | Box | Words


@dataclass
class Drawing:
    """All shapes of a chart, in the order in which they are drawn."""

    width: float
    height: float = 0.0
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draw on top of what is there."""
        self.shapes += shapes


def draw(chart: Chart, width: int, titled: bool = True) -> Drawing:
    """The shapes of a chart that is so many pixels wide, with its title if `titled`; its height follows."""
    drawing, top = Drawing(width), float(GAP)
    if titled:
        drawing.add(Words(GAP, GAP + BIG / 2 + 2, fit(chart.title, width - 2 * GAP, BIG), "title", size=BIG))
        top = 2 * GAP + BIG + 6
    match chart:
        case LineChart():
            _lines(drawing, chart, top)
        case BarChart():
            _bars(drawing, chart, top)
        case HeatMap():
            _heat(drawing, chart, top)
    return drawing


def length(text: str, size: int = SIZE) -> float:
    """About how many pixels a text needs: no font is at hand where an SVG is written."""
    return size * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.57 for c in text)


def fit(text: str, room: float, size: int = SIZE) -> str:
    """A text, cut to a room in pixels."""
    if length(text, size) <= room:
        return text
    while text and length(text, size) > room - size:
        text = text[:-1]
    return f"{text}.."


def _lines(drawing: Drawing, chart: LineChart, top: float) -> None:
    top = _legend(drawing, chart, top)
    x0, x1, y0, y1 = chart.bounds()
    across, up = ticks(x0, x1, 6), ticks(y0, y1, 6, share=chart.share, log=chart.log)
    left = 2 * GAP + SIZE + max((length(tick.text, SMALL) for tick in up), default=0.0)
    right, high = drawing.width - 3 * GAP, max(180.0, 0.45 * drawing.width)
    bottom = top + high

    def place(x: float, y: float) -> Point:
        low, most, at = (math.log10(v) for v in (y0, y1, y)) if chart.log else (y0, y1, y)
        return left + (right - left) * (x - x0) / (x1 - x0), bottom - high * (at - low) / (most - low)

    for tick in up:
        _, y = place(x0, tick.at)
        drawing.add(Stroke(((left, y), (right, y)), "grid"))
        drawing.add(Words(left - 6, y, tick.text, "faint", "end", SMALL))
    for tick in across:
        x, _ = place(tick.at, y0)
        drawing.add(Stroke(((x, bottom), (x, bottom + 4)), "axis"))
        drawing.add(Words(x, bottom + 6 + SMALL / 2, tick.text, "faint", "middle", SMALL))
    drawing.add(Stroke(((left, top), (left, bottom), (right, bottom)), "axis"))
    drawing.add(Words((left + right) / 2, bottom + 14 + 1.5 * SMALL, chart.x, anchor="middle"))
    drawing.add(Words(GAP / 2 + SIZE / 2, (top + bottom) / 2, fit(chart.y, high), anchor="middle", upright=True))
    for n, line in chart.numbered():
        spans = [(x, a, b) for x, a, b in line.band if len(chart.drawn(((x, a), (x, b)))) == 2]
        if len(spans) > 1:
            edge = [place(x, b) for x, _, b in spans] + [place(x, a) for x, a, _ in reversed(spans)]
            drawing.add(Stroke(edge, f"band{n % COLOURS}", closed=True))
    for n, line in chart.numbered():
        for piece in chart.pieces(line):
            drawing.add(Stroke([place(*point) for point in piece], f"line{n % COLOURS}", _dash(n)))
            for x, y in piece if len(line.points) <= DOTS or len(piece) == 1 else ():
                (px, py), tip = place(x, y), f"{line.label}: {value(y, chart.share)} at {number(x)}"
                drawing.add(Box(px - 2.5, py - 2.5, 5, 5, f"fill{n % COLOURS}", tip=tip, round=True))
    drawing.height = bottom + 14 + 2 * SMALL + GAP


def _dash(n: int) -> Sequence[int]:
    return DASHES[n % len(DASHES)]


def _legend(drawing: Drawing, chart: LineChart, top: float) -> float:
    """What each line is, in as many rows as needed; returns the height below it."""
    x, y = float(GAP), top + SIZE / 2
    for n, line in chart.numbered():
        label = fit(line.label, drawing.width - 2 * GAP - 36)
        wide = 32 + length(label) + 2 * GAP
        if x > GAP and x + wide > drawing.width:
            x, y = float(GAP), y + SIZE + 7
        drawing.add(Stroke(((x, y), (x + 26, y)), f"line{n % COLOURS}", _dash(n)), Words(x + 32, y, label))
        x += wide
    return y + SIZE / 2 + 1.5 * GAP


def _bars(drawing: Drawing, chart: BarChart, top: float) -> None:
    low, high = chart.bounds()
    words = [value(bar.value, chart.share) for bar in chart.bars]
    room = min(0.5 * drawing.width, max((length(bar.label) for bar in chart.bars), default=0.0))
    left = GAP + room + GAP
    right = drawing.width - 2 * GAP - max((length(word) for word in words), default=0.0)
    thick, bottom = 20, top + len(chart.bars) * 30.0

    def place(at: float) -> float:
        return left + (right - left) * (at - low) / (high - low)

    for tick in ticks(low, high, 6, share=chart.share):
        x = place(tick.at)
        drawing.add(Stroke(((x, top), (x, bottom)), "grid"))
        drawing.add(Words(x, bottom + 4 + SMALL / 2, tick.text, "faint", "middle", SMALL))
    for n, (bar, word) in enumerate(zip(chart.bars, words, strict=True)):
        y = top + 30 * n + 15
        drawing.add(Words(left - GAP, y, fit(bar.label, room + 1), anchor="end"))
        end = place(bar.value) if math.isfinite(bar.value) else place(0)
        start, edge = sorted((place(0), end))
        tip = f"{bar.label}: {word}"
        drawing.add(Box(start, y - thick / 2, edge - start, thick, "fill0", 0.8, tip))
        last = edge
        if bar.low is not None and bar.high is not None and math.isfinite(bar.low + bar.high):
            a, b = place(bar.low), place(bar.high)
            drawing.add(Stroke(((a, y), (b, y)), "whisker"))
            drawing.add(*(Stroke(((x, y - 5), (x, y + 5)), "whisker") for x in (a, b)))
            last = max(edge, b)
        drawing.add(Words(last + 6, y, word))
    drawing.add(Stroke(((place(0), top), (place(0), bottom)), "axis"))
    says = chart.x + (f"; lines: {chart.spread}" if chart.spreads else "")
    says = fit(says, drawing.width - 2 * GAP)
    middle = min((left + right) / 2, drawing.width - GAP - length(says) / 2)
    drawing.add(Words(middle, bottom + 12 + 1.5 * SMALL, says, anchor="middle"))
    drawing.height = bottom + 12 + 2 * SMALL + GAP


def _heat(drawing: Drawing, chart: HeatMap, top: float) -> None:
    most = max(1, len(chart.columns))
    room = min(0.3 * drawing.width, max((length(name, SMALL) for name in chart.rows), default=0.0))
    left = 2 * GAP + SIZE + room
    cell = max(14.0, min(64.0, (drawing.width - left - 2 * GAP) / most))
    tall = min(cell, 40.0)
    turned = any(length(name, SMALL) > cell - 4 for name in chart.columns)
    under = min(0.3 * drawing.width, max((length(n, SMALL) for n in chart.columns), default=0.0)) if turned else SMALL
    top += GAP / 2
    bottom, middle = top + tall * len(chart.rows), left + cell * most / 2
    for n, (name, row) in enumerate(zip(chart.rows, chart.cells, strict=True)):
        y = top + tall * n
        drawing.add(Words(left - 6, y + tall / 2, fit(name, room + 1, SMALL), "words", "end", SMALL))
        for m, share in enumerate(row):
            x, known = left + cell * m, math.isfinite(share)
            tip = f"{name} as {chart.columns[m]}: {value(share, True)}"
            drawing.add(Box(x + 0.5, y + 0.5, cell - 1, tall - 1, "heat", max(0.0, share) if known else 0.0, tip))
            word = f"{100 * share:.0f}" if known else "-"
            if cell > 20 and word != "0":
                drawing.add(Words(x + cell / 2, y + tall / 2, word, on_heat(share), "middle", SMALL))
    for m, name in enumerate(chart.columns):
        x, y = left + cell * (m + 0.5), bottom + 6
        shown = fit(name, under + 1 if turned else cell, SMALL)
        if turned:
            drawing.add(Words(x, y, shown, "words", "end", SMALL, True))
        else:
            drawing.add(Words(x, y + SMALL / 2, shown, "words", "middle", SMALL))
    drawing.add(Words(middle, bottom + under + 12 + SIZE / 2, chart.x, anchor="middle"))
    drawing.add(Words(GAP / 2 + SIZE / 2, (top + bottom) / 2, chart.y, anchor="middle", upright=True))
    drawing.height = bottom + under + 12 + SIZE + GAP


def on_heat(share: float) -> str:
    """The role of words on a cell: on a dark page, light letters on pale cells and dark ones on full cells."""
    return "on-full" if share > 0.62 else "on-pale"
