"""Charts as figures of a page: drawn for narrow and wide screens alike, each with its numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mmctl.page.html import Ids, figure, table, text
from mmctl.report.charts import BarChart, Chart, HeatMap, LineChart, number, value
from mmctl.report.shapes import draw
from mmctl.report.svg import elements, framed

WIDTH = 380
"""Of a chart, in pixels: near that of a phone, so that letters stay readable there."""
POINTS = 120
"""At most about so many points of a curve: more would not be seen at this width."""
ROWS = 12
"""At most so many rows of the numbers of curves."""


def lines(chart: LineChart, ids: Ids, notes: Sequence[str] = ()) -> str:
    """Curves, and their values at some places of the axis."""
    xs = sorted({x for line in chart.lines for x, _ in line.points})
    if len(xs) > ROWS:
        xs = [xs[n * (len(xs) - 1) // (ROWS - 1)] for n in range(ROWS)]
    columns = []
    for line in chart.lines:
        at, bands = dict(line.points), {x: (low, high) for x, low, high in line.band}
        cells = []
        for x in xs:
            cell = value(at[x], chart.share) if x in at else ""
            if x in bands:
                cell += f" ({' to '.join(value(end, chart.share) for end in bands[x])})"
            cells.append(text(cell))
        columns.append(cells)
    rows = [[text(number(x)), *(cells[n] for cells in columns)] for n, x in enumerate(xs)]
    numbers = table(chart.title, [chart.x, *(line.label for line in chart.lines)], rows)
    placed = [replace(line, place=ids.place(line.key)) for line in chart.lines]
    shown = replace(chart, lines=placed, y="%" if chart.share else "")
    return figure(_drawn(chart, shown, ids), chart.title, numbers, notes)


def bars(chart: BarChart, ids: Ids) -> str:
    """Bars with their intervals."""
    rows = [
        [
            text(bar.label),
            value(bar.value, chart.share),
            *("" if e is None else value(e, chart.share) for e in (bar.low, bar.high)),
        ]
        for bar in chart.bars
    ]
    numbers = table(chart.title, ["configuration", "mean", "from", "to"], rows)
    return figure(
        _drawn(chart, replace(chart, x="%" if chart.share else "value"), ids), chart.title, numbers, [chart.x]
    )


def matrix(chart: HeatMap, ids: Ids) -> str:
    """A confusion matrix, in percent of each true class."""
    rows = [
        [text(name), *("-" if math.isnan(cell) else f"{100 * cell:.1f}" for cell in row)]
        for name, row in zip(chart.rows, chart.cells, strict=True)
    ]
    numbers = table(f"{chart.title}: a row for each {chart.y}", [chart.y, *chart.columns], rows)
    return figure(_drawn(chart, chart, ids), chart.title, numbers)


def _drawn(chart: Chart, shown: Chart, ids: Ids) -> str:
    """A chart, described in full; shown: with the short words that have room, as the caption says the rest."""
    drawing = draw(shown, WIDTH, titled=False)
    return framed(drawing, chart.title, chart.described(), elements(drawing), ids.new("chart"))
