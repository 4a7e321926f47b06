"""What stands beside the table, as lines of text: the details of a run, and curves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from mmctl.report import console
from mmctl.report.charts import LineChart
from mmctl.report.plots import MOST_LINES, curve_names, line_chart
from mmctl.report.print_runs import print_run
from mmctl.report.summaries import run_details
from mmctl.report.terminal_plot import Drawing, print_chart
from mmctl.store.metrics import usual_metrics
from mmctl.text import printable
from mmctl.ui.reading import Reader

MOST = MOST_LINES
"""The curves of so many runs are drawn."""
LOWEST = 5
"""Lines of the lowest plot."""
BESIDE = 44
"""Columns of the narrowest of several plots beside each other."""


@dataclass(frozen=True)
class Curves:
    """What a person asks to see of some runs."""

    uids: Sequence[str]  # the place of a run says which colour and letter it has
    metric: str = ""  # empty: what `mmctl plot` shows
    axis: str = "steps"
    log: bool = False
    apart: bool = False  # a plot for each run, on the same axes


def colours() -> str | None:
    """The colours that plots use: those that every terminal with 256 of them has."""
    return None if os.environ.get("NO_COLOR") else "256"


def details(reader: Reader, uid: str, width: int) -> Text:
    """The page of `mmctl show`; RunNotFound if the run is gone."""
    page, text = console.paper(width, 100, colours())
    run = reader.there([uid])[0]
    with reader.open() as store:
        if run["unreadable"]:
            return Text(printable(run["unreadable"]))
        print_run(run_details(store, run), page)
    return Text.from_ansi(text.getvalue())


def curves(reader: Reader, asked: Curves, width: int, height: int) -> Text:
    """The curves of some runs, over each other or beside each other; of many runs those of the first MOST."""
    uids = list(asked.uids[:MOST])
    runs = reader.there(uids)
    notes = [f"the first {MOST} of {len(asked.uids)} marked runs are drawn"] if len(asked.uids) > MOST else []
    with reader.open() as store:
        metric = asked.metric or usual_metrics(store, runs)[0]
        chart = line_chart(
            store, runs, metric, notes, axis=asked.axis, log=asked.log, per_seed=True, numbered=True, band="none"
        )
        known = curve_names(store, runs, metric)
    places = [uids.index(run["uid"]) for run in runs if run["id"] in known]
    if missing := [f"#{run['number']}" for run in runs if run["id"] not in known]:
        notes.append(f"no {metric} yet: {', '.join(missing)}")
    if not chart.lines:
        made = Text("")
    elif asked.apart and len(chart.lines) > 1:
        made = _apart(chart, places, width, height - len(notes))
    else:
        made = _drawn(chart, Drawing(places, lowest=LOWEST), width, height - len(notes))
    for note in notes:
        made.append(f"\n{printable(note)}" if made.plain else printable(note), "dim")
    return made


def metric_names(reader: Reader, uids: Sequence[str]) -> list[str]:
    """The curves that some runs have, the primary metrics and the other main ones first."""
    runs = reader.there(uids)
    with reader.open() as store:
        names = {one["name"] for run in runs for one in store.series(run)}
    main = [name for run in runs if (name := run["primary_metric"]) in names]
    return list(dict.fromkeys([*main, *sorted(names, key=lambda name: (name.count("/") > 1, name))]))


def _drawn(chart: LineChart, drawing: Drawing, width: int, height: int) -> Text:
    page, text = console.paper(width, height, colours())
    print_chart(chart, page, height, drawing)
    return Text.from_ansi(text.getvalue())


def _apart(chart: LineChart, places: Sequence[int], width: int, height: int) -> Text:
    """A plot for each line, in as many columns as have room."""
    across = max(1, min(len(chart.lines), width // BESIDE))
    down = -(-len(chart.lines) // across)
    each = (width - across + 1) // across
    plots = [
        _drawn(
            replace(chart, lines=[line]), Drawing([place], within=chart.bounds(), lowest=LOWEST), each,
            max(LOWEST + 4, height // down),
        ).split("\n")
        for line, place in zip(chart.lines, places, strict=True)
    ]  # fmt: skip
    made = Text()
    for start in range(0, len(plots), across):
        row = plots[start : start + across]
        for n in range(max(map(len, row))):
            for plot in row:
                part = plot[n] if n < len(plot) else Text()
                made.append_text(part)
                made.append(" " * (each + 1 - cell_len(part.plain)))
            made.append("\n")
    return made
