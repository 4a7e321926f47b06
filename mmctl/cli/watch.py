"""`mmctl watch`: a live view of the runs that train, over ssh too."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Filter, whole
from mmctl.cli.runs import open_store
from mmctl.text import printable

if TYPE_CHECKING:
    from mmctl.report.live import Watched
    from mmctl.store.rows import RunFacts, RunRow
    from mmctl.store.store import Store

LOOK = 5.0
"""Seconds between two looks for runs that have come."""
SHOWN = 5
PLAIN = 10
"""Seconds between two lines of a run, where there is no terminal."""


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(watch)


def watch(
    terms: Filter = None,
    every: int = typer.Option(
        None, "--every", parser=whole, metavar="SECONDS", help="Time between two updates: 1, or 10 without a terminal."
    ),
) -> None:
    """Watch runs while they train.

    Shows speed, time left, loss, last accuracy and memory of each run, and says how each one ends. Ends with the last
    run, or when you press q. Without FILTER, watches all runs that train or wait, also those that start meanwhile.

    The exit code is that of a training: 0 if all have completed, 3 or 6 if a run has died, 75 if it was stopped.

    \b
    Examples:
      mmctl watch
      mmctl watch @last
      mmctl watch tag:night --every 60 > night.log
    """
    drawn = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    pause = max(1, every if every is not None else 1 if drawn else PLAIN)
    with open_store() as store:
        watching = _Watching(store, terms or [])
        if not watching.uids:
            matching = watching.matching if terms else []
            for run in matching[-SHOWN:]:
                typer.echo(f"{run['uid']}: {run['state']}" + (f": {printable(run['reason'])}" if run["reason"] else ""))
            typer.echo("no run that matches is training or waiting" if terms else "no run is training", err=True)
            if len(matching) == 1:
                _judge(matching)
            return
        with _signals_as_exceptions():
            over = _on_screen(watching, pause) if drawn else _as_lines(watching, pause)
    if over:
        _judge([one.row for one in watching.runs])


def _on_screen(watching: _Watching, pause: int) -> bool:
    """Draw the runs until all have ended; False if the user left before. What has happened stays in the terminal."""
    from mmctl.report import console, live
    from mmctl.report.screen import Screen

    over, key = False, ""
    try:
        with Screen() as screen:
            while not over and key != "q":
                watching.update()
                screen.draw(live.frame(watching.runs, watching.said.lines, watching.note, console.console(), "q: quit"))
                over = watching.over
                key = "" if over else screen.key(pause)
    finally:
        for line in watching.said.lines:
            typer.echo(line)
    return over


def _as_lines(watching: _Watching, pause: int) -> bool:
    """Print what happens, and a line of each run that trains, until all have ended."""
    from mmctl.report import live
    from mmctl.runs.progress import tell

    while True:
        for line in watching.update():
            tell(line, out=True)
        if watching.note:
            tell(f"note: {watching.note}")
        if watching.over:
            return True
        for one in watching.runs:
            if one.row["state"] == "running":
                tell(live.plain_line(one), out=True)
        time.sleep(pause)


class _Watching:
    """The runs that are watched, and what has happened to them."""

    def __init__(self, store: Store, terms: list[str]) -> None:
        from mmctl.report.live import Messages
        from mmctl.store.select import select_runs

        self.store, self.terms = store, terms
        self.matching: list[RunRow] = select_runs(store, store.runs(), terms)
        self.uids: list[str] = []
        self.runs: list[Watched] = []
        self.said, self.note = Messages(), ""
        # These mean one run of now, not those that start later.
        self._fixed = any(term.startswith("@") or term.isdigit() for term in terms)
        self._add(self.matching)
        self._looked = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether all have ended, as far as could be read."""
        return not self.note and not any(one.live for one in self.runs)

    def update(self) -> list[str]:
        """Read what is new; returns what has happened. Runs that have ended stay."""
        from mmctl.errors import EnvironmentFault, UserError
        from mmctl.report.live import read_watched
        from mmctl.store.select import select_runs

        try:
            self.store.sync([one.row["uid"] for one in self.runs if one.live] if self.runs else self.uids)
            if time.monotonic() - self._looked >= LOOK and not self._fixed:
                self.store.sync()
                with suppress(UserError):  # a run that the filter names was removed
                    self._add(select_runs(self.store, self.store.runs(), self.terms))
                self._looked = time.monotonic()
            self.runs = read_watched(self.store, self.store.runs(self.uids))
            self.note = ""
        except EnvironmentFault as fault:  # such as a locked database: it may be free again in a moment
            self.note = str(fault)
        return self.said.compare(self.runs)

    def _add(self, runs: Sequence[RunRow]) -> None:
        from mmctl.report.live import LIVE

        self.uids += [run["uid"] for run in runs if run["state"] in LIVE and run["uid"] not in self.uids]


def _judge(rows: Sequence[RunFacts]) -> None:
    """Raise what says how the runs have ended, unless all have completed."""
    from mmctl.errors import PartFailed, Stopped, TrainingFailed

    died = [row for row in rows if row["state"] in ("failed", "crashed")]
    if died and len(rows) == 1:
        raise TrainingFailed(f"{died[0]['uid']}: {died[0]['state']}: {died[0]['reason'] or 'nobody knows why'}")
    if died:
        raise PartFailed(f"{len(died)} of {len(rows)} runs died: {', '.join(row['uid'] for row in died[:SHOWN])}")
    if stopped := [row for row in rows if row["state"] == "interrupted"]:
        raise Stopped(f"{len(stopped)} of {len(rows)} runs were stopped. Continue:  mmctl resume")


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Let Ctrl-C and kill end the command through its `finally` blocks, which give the terminal back."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
