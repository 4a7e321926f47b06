"""A site of static pages: an index of all runs, and a page for each configuration."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import mmctl
from mmctl.errors import UserError
from mmctl.page import provenance
from mmctl.page.files import check_place, digest_of, is_page, write_page
from mmctl.page.html import Ids, Section, document, link, table, text
from mmctl.page.report import Want, build, curves, lead, results, title_of
from mmctl.report import plots, stats, summaries
from mmctl.report.console import figure
from mmctl.store.rows import RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store
from mmctl.text import printable, to_json

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

    runs: Sequence[RunRow]
    page: str
    title: str


def make_site(
    store: Store, runs: Sequence[RunRow], folder: Path, want: Want, force: bool, say: Callable[[str], None]
) -> Made:
    """Write the pages that are new or changed; other files of the folder stay. say: gets each page before it is made.

    UserError if the folder cannot be one, or has another file in the place of a page (unless `force`).
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--site {printable(folder)}: is a file. Name a folder.")
    groups = _groups(store, runs)
    folder.mkdir(parents=True, exist_ok=True)
    pages = [INDEX, *(group.page for group in groups)]
    for page in pages:
        check_place(folder / page, force)
    made = Made([], [], [], [])
    for group in groups:
        path, own = folder / group.page, replace(want, title=group.title)
        digest = _digest(store, group.runs, own)
        if digest_of(path) == digest:
            made.unchanged.append(group.page)
            continue
        say(group.page)
        built = build(store, group.runs, own, INDEX, digest)
        made.missing.extend(built.missing)
        (made.written if write_page(path, built.html) else made.unchanged).append(group.page)
    # The index last: it never leads to a page that is not there yet.
    changed = write_page(folder / INDEX, _index(store, runs, groups, want))
    (made.written if changed else made.unchanged).append(INDEX)
    made.stale.extend(sorted(one.name for one in folder.glob("*.html") if one.name not in pages and is_page(one)))
    return made


def _groups(store: Store, runs: Sequence[RunRow]) -> list[_Group]:
    chosen = plots.seed_groups(runs, [])
    made = []
    for title, group in zip(plots.group_titles(store, chosen, False), chosen, strict=True):
        config, data = group[0]["config_id"], group[0]["data_hash"]
        own = [run for run in runs if (run["config_id"], run["data_hash"]) == (config, data)]
        words = re.sub("[^a-z0-9]+", "-", (group[-1]["recipe"] or group[-1]["name"]).lower()).strip("-")[:40] or "runs"
        key = hashlib.sha256(to_json([config, data]).encode()).hexdigest()[:10]
        made.append(_Group(own, f"{words}-{key}.html", title))
    return made


def _digest(store: Store, runs: Sequence[RunRow], want: Want) -> str:
    """Of all that a page is made from: what is known of its runs, the options, and the code that makes it."""
    found = []
    for run in runs:
        known = {key: value for key, value in summaries.run_details(store, run).items() if key not in PASSING}
        found.append([known, store.evaluations(run), store.pace(run)])
    return hashlib.sha256(to_json([mmctl.__version__, _code(), asdict(want), found]).encode()).hexdigest()


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for room in ("page", "report"):
        for file in sorted((Path(mmctl.__file__).parent / room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _index(store: Store, runs: Sequence[RunRow], groups: Sequence[_Group], want: Want) -> str:
    ids = Ids()
    ids.new("main")
    sections = [Section(ids.new(title), title) for title in ("Configurations", "Results", "Curves", "Runs")]
    sections[0].add(_configurations(store, groups))
    results(store, runs, want, sections[1], ids)
    curves(store, runs, want, sections[2], ids)
    provenance.add_runs(store, runs, sections[3], {run["id"]: one.page for one in groups for run in one.runs})
    return document(want.title or title_of(runs), lead(store, runs), sections)


def _configurations(store: Store, groups: Sequence[_Group]) -> str:
    heads = ["configuration", "data set", "labels", "runs", "result", "metric", "states", "newest (UTC)"]
    rows = []
    for group in groups:
        found = summaries.listing(store, group.runs)
        values = [row["value"] for row in found if row["state"] == "completed" and row["value"] is not None]
        metric, config = found[-1]["metric"], store.configs(group.runs[-1:])[group.runs[-1]["id"]]
        states: dict[str, int] = {}
        for row in found:
            states[row["state"]] = states.get(row["state"], 0) + 1
        mean = figure(stats.mean(values), metric) if values else ""
        std = stats.std(values) if len(values) > 1 else None
        rows.append(
            [
                link(group.page, group.title),
                text(str(setting(config, "dataset.name") or "").removeprefix("mmctl:")),
                text(found[-1]["labeled"]),
                str(len(found)),
                mean + (f" &plusmn; {figure(std, metric)}" if std is not None else ""),
                text(metric),
                text(", ".join(f"{count} {state}" for state, count in sorted(states.items()))),
                text(provenance.utc(max(row["created"] for row in found))),
            ]
        )
    right = [False, False, True, True, True, False, False, False]
    return table("All configurations: runs that differ only in the seed", heads, rows, right, "sort")
