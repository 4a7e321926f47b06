"""A site of static pages: an index of all runs, and a page for each configuration."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mmctl
from mmctl import environment
from mmctl.errors import UserError
from mmctl.page import provenance
from mmctl.page.files import check_place, digest_of, is_page, write_page
from mmctl.page.html import Ids, Section, document, link, table, text
from mmctl.page.report import Want, build, curves, lead, results, states, title_of
from mmctl.report import plots, summaries
from mmctl.report.compare import compare
from mmctl.report.comparison import Comparison, Figures, Panel
from mmctl.report.console import figure
from mmctl.store.metrics import has_metric, parse_metric, usual_metrics
from mmctl.store.rows import RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store
from mmctl.text import printable, to_json

if TYPE_CHECKING:
    from mmctl.runs.build import Shared

INDEX = "index.html"
PASSING = ("folder", "rate", "eta", "silent", "number")
"""What of a run is not on its page: where it lies, and what passes with time."""


@dataclass(frozen=True)
class Made:
    """What became of a site: paths within it, and which parts of pages are missing, and why."""

    written: list[str]
    unchanged: list[str]
    stale: list[str]  # pages of earlier reports that the index does not lead to
    missing: list[str]


@dataclass(frozen=True)
class _Group:
    """The runs of a configuration, the name of their page, and what it is called."""

    key: tuple[str, str | None]  # config_id and data_hash
    runs: Sequence[RunRow]
    page: str
    title: str


def make_site(
    store: Store, runs: Sequence[RunRow], folder: Path, want: Want, force: bool, say: Callable[[str], None]
) -> Made:
    """Write the pages that are new or changed; other files of the folder stay. say: gets each page before it is made.

    UserError for a wrong option, if the folder cannot be one, or if it has another file in the place of a page (unless
    `force`); nothing is written then.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--site {printable(folder)}: is a file. Name a folder.")
    groups = _groups(store, runs)
    index, found = _index(store, runs, groups, want)  # it has all runs, so that it knows whether an option is wrong
    folder.mkdir(parents=True, exist_ok=True)
    pages = [INDEX, *(group.page for group in groups)]
    for page in pages:
        check_place(folder / page, force)
    made = Made([], [], [], [])
    shared: Shared = {}
    for group in groups:
        others, base = _baseline(runs, found, group) if want.baseline else ([], None)
        known = [name for name in want.metrics if has_metric(store, [*others, *group.runs], parse_metric(name).name)]
        path, own = folder / group.page, replace(want, title=group.title, baseline=base, metrics=known)
        digest = _digest(store, [*others, *group.runs], own)
        if digest_of(path) == digest:
            made.unchanged.append(group.page)
            continue
        say(group.page)
        built = build(store, group.runs, own, up=INDEX, digest=digest, others=others, shared=shared)
        made.missing.extend(built.missing)
        (made.written if write_page(path, built.html) else made.unchanged).append(group.page)
    # The index last: it never leads to a page that is not there yet.
    changed = write_page(folder / INDEX, index)
    (made.written if changed else made.unchanged).append(INDEX)
    made.stale.extend(sorted(one.name for one in folder.glob("*.html") if one.name not in pages and is_page(one)))
    return made


def _groups(store: Store, runs: Sequence[RunRow]) -> list[_Group]:
    chosen = plots.seed_groups(runs, [])
    every: dict[tuple[str, str | None], list[RunRow]] = {}
    for run in runs:
        every.setdefault((run["config_id"], run["data_hash"]), []).append(run)
    made = []
    for title, group in zip(plots.group_titles(store, chosen, False), chosen, strict=True):
        key = (group[0]["config_id"], group[0]["data_hash"])
        words = re.sub("[^a-z0-9]+", "-", (group[-1]["recipe"] or group[-1]["name"]).lower()).strip("-")[:40] or "runs"
        digits = hashlib.sha256(to_json(key).encode()).hexdigest()[:10]
        made.append(_Group(key, every[key], f"{words}-{digits}.html", title))
    return made


def _baseline(runs: Sequence[RunRow], found: Comparison, group: _Group) -> tuple[list[RunRow], str | None]:
    """The runs that those of a page are tested against, and their config_id; none where the data have no baseline."""
    for panel in found["panels"]:
        rows = {row["config_id"]: row for row in panel["configurations"]}
        if _is_of(panel, group) and group.key[0] in rows and panel["baseline"] is not None:
            uids = {run["uid"] for run in rows[panel["baseline"]]["runs"]} - {run["uid"] for run in group.runs}
            return [run for run in runs if run["uid"] in uids], panel["baseline"]
    return [], None


def _is_of(panel: Panel, group: _Group) -> bool:
    """Whether the runs of a page are compared there; a run that failed before it read its data is in any."""
    return group.key[1] in (None, panel["data_hash"])


def _digest(store: Store, runs: Sequence[RunRow], want: Want) -> str:
    """Of all that a page is made from: its runs, the options, and the code; embeddings and images need most of it."""
    found = []
    for run in runs:
        facts = {key: value for key, value in summaries.run_details(store, run).items() if key not in PASSING}
        found.append([facts, store.evaluations(run), store.pace(run)])
    known = [mmctl.__version__, environment.code(every=True), asdict(want), found]
    return hashlib.sha256(to_json(known).encode()).hexdigest()


def _index(store: Store, runs: Sequence[RunRow], groups: Sequence[_Group], want: Want) -> tuple[str, Comparison]:
    """The page of all runs, and the comparison on it."""
    ids = Ids()
    ids.new("main")
    sections = [Section(ids.new(title), title) for title in ("Configurations", "Results", "Curves", "Runs")]
    found = results(store, runs, want, sections[1], ids)
    sections[0].add(_configurations(store, groups, found))
    curves(store, runs, want, sections[2], ids)
    provenance.add_runs(store, runs, sections[3], {run["id"]: one.page for one in groups for run in one.runs})
    return document(want.title or title_of(runs), lead(runs), sections), found


def _value(store: Store, group: _Group, found: Comparison) -> tuple[str, Figures | None]:
    """The metric and figures of a configuration as the tables have them, or of its own metric if it lacks theirs."""
    own: Comparison | None = None
    if not has_metric(store, group.runs, parse_metric(found["panels"][0]["metrics"][0]["metric"]).name):
        own = compare(store, group.runs, usual_metrics(store, group.runs)[:1])
    for panel in (own or found)["panels"]:
        for row in panel["configurations"]:
            if _is_of(panel, group) and row["config_id"] == group.key[0]:
                return panel["metrics"][0]["metric"], row["values"][0]
    return "", None


def _configurations(store: Store, groups: Sequence[_Group], compared: Comparison) -> str:
    heads = ["configuration", "data set", "labels", "runs", "result", "metric", "states", "newest (UTC)"]
    rows = []
    for group in groups:
        found = summaries.listing(store, group.runs)
        config = store.configs(group.runs[-1:])[group.runs[-1]["id"]]
        metric, value = _value(store, group, compared)
        mean = std = ""
        if value:
            mean, std = (figure(one, parse_metric(metric).name) for one in (value["mean"], value["std"]))
        rows.append(
            [
                link(group.page, group.title),
                text(str(setting(config, "dataset.name") or "").removeprefix("mmctl:")),
                text(found[-1]["labeled"]),
                str(len(found)),
                mean + (f" &plusmn; {std}" if std else ""),
                text(metric),
                text(", ".join(states(group.runs))),
                text(provenance.utc(max(row["created"] for row in found))),
            ]
        )
    right = [False, False, True, True, True, False, False, False]
    return table("All configurations: runs that differ only in the seed", heads, rows, right, "sort")
