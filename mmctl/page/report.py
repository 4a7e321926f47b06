"""Builds the page of some runs: start here. Each part has a file of its own.

    made = build(store, runs, Want())
    made.html               # the page
    made.missing            # parts that are not in it, each with the reason

What needs torch or the data set, embeddings and images, is imported when it is wanted, and a page without it says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mmctl.errors import MmctlError, PluginError, UserError, os_error, suggest
from mmctl.page import classes, embedding, figures, mistakes, provenance
from mmctl.page.html import Ids, Section, document, grid, text
from mmctl.page.mistakes import Never
from mmctl.report import plots
from mmctl.report.compare import How, compare
from mmctl.report.compare_table import Look
from mmctl.report.comparison import Comparison
from mmctl.report.print_compare import comparison_sheets
from mmctl.report.sheet import html_table
from mmctl.run_folder.record import read_record
from mmctl.store.metrics import has_metric, parse_metric, usual_metrics
from mmctl.store.rows import RunRow
from mmctl.store.store import Store
from mmctl.text import whole_number

if TYPE_CHECKING:
    from mmctl.runs.build import Shared

MAPS = 6
"""Configurations whose embeddings are drawn."""
BARS = 24
"""With more configurations, the table says more than bars."""
LISTED = 12
"""Configurations whose mistakes are listed."""
DETAILED = 50
"""Configurations whose classes and provenance are shown: of thousands, a page would be too large to read."""


@dataclass(frozen=True)
class Want:
    """What to put into a page: the options of `mmctl report`.

    metrics: of the tables, by default those of store.metrics.usual_metrics; checkpoint: as in `evaluate`.
    """

    title: str | None = None
    metrics: Sequence[str] = ()
    baseline: str | None = None
    checkpoint: str = "last"
    images: bool = True
    embedding: bool = True


@dataclass
class Page:
    """A page, and which of its parts are missing, and why."""

    html: str
    missing: list[str]


@dataclass
class _Making:
    """What the parts of a page share."""

    store: Store
    runs: Sequence[RunRow]
    want: Want
    others: Sequence[RunRow]
    shared: Shared  # data sets that were read
    ids: Ids = field(default_factory=Ids)
    missing: list[str] = field(default_factory=list)

    def absent(self, section: Section, why: str) -> None:
        """Say on the page and to the caller that a part is not there, and that another time it may be."""
        section.absent(why)
        self.missing.append(why)

    @cached_property
    def groups(self) -> list[tuple[str, list[RunRow]]]:
        """Each configuration with its title, one run of each seed."""
        groups = plots.seed_groups(self.runs, [])
        return list(zip(plots.group_titles(self.store, groups, False), groups, strict=True))

    def newest(self, section: Section, most: int, what: str) -> Iterator[tuple[str, list[RunRow]]]:
        """The newest configurations; then the section says that there are more."""
        yield from self.groups[-most:]
        if (n := len(self.groups)) > most:
            section.add(f"<p>{what} of the newest {most} of {n} configurations; a filter chooses others.</p>")


def build(
    store: Store,
    runs: Sequence[RunRow],
    want: Want,
    *,
    up: str = "",
    digest: str = "",
    others: Sequence[RunRow] = (),
    shared: Shared | None = None,
) -> Page:
    """The page of some runs, at least one; up: the page of all runs; digest: of what it is made from.

    others: runs that are in the tables of the results only, such as those of a baseline; shared: data sets that other
    pages read. The same runs give the same page. UserError for a metric or baseline that none of the runs has.
    """
    making = _Making(store, runs, want, others, {} if shared is None else shared)
    ids = making.ids
    ids.new("main")
    sections = []
    for title, fill in PARTS.items():
        section = Section(ids.new(title), title)
        fill(making, section)
        sections.append(section)
    complete = digest if not making.missing else ""
    html = document(want.title or title_of(runs), lead(runs), sections, up, complete)
    return Page(html, making.missing)


def title_of(runs: Sequence[RunRow]) -> str:
    """What a page is called if nobody says it."""
    if len(runs) == 1:
        return f"Run {runs[0]['uid']}"
    recipes = list(dict.fromkeys(run["recipe"] or run["name"] for run in runs))
    names = ", ".join(recipes[:3]) + (f" and {len(recipes) - 3} more" if len(recipes) > 3 else "")
    return f"{len(runs)} runs of {names}"


def states(runs: Sequence[RunRow]) -> list[str]:
    """How many runs are in each state, in words."""
    return [f"{count} {state}" for state, count in sorted(Counter(run["state"] for run in runs).items())]


def lead(runs: Sequence[RunRow]) -> str:
    """One line: how many runs of what, and how they ended."""
    n = len({(run["config_id"], run["data_hash"]) for run in runs})
    parts = [f"{len(runs)} run{'s' * (len(runs) != 1)}", f"{n} configuration{'s' * (n != 1)}", *states(runs)]
    times = sorted(provenance.utc(run["created"])[:10] for run in runs)
    when = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
    return f"<p>{text('; '.join(parts))}. {text(f'Created {when} (UTC).')}</p>"


def results(store: Store, runs: Sequence[RunRow], want: Want, section: Section, ids: Ids) -> Comparison:
    """The tables of `mmctl compare`, and the means as bars; returns what they show."""
    metrics = list(want.metrics) or usual_metrics(store, runs)
    found = compare(store, runs, metrics, How(baseline=want.baseline))
    section.add(*(html_table(sheet) for sheet in comparison_sheets(found, Look())))
    charts = plots.bar_charts(found)
    section.add(grid([figures.bars(chart, ids) for chart in charts if 1 < len(chart.bars) <= BARS]))
    return found


def curves(store: Store, runs: Sequence[RunRow], want: Want, section: Section, ids: Ids) -> None:
    """The metrics of the tables and the loss, over the steps."""
    names = [parse_metric(name).name for name in want.metrics or usual_metrics(store, runs)]
    _lines(store, runs, section, ids, [*names, "train/loss"], "No curves: none of the runs has values yet.")


def _results(making: _Making, section: Section) -> None:
    runs = sorted([*making.others, *making.runs], key=lambda run: run["id"])
    results(making.store, runs, making.want, section, making.ids)


def _curves(making: _Making, section: Section) -> None:
    curves(making.store, making.runs, making.want, section, making.ids)


def _pseudo(making: _Making, section: Section) -> None:
    none = "No pseudo-label accuracy: these methods make no pseudo-labels, or the labels of their images are not known."
    _lines(making.store, making.runs, section, making.ids, plots.PSEUDO_LABELS, none)


def _lines(store: Store, runs: Sequence[RunRow], section: Section, ids: Ids, names: Sequence[str], none: str) -> None:
    drawn = []
    for name in dict.fromkeys(names):
        if has_metric(store, runs, name):
            notes: list[str] = []
            chart = plots.line_chart(store, runs, name, notes, most=figures.POINTS)
            drawn.append(figures.lines(chart, ids, notes))
    section.add(grid(drawn)) if drawn else section.absent(none)


def _classes(making: _Making, section: Section) -> None:
    groups = [group for _, group in making.newest(section, DETAILED, "Classes")]
    classes.add_classes(making.store, groups, section, making.ids)


def _chosen(making: _Making, section: Section, most: int, what: str) -> Iterator[RunRow]:
    """A run of each configuration, the first that is completed if there is one, below a heading."""
    for title, group in making.newest(section, most, what):
        run = next((run for run in group if run["state"] == "completed"), group[-1])
        section.heading(title if len(group) == 1 else f"{title}: seed {run['seed']}")
        yield run


def _embedding(making: _Making, section: Section) -> None:
    if not making.want.embedding:
        section.absent("No embedding map: --no-embedding was given.")
        return
    section.add("<p>Names stand at the class centroids; a ring marks an image whose prediction is wrong.</p>")
    for run in _chosen(making, section, MAPS, "Maps"):
        folder = making.store.runs_dir / run["uid"]
        if isinstance(step := mistakes.step_of(making.store, run, making.want.checkpoint), Never):
            section.absent(f"No embedding map: {step}")
            continue
        try:
            from mmctl.runs.embed import embedding_map

            found = embedding_map(folder, making.want.checkpoint, making.shared)
        except Exception as error:
            making.absent(section, f"No embedding map: {_reason(error, folder)}")
        else:
            section.add(grid(embedding.embedding_figures(found, making.ids)))


def _mistakes(making: _Making, section: Section) -> None:
    for run in _chosen(making, section, LISTED, "Mistakes"):
        folder = making.store.runs_dir / run["uid"]
        step = mistakes.step_of(making.store, run, making.want.checkpoint)
        found = step if isinstance(step, str) else mistakes.surest_mistakes(making.store, run, step)
        if isinstance(found, Never):
            section.absent(f"No mistakes: {found}")
            continue
        if isinstance(found, str):
            making.absent(section, f"No mistakes: {found}")
            continue
        section.add(f"<p>{text(f'{found.wrong} of {found.images} {found.split} images are wrong ({found.how}).')}</p>")
        images: list[str] = []
        if found.surest and making.want.images:
            try:
                from mmctl.runs.thumbnails import thumbnails

                images = thumbnails(folder, found.split, [one.id for one in found.surest], making.shared)
            except Exception as error:
                making.absent(section, f"Names instead of images: {_reason(error, folder)}")
        elif found.surest:
            section.absent("Names instead of images: --no-images was given.")
        if found.surest:
            section.add(mistakes.mistakes_list(found, images))


def check_step(which: str) -> None:
    """UserError if a word cannot name a checkpoint."""
    known = ("last", "last-good", "best")
    if which not in known and whole_number(which) is None:
        raise UserError(f'--checkpoint "{which}": use a step, last, last-good or best.{suggest(which, known)}')


def _reason(error: Exception, folder: Path) -> str:
    """Why a part is missing, in one line; raises what is a bug of mmctl."""
    if isinstance(error, ImportError):
        return f"{error}. Install what mmctl needs for training, then make the report again."
    known = os_error(error) if isinstance(error, OSError) else error
    if not isinstance(known, MmctlError):
        from mmctl.runs.recorder import out_of_memory, plugin_line  # torch is imported already: it is what failed

        if full := out_of_memory(error, "in this report"):
            return str(full)
        if (place := plugin_line(error, read_record(folder)["components"])) is None:
            raise error
        known = PluginError(f"{place}: {type(error).__name__}: {error}.")
    return " ".join(str(known).split("\n"))


def _runs(making: _Making, section: Section) -> None:
    provenance.add_runs(making.store, making.runs, section)


def _provenance(making: _Making, section: Section) -> None:
    provenance.add_provenance(making.store, making.newest(section, DETAILED, "Provenance"), section)


PARTS = {
    "Results": _results, "Curves": _curves, "Pseudo-labels": _pseudo, "Classes": _classes, "Embeddings": _embedding,
    "Surest mistakes": _mistakes, "Runs": _runs, "Provenance": _provenance,
}  # fmt: skip
"""Title of a section -> what fills it, in this order."""
