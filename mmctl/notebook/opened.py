"""Runs, curves and comparisons for notebooks and scripts: plain lists and dicts, which notebooks show as tables.

runs = mmctl.open("runs")
runs.rows("method:mixmatch")                      # the objects of `mmctl ls --json`
runs.curve("3", "test/accuracy")                  # [(step, value), ...]
runs.curves("test/accuracy", "labels:40")         # a line for each configuration, with a band over its seeds
runs.compare("test/accuracy", baseline="digits-supervised")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import cast

from mmctl.errors import UserError
from mmctl.report import listing_columns
from mmctl.report.charts import LineChart
from mmctl.report.compare import How, compare
from mmctl.report.compare_table import Look
from mmctl.report.comparison import Comparison
from mmctl.report.plots import line_chart
from mmctl.report.print_compare import comparison_records, comparison_sheets
from mmctl.report.results import ListingRow
from mmctl.report.sheet import html_table
from mmctl.report.summaries import listing
from mmctl.report.svg import STYLE, svg
from mmctl.store.metrics import short_name, usual_metrics
from mmctl.store.reading import open_for_reading
from mmctl.store.select import find_run, select_runs
from mmctl.text import printable

NEWEST = 20
"""So many runs are shown for a folder."""


class Runs:
    """A folder of runs; each call reads it anew, so that a notebook sees runs that train. Metrics are fractions.

    terms are words and conditions, as of `mmctl ls`; archived: archived runs too, which are hidden otherwise.
    UserError says what is wrong with a filter, a run or a metric.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, *terms: str, archived: bool = False) -> Rows:
        """The runs that a filter selects, oldest first."""
        with open_for_reading(self.folder) as store:
            return Rows(listing(store, select_runs(store, store.runs(), terms, archived)))

    def curve(self, run: str, metric: str) -> list[tuple[int, float]]:
        """Step and value of one curve of a run; metric: a full name, or a short one such as test/accuracy."""
        with open_for_reading(self.folder) as store:
            row = find_run(store.runs(), run)
            names = [one["name"] for one in store.series(row)]
            chosen = [one for one in names if metric in (one, short_name(one))]
            name = row["primary_metric"] if row["primary_metric"] in chosen else next(iter(chosen), metric)
            if not (points := store.points(row, name)):
                raise UserError(f'"{metric}": {row["uid"]} has no such curve. It has: {", ".join(names) or "none"}.')
            return points

    def curves(
        self, metric: str | None = None, *terms: str, x: str = "steps", band: str = "std", smooth: float = 0.0,
        per_seed: bool = False, archived: bool = False,
    ) -> Curves:  # fmt: skip
        """A line for each configuration: the mean over its seeds, with a band; the options are those of `mmctl plot`.

        metric: by default what `mmctl plot` shows; x: steps, images or seconds; band: std, interval, range or none.
        """
        with open_for_reading(self.folder) as store:
            runs, notes = select_runs(store, store.runs(), terms, archived), list[str]()
            name = metric or usual_metrics(store, runs)[0]
            chart = line_chart(store, runs, name, notes, axis=x, band=band, smooth=smooth, per_seed=per_seed)
            return Curves(chart, notes)

    def compare(
        self, *metrics: str, terms: str | Sequence[str] = (), baseline: str | None = None, test: str = "auto",
        level: float = 0.95, by: str | Sequence[str] = "config", x: str | None = None, at: float | None = None,
        archived: bool = False,
    ) -> Compared:  # fmt: skip
        """Configurations over their seeds, as `mmctl compare --json` prints them; the options are those of it.

        terms: one or several; level: a share, such as 0.95; by: fields, or one string with commas between them.
        """
        fields = [field.strip() for field in by.split(",")] if isinstance(by, str) else list(by)
        how = How(baseline=baseline, test=test, level=level, by=fields, x=x, at=at)
        with open_for_reading(self.folder) as store:
            runs = select_runs(store, store.runs(), [terms] if isinstance(terms, str) else terms, archived)
            return Compared(compare(store, runs, metrics or usual_metrics(store, runs), how))

    def to_pandas(self, *terms: str) -> object:
        """The rows as a pandas DataFrame."""
        return self.rows(*terms).to_pandas()

    def _repr_html_(self) -> str:
        with open_for_reading(self.folder) as store:
            runs = select_runs(store, store.runs(), [], False)
            shown = Rows(listing(store, runs[-NEWEST:]))._repr_html_()
        return shown + (f"<p>the newest {NEWEST} of {len(runs)} runs</p>" if len(runs) > NEWEST else "")


class Rows(list[ListingRow]):
    """Runs, one dict for each; a notebook shows them as `mmctl ls` does."""

    def to_pandas(self) -> object:
        """A pandas DataFrame with a row for each run."""
        return _frame(self)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no runs</p>"
        columns = [listing_columns.COLUMNS[n] for n in listing_columns.USUAL if n in listing_columns.COLUMNS]
        return html_table(listing_columns.sheet_of(self, columns))


class Compared(dict[str, object]):
    """The object of `mmctl compare --json`; a notebook shows its tables."""

    def __init__(self, found: Comparison) -> None:
        super().__init__(found)

    def to_pandas(self) -> object:
        """A pandas DataFrame with a row for each configuration and metric, as `mmctl compare --format csv` has them."""
        names, *lines = comparison_records(cast(Comparison, self))
        return _frame([dict(zip(map(str, names), line, strict=True)) for line in lines])

    def _repr_html_(self) -> str:
        return "\n".join(map(html_table, comparison_sheets(cast(Comparison, self), Look()))) or "<p>no runs</p>"


@dataclass(frozen=True)
class Curves:
    """Lines with bands; a notebook draws them. notes: what a reader must know of them."""

    chart: LineChart
    notes: list[str]

    def to_pandas(self) -> object:
        """A pandas DataFrame with a row for each point: line, x, mean, low, high."""
        return _frame([
            {"line": line.label, "x": x, "mean": y, "low": ends.get(x, (None, None))[0],
             "high": ends.get(x, (None, None))[1]}
            for line in self.chart.lines for ends in [{x: (low, high) for x, low, high in line.band}]
            for x, y in line.points
        ])  # fmt: skip

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(printable(note))}</p>" for note in dict.fromkeys(self.notes))
        return f"<style>{STYLE}</style>{svg(self.chart, inline=True)}{said}"


def _frame(rows: Iterable[Mapping[str, object]]) -> object:
    try:
        pandas = import_module("pandas")
    except ImportError as fault:
        raise UserError("to_pandas needs pandas: `pip install pandas`. Without it, use the lists and dicts.") from fault
    return pandas.DataFrame(list(rows))
