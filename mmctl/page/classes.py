"""What each class is taken for: recall of each class over the seeds, confusion matrices, the most frequent mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from mmctl.page.figures import matrix
from mmctl.page.html import Ids, Section, grid, table, text
from mmctl.report import plots, stats
from mmctl.report.charts import HeatMap, value
from mmctl.store.rows import RunRow
from mmctl.store.store import Store

DRAWN = 24
"""With more classes, cells of a matrix are too small to be seen, and the page would be large."""
PAIRS = 10
NONE = (
    "No confusion matrix and no recall: none of the runs has been evaluated. Training does it at its end, and "
    "`mmctl evaluate RUN` does it again."
)


def add_classes(store: Store, configurations: Sequence[Sequence[RunRow]], section: Section, ids: Ids) -> None:
    """Recall and confusion of each configuration: its runs of different seeds."""
    found = [group for runs in configurations if (group := plots.with_matrix(store, runs))]
    if not found:
        section.absent(NONE)
        return
    # Titles of their own: they count the seeds that have a matrix.
    titles = plots.group_titles(store, [[run for run, _ in group] for group in found], False)
    groups = list(zip(titles, found, strict=True))
    same: dict[tuple[str, ...], list[tuple[str, list[list[list[int]]]]]] = {}
    for title, group in groups:
        names = tuple(plots.class_names(store, *group[0]))
        same.setdefault(names, []).append((title, [m for _, m in group if len(m) == len(names)]))
    for names, rows in same.items():
        section.add(_recalls(names, rows))
    notes: list[str] = []
    charts = plots.matrix_charts(store, groups, notes)
    section.add(grid([matrix(chart, ids) for chart in charts if len(chart.rows) <= DRAWN]))
    section.add(*(_pairs(chart) for chart in charts if len(chart.rows) > DRAWN))
    section.add(*(f"<p>{text(note)}</p>" for note in notes))


def _recalls(names: Sequence[str], rows: Sequence[tuple[str, Sequence[Sequence[Sequence[int]]]]]) -> str:
    """A line for each configuration: the mean recall of each class, and its deviation over the seeds."""
    made = []
    for title, matrices in rows:
        cells = [text(title)]
        for k in range(len(names)):
            shares = [m[k][k] / sum(m[k]) for m in matrices if sum(m[k])]
            cells.append(_share(shares))
        made.append(cells)
    spread = " \u00b1 standard deviation over the seeds" if any(len(m) > 1 for _, m in rows) else ""
    return table(f"Recall of each class, %{spread}", ["configuration", *names], made)


def _share(shares: Sequence[float]) -> str:
    if not shares:
        return "-"
    mean, std = stats.mean(shares), stats.std(shares)
    said = f"{100 * mean:.1f}" + (f" &plusmn; {100 * std:.1f}" if std is not None else "")
    return f'<span class="share" style="--share:{100 * mean:.0f}%">{said}</span>'


def _pairs(chart: HeatMap) -> str:
    """The most frequent mistakes, where there are too many classes for a drawing."""
    found = [(share, n, m) for n, row in enumerate(chart.cells) for m, share in enumerate(row) if n != m and share > 0]
    found.sort(key=lambda one: (-one[0], one[1:]))
    rows = [[text(chart.rows[n]), text(chart.columns[m]), text(value(share, True))] for share, n, m in found[:PAIRS]]
    caption = f"{chart.title}: the most frequent mistakes of {len(chart.rows)} classes"
    return table(caption, ["true class", "predicted class", "share of the true class"], rows, [False, False, True])
