"""Runs, curves and comparisons as plain lists and dicts, for notebooks and scripts.

runs = mmctl.open("runs")
runs.rows("method=mixmatch")                      # the objects of `mmctl ls --json`
runs.curve("3", "test/ema/head/accuracy")         # [(step, value), ...]
runs.compare("test/accuracy")                     # the object of `mmctl compare --json`
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import import_module
from pathlib import Path

from mmctl.errors import UserError
from mmctl.report.compare import compare
from mmctl.report.results import ListingRow
from mmctl.report.summaries import listing
from mmctl.store.reading import open_for_reading
from mmctl.store.select import find_run, select_runs
from mmctl.text import printable

SHOWN = ("number", "uid", "recipe", "seed", "state", "metric", "value")


class Runs:
    """A folder of runs; each call reads it anew, so that a notebook sees runs that train. Metrics are fractions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, *terms: str) -> list[ListingRow]:
        """The runs that a filter of `mmctl ls` selects, oldest first; UserError for a wrong filter."""
        with open_for_reading(self.folder) as store:
            return listing(store, select_runs(store, store.runs(), terms))

    def curve(self, run: str, name: str) -> list[tuple[int, float]]:
        """Step and value of one series of a run; UserError if there is no such run or series."""
        with open_for_reading(self.folder) as store:
            row = find_run(store.runs(), run)
            points = store.points(row, name)
            if not points:
                known = ", ".join(one["name"] for one in store.series(row)) or "none"
                raise UserError(f'"{name}": {row["uid"]} has no such series. It has: {known}.')
            return points

    def compare(self, *metrics: str, terms: Sequence[str] = ()) -> dict[str, object]:
        """Configurations over their seeds, as `mmctl compare --json` prints them; terms: a filter of runs."""
        with open_for_reading(self.folder) as store:
            return {**compare(store, select_runs(store, store.runs(), terms), metrics or ("test/accuracy",))}

    def to_pandas(self, *terms: str) -> object:
        """The rows as a pandas DataFrame; UserError if pandas is not installed."""
        try:
            pandas = import_module("pandas")
        except ImportError as fault:
            raise UserError("to_pandas needs pandas: `pip install pandas`. rows() has the same as dicts.") from fault
        return pandas.DataFrame(self.rows(*terms))

    def _repr_html_(self) -> str:
        def line(cells: Sequence[object], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(printable(str(cell)))}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(
            line(["" if row.get(key) is None else row.get(key) for key in SHOWN], "td") for row in self.rows()
        )
        return f"<table><thead>{line(SHOWN, 'th')}</thead><tbody>{body}</tbody></table>"
