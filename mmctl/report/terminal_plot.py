"""Charts in a terminal: curves by plotext, bars and tables of characters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from mmctl.report.charts import Bar, BarChart, Chart, HeatMap, LineChart, Point, Span, ticks, value
from mmctl.report.console import cut, print_line, unicode
from mmctl.text import printable

WIDEST, TALLEST, LOWEST = 110, 24, 10
"""The largest width and height of a plot, and the smallest height."""
COLOURS = (33, 208, 36, 170, 178, 245)
"""Numbers of terminal colours that can be seen on a light and a dark background, like those of svg.py."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LETTER_EVERY = 14
"""Columns between two letters on a line."""
BANDED = 4
"""With more lines than this, their bands would hide each other."""
FRAME = str.maketrans("\u250c\u2500\u2510\u2502\u2514\u2518\u2524\u251c\u252c\u2534\u253c", "+-+|++++-++")
SHADES = ((16, 195), (16, 153), (16, 117), (16, 75), (231, 32), (231, 25))
"""Colours of the letters and of the cell, from 0 to 1."""
Bounds: TypeAlias = tuple[float, float, float, float]
"""The ends of the x axis, and of the y axis."""


@dataclass(frozen=True)
class Drawing:
    """How curves are drawn, where a chart is one of several, or changes while a person looks at it."""

    places: Sequence[int]  # for each line: which colour and letter it has
    lettered: bool = True  # letters on the lines, which tell them apart without their colours
    within: Bounds | None = None  # the ends of the axes, instead of those of the lines
    lowest: int = LOWEST  # the smallest height of the plot


def print_chart(chart: Chart, out: Console, height: int = TALLEST + 4, drawing: Drawing | None = None) -> None:
    """Print a chart as wide as the terminal, up to WIDEST columns, with at most `height` lines if it has curves."""
    title = printable(chart.title)
    print_line(out, title if unicode(out) else title.replace("\u00b1", "+-"), "bold")
    match chart:
        case LineChart():
            usual = Drawing(range(len(chart.lines)), lettered=False)
            _print_lines(chart, out, height - 3 - len(chart.lines), drawing or usual)
        case BarChart():
            _print_bars(chart, out)
        case HeatMap():
            _print_heat(chart, out)


