"""`mmctl show` and `diff` read the runs of the project."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Json, OtherRun, Run
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.store.rows import RunRow
    from mmctl.store.store import Store

UNREADABLE = 10
"""So many runs that cannot be read are named."""


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (show, diff):
        app.command()(command)


@contextmanager
def open_store(newest: int | None = None) -> Iterator[Store]:
    """Open the store of this project, up to date with the run folders; say what cannot be read of them.

    newest: the command shows only so many runs, so that the folders of older ones are not looked into.
    """
    from mmctl import project
    from mmctl.store.reading import open_for_reading, tell

    ask_engines(project.runs_dir())
    with _few_collections(), open_for_reading(project.runs_dir(), newest=newest) as store:
        problems = list(store.unreadable.values())
        for problem in problems[:UNREADABLE]:
            tell(f"warning: {problem}")
        if len(problems) > UNREADABLE:
            tell(f"warning: ... and {len(problems) - UNREADABLE} more runs cannot be read: mmctl db check")
        yield store


def ask_engines(runs: Path, fresh: bool = False) -> None:
    """Let the engines of lasting launchers say how their runs are, and give them what waits; a warning if they fail."""
    from mmctl.run_folder.queue import groups

    if any(group.lasting for group in groups(runs)):
        from mmctl.errors import MmctlError
        from mmctl.store.reading import tell
        from mmctl.sweep.engines import reconcile

        try:
            reconcile(runs, fresh=fresh)
        except (MmctlError, OSError) as error:
            tell(f"warning: {error}")


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let the garbage collector look seldom: ten thousand runs are a million objects, and all of them stay."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def find(store: Store, reference: str) -> RunRow:
    """The run that a RUN argument means."""
    from mmctl.store import select

    return select.find_run(store.runs(), reference)


def selected(store: Store, terms: Sequence[str], archived: bool) -> list[RunRow]:
    """The runs that a FILTER selects; UserError if there is none."""
    from mmctl.errors import UserError
    from mmctl.store import select

    every = store.runs()
    if not (runs := select.select_runs(store, every, terms, archived)):
        raise UserError(f"no run matches{select.why_none(every, terms) or '. `mmctl ls` shows all'}")
    return runs


def show(
    run: Run,
    env: bool = typer.Option(False, "--env", help="Show the code, the machine and all packages instead."),
    as_json: Json = False,
) -> None:
    """Show one run in detail.

    Shows its state, data, hardware, code, last evaluations, warnings, checkpoints and components.

    \b
    Examples:
      mmctl show @last
      mmctl show @last --env
      mmctl show 3 --json
    """
    from mmctl.report import summaries

    with open_store() as store:
        found = summaries.run_details(store, find(store, run))
    if as_json:
        print_json({"run": found})
    else:
        from mmctl.report import console, print_environment, print_runs

        (print_environment.print_environment if env else print_runs.print_run)(found, console.console())


def diff(
    a: Run,
    b: OtherRun,
    everything: bool = typer.Option(False, "--all", help="Show equal settings too."),
    as_json: Json = False,
) -> None:
    """Show how two runs differ.

    Compares their settings, components, data, split, code, packages and machine.

    \b
    Examples:
      mmctl diff 3 4
      mmctl diff @last 1 --all
    """
    from mmctl.report import summaries

    with open_store() as store:
        found = summaries.difference(store, find(store, a), find(store, b), everything)
    if as_json:
        print_json(found)
    else:
        from mmctl.report import console, print_runs

        print_runs.print_difference(found, console.console())
