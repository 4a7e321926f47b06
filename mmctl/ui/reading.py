"""What `mmctl ui` shows, read from the index of all runs. One thread at a time uses a Reader; none of it draws.

Nothing is read again while neither the index nor the folders of live runs have changed. All runs are read when there
are new ones, the others only as often as costs little; lines of the table are made for the runs on the screen alone.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmctl.errors import RunNotFound, UserError
from mmctl.report import console, summaries
from mmctl.report.listing_columns import SPARK, USUAL, ListColumn, columns_of
from mmctl.report.listing_order import sort_runs
from mmctl.report.live import LIVE
from mmctl.report.results import ListingRow
from mmctl.run_folder import journal, lease
from mmctl.store import connection
from mmctl.store.connection import IndexUnusable
from mmctl.store.read_curves import read_curves
from mmctl.store.rows import RunRow
from mmctl.store.select import select_runs, why_none
from mmctl.store.store import Store
from mmctl.store.sync import Progress

PATIENCE = 1.0
"""Seconds to wait for other processes; the screen shows what it has, and asks again."""
NEWEST = 200
"""So many runs are read before all of them, and the folders of so many are looked into again."""
LOOK = 2.0
SHARE = 20
"""All runs are read at most each LOOK seconds, and at most for one SHAREth of the time."""
NO_CURVE = [name for name in USUAL if name != "curve"]


@dataclass(frozen=True)
class View:
    """What a person asks to see."""

    filter: str = ""  # as after `mmctl ls`
    sort: str | None = None  # as after `mmctl ls --sort`
    reverse: bool = False
    archived: bool = False
    width: int = 160  # of the table

    def ordered(self, text: str) -> View:
        """In another order, as after `mmctl ls --sort`: -NAME has the smallest at the top; "": by age."""
        down = len(text) > 1 and text.startswith("-")
        return replace(self, sort=text[down:] or None, reverse=down)


@dataclass(frozen=True)
class Snapshot:
    """The runs that a view shows, first the one at the top, and what surrounds them."""

    runs: Sequence[RunRow] = ()
    columns: Sequence[ListColumn] = ()  # without the curve
    total: int = 0
    running: int = 0
    queued: int = 0
    unreadable: int = 0
    why_none: str = ""  # if no run is shown


@dataclass(frozen=True)
class Line:
    """A run as the table shows it."""

    row: ListingRow
    curve: str


@dataclass(frozen=True)
class Change:
    """A run that has ended since the last reading."""

    run: RunRow
    before: str


class Reader:
    """Reads the runs of a folder, again and again."""

    def __init__(self, runs_dir: Path, say: Callable[[str], None] = lambda text: None) -> None:
        """say: called with a line about what takes long."""
        self.runs_dir, self._say = runs_dir, say
        self.runs: list[RunRow] = []
        self._live: list[RunRow] = []
        self.readings = 0
        self._memory: Store | None = None
        self._seen: object = None
        self._folder: int | None = None
        self._listed: tuple[int | None, int] = (None, 0)
        self._read_at, self._took, self._owed = 0.0, 0.0, False

    def refresh(self, force: bool = False, progress: Progress = lambda done, total: None) -> list[Change] | None:
        """Read what is new; None if nothing is, else the runs that have ended. force: look into all folders.

        EnvironmentFault if it cannot be read now; what was read before stays.
        """
        mark, now = self._mark(), time.monotonic()
        due = now - self._read_at > max(LOOK, SHARE * self._took)
        if not force and mark == self._seen and not (self._owed and due):
            return None
        folder = self._names()
        whole = force or due or folder != self._folder
        live = [run["uid"] for run in self._live]
        with self.open() as store:
            if force:
                store.sync(progress=progress)
            else:
                store.sync(None if whole else live, newest=NEWEST if whole else None)
            found = store.runs(None if whole else live)
        self._seen, self._folder, self._owed = mark, folder, not whole
        self.readings += 1
        if whole:
            self._read_at, self._took = time.monotonic(), time.monotonic() - now
        before = {run["uid"]: run for run in self.runs}
        after = {run["uid"]: run for run in found}
        self._take(found) if whole else self._update(found)
        return [
            Change(run, before[uid]["state"]) for uid, run in after.items()
            if uid in before and before[uid]["state"] in LIVE and run["state"] not in LIVE
        ]  # fmt: skip

    def first(self) -> None:
        """Read the newest runs alone, which takes no time, before `refresh(force=True)` reads all."""
        with self.open() as store:
            self._take(store.runs(newest=NEWEST))

    def snapshot(self, view: View) -> Snapshot:
        """The runs that a view shows; UserError if its filter or its order is wrong."""
        terms = filter_terms(view.filter)
        with self.open() as store:
            found = select_runs(store, self.runs, terms, view.archived)
            if view.sort:
                found = sort_runs(store, found, f"{'-' if view.reverse else ''}{view.sort}")
                found.reverse()
            elif not view.reverse:
                found.reverse()
            columns = columns_of(store, found, NO_CURVE, lambda values: "", width=view.width)
        states = [run["state"] for run in self.runs]
        none = ""
        if not found:
            none = f"no run matches{why_none(self.runs, terms)}" if self.runs else f"no runs in {self.runs_dir} yet"
            none += "" if self.runs else ". Start one: mmctl run digits"
        return Snapshot(
            found, columns, len(states), states.count("running"), states.count("queued"), states.count("unreadable"),
            none,
        )  # fmt: skip

    def lines(self, runs: Sequence[RunRow]) -> dict[str, Line]:
        """What the table says of some runs, by uid; of those that are gone, nothing."""
        page, _ = console.paper(SPARK, 1, None)
        with self.open() as store:
            rows = summaries.listing(store, runs)
            curves = read_curves(store, runs, {run["primary_metric"] for run in runs}, SPARK, apart=True)
        made = {}
        for run, row in zip(runs, rows, strict=True):
            curve = curves.get((run["id"], run["primary_metric"]), [])
            made[run["uid"]] = Line(row, console.spark([value for _, value in curve], page))
        return made

    def chosen(self, uids: Sequence[str]) -> list[RunRow]:
        """The runs with these uids, in this order; those that are gone are left out."""
        known = {run["uid"]: run for run in self.runs}
        return [known[uid] for uid in uids if uid in known]

    def there(self, uids: Sequence[str]) -> list[RunRow]:
        """The same; RunNotFound if all of them are gone."""
        if not (runs := self.chosen(uids)):
            raise RunNotFound(f"{', '.join(uids)}: this run is gone. Was it removed, or its folder renamed?")
        return runs

    def use(self, work: Callable[[Store], Sequence[RunRow]]) -> None:
        """Do something with the store that returns runs as they are then."""
        with self.open() as store:
            self._update(work(store))

    def close(self) -> None:
        """Close an index in memory; others are closed after each use."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    @contextmanager
    def open(self) -> Iterator[Store]:
        """The store. It is not kept open, so that others can make the index again, unless it is in memory."""
        try:
            store = Store(self.runs_dir, patience=PATIENCE, say=self._say)
        except IndexUnusable:
            if self._memory is None and self.runs:
                raise
            self._memory = self._memory or Store(self.runs_dir, memory=True)
            store = self._memory
        if store.memory and store is not self._memory:
            if self._memory is None:
                self._memory = store
                store.sync()
            else:
                store.close()
                store = self._memory
        try:
            yield store
        finally:
            if store is not self._memory:
                store.close()
                self.close()  # it can be read from disk again

    def _update(self, found: Sequence[RunRow]) -> None:
        """Take these runs instead of what was known of them."""
        now = {run["uid"]: run for run in found}
        self._take([now.get(run["uid"], run) for run in self.runs])

    def _take(self, runs: list[RunRow]) -> None:
        self.runs = runs
        self._live = [run for run in runs if run["state"] in LIVE]

    def _names(self) -> int:
        """Changes with the names in the folder, without those of the database, which come and go as it is opened."""
        modified = _modified(self.runs_dir)
        if modified != self._listed[0]:
            try:
                names = frozenset(name for name in os.listdir(self.runs_dir) if not name.startswith(connection.FILE))  # noqa: PTH208
            except OSError:
                names = frozenset()
            self._listed = modified, hash(names)
        return self._listed[1]

    def _mark(self) -> object:
        """What changes whenever there may be something new."""
        marks: list[object] = [self._names(), *(_size(self.runs_dir / (connection.FILE + end)) for end in ("", "-wal"))]
        for run in self._live:
            folder, n = self.runs_dir / run["uid"], run["attempt"] or 0
            marks.append(_size(folder / lease.FILE))
            marks += [_size(journal.path_of(folder, attempt)) for attempt in (n, n + 1)]
        return marks


def filter_terms(text: str) -> list[str]:
    """The words of a filter, split as a shell does; UserError if a quote has no end."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{str(error).lower()}: quotes come in pairs") from None


def differences(base: Line | None) -> Callable[[ListingRow], str]:
    """The text of the column with the difference of each result to that of the baseline."""

    def text(row: ListingRow) -> str:
        if base is None or row["value"] is None:
            return ""
        if row["uid"] == base.row["uid"]:
            return "baseline"
        if base.row["value"] is None or row["metric"] != base.row["metric"]:
            return ""
        return console.figure(row["value"] - base.row["value"], row["metric"], sign=True)

    return text


def _modified(path: Path) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - Path.stat is slower
    except OSError:
        return None


def _size(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat is slower
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if found.st_size else None