def _print_lines(chart: LineChart, out: Console, most: int, drawing: Drawing) -> None:
    # Imported here: it takes 60 ms, and no other page needs it.
    import plotext as plt

    width = min(out.width, WIDEST)
    height = max(drawing.lowest, min(TALLEST, round(width / 3.6), most))
    coloured = out.color_system is not None
    x0, x1, y0, y1 = drawing.within or chart.bounds()
    colours = [COLOURS[place % len(COLOURS)] for place in drawing.places]
    letters = [LETTERS[place % len(LETTERS)] for place in drawing.places]

    def level(y: float) -> float:
        return math.log10(y) if chart.log else y

    plt.clear_figure()
    plt.theme("clear")
    plt.limit_size(False, False)
    plt.plot_size(width, height)
    fine = unicode(out) and (coloured or len(chart.lines) == 1)
    markers = ["braille"] * len(chart.lines) if fine else letters
    markers = ["*"] if len(letters) == 1 and not fine and not drawing.lettered else markers
    banded = len(chart.lines) <= (BANDED if coloured else 1)
    if banded:
        for n, line in enumerate(chart.lines):
            shade = "\u2591" if unicode(out) else ":"
            spread = [
                (x, level(low) + (level(high) - level(low)) * part / height)
                for x, low, high in _every_column(chart, line.band, [x0 + (x1 - x0) * n / width for n in range(width)])
                for part in range(height + 1)
            ]
            if spread:
                plt.scatter([x for x, _ in spread], [y for _, y in spread], marker=shade, color=colours[n])
    for n, line in enumerate(chart.lines):
        for piece in chart.pieces(line):
            xs, ys = [x for x, _ in piece], [level(y) for _, y in piece]
            draw = plt.plot if len(piece) > 1 else plt.scatter
            draw(xs, ys, marker=markers[n], color=colours[n])
    for n, line in enumerate(chart.lines if drawing.lettered else ()):
        spots = _spots(chart.drawn(line.points), max(2, width // LETTER_EVERY), n, len(chart.lines))
        plt.scatter([x for x, _ in spots], [level(y) for _, y in spots], marker=letters[n], color=colours[n])
    plt.xlim(x0, x1)
    plt.ylim(level(y0), level(y1))
    across, up = ticks(x0, x1, max(2, width // 14)), ticks(y0, y1, height // 3, share=chart.share, log=chart.log)
    plt.xticks([tick.at for tick in across], [tick.text for tick in across])
    plt.yticks([level(tick.at) for tick in up], [tick.text for tick in up])
    shown = plt.build().rstrip("\n")
    out.print(Text.from_ansi(shown if unicode(out) else shown.translate(FRAME)), soft_wrap=True)
    hidden = not banded and any(line.band for line in chart.lines)
    note = "; without bands, which would hide each other" if hidden else ""
    print_line(out, f"x: {printable(chart.x)}, y: {printable(chart.y)}{note}", "dim")
    for n, line in enumerate(chart.lines):
        mark = "\u2501\u2501" if markers[n] == "braille" else markers[n] * 2
        mark = f"{letters[n]} {mark}" if drawing.lettered else mark
        last = next((y for _, y in reversed(chart.drawn(line.points))), math.nan)
        text = f" {printable(line.label)}  {value(last, chart.share)}"
        out.print(Text.assemble((mark, f"color({colours[n]})"), text))


def _every_column(chart: LineChart, band: Sequence[Span], places: Sequence[float]) -> Iterator[Span]:
    """A band at these places, between its first and last point; on the way between two points, the way between."""
    spans = [(x, low, high) for x, low, high in band if len(chart.drawn(((x, low), (x, high)))) == 2]
    for (x0, low0, high0), (x1, low1, high1) in pairwise(spans):
        yield x0, low0, high0
        for x in places:
            if x0 < x < x1:
                part = (x - x0) / (x1 - x0)
                yield x, low0 + (low1 - low0) * part, high0 + (high1 - high0) * part


def _spots(points: Sequence[Point], count: int, n: int, lines: int) -> list[Point]:
    """Where line n of some has its letter: at its end, and apart from those of the others where the lines meet."""
    size = len(points)
    if size <= count:
        return list(points)
    return [points[min(size - 1, round((k + (n + 0.5) / lines) * size / count))] for k in range(count)] + [points[-1]]


def _print_bars(chart: BarChart, out: Console) -> None:
    low, high = chart.bounds()
    words = [_interval(bar, chart.share) for bar in chart.bars]
    width = min(out.width, WIDEST)
    right = max(map(cell_len, words), default=0)
    left = min(max((cell_len(printable(bar.label)) for bar in chart.bars), default=0), max(10, width - right - 14))
    room = max(4, width - left - right - 4)
    full, spread, beyond = "\u2588\u2593\u2591" if unicode(out) else "#=-"

    def cell(at: float | None) -> int:
        return 0 if at is None or not math.isfinite(at) else round(room * (at - low) / (high - low))

    for bar, word in zip(chart.bars, words, strict=True):
        zero, end = cell(0.0), cell(bar.value if math.isfinite(bar.value) else 0.0)
        cells = [" "] * room
        cells[min(zero, end) : max(zero, end)] = full * abs(end - zero)
        if bar.low is not None and bar.high is not None:
            for n in range(cell(bar.low), min(room, cell(bar.high))):
                cells[n] = spread if cells[n] == full else beyond
        name = set_cell_size(cut(printable(bar.label), left), left + 2)
        out.print(Text.assemble(name, ("".join(cells), f"color({COLOURS[0]})"), f"  {word}"))
    shaded = f"; in brackets and shaded: {printable(chart.spread)}" if chart.spreads else ""
    print_line(out, printable(chart.x) + shaded, "dim")


def _interval(bar: Bar, share: bool) -> str:
    if bar.low is None or bar.high is None:
        return value(bar.value, share)
    low, high = (value(end, share).removesuffix(" %") for end in (bar.low, bar.high))
    return f"{value(bar.value, share)} [{low}, {high}]"


def _print_heat(chart: HeatMap, out: Console) -> None:
    width = min(out.width, WIDEST)
    count = max(1, len(chart.columns))
    left = min(max((cell_len(printable(name)) for name in chart.rows), default=0), max(4, width - 4 * count - 2), 20)
    longest = max((cell_len(printable(name)) for name in chart.columns), default=0)
    cell = max(min(max(longest + 1, 4), (width - left - 2) // count), 1)
    numbers = cell >= 4
    cell = cell if numbers else max(1, min(2, cell))
    if numbers:
        names = [" " + set_cell_size(printable(name), cell - 1) for name in chart.columns]
        print_line(out, " " * (left + 1) + "".join(names))
    for name, row in zip(chart.rows, chart.cells, strict=True):
        text = Text(set_cell_size(printable(name), left + 1))
        for share in row:
            text.append(*_heat_cell(share, cell, numbers, out))
        out.print(text, no_wrap=True, overflow="crop")
    note = "" if numbers else "; too narrow for the numbers: darker is more"
    print_line(out, f"rows: {printable(chart.y)}, columns: {printable(chart.x)}{note}", "dim")


def _heat_cell(share: float, cell: int, numbers: bool, out: Console) -> tuple[str, str]:
    """A cell and its style."""
    known = math.isfinite(share)
    if not numbers and out.color_system is None:
        levels = " \u2591\u2592\u2593\u2588" if unicode(out) else " .:+#"
        return (levels[math.ceil(4 * share)] if known else "?") * cell, ""
    word = (f"{100 * share:.0f}" if known else "-") if numbers else ""
    letters, ground = SHADES[min(len(SHADES) - 1, round(share * (len(SHADES) - 1)))] if known else (245, 16)
    word = "." if numbers and word == "0" else word
    return word.rjust(cell), f"color({letters}) on color({ground})" if share >= 0.1 else "" if share > 0.005 else "dim"
