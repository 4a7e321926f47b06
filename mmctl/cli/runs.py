"""`mmctl ls`, `show`, `diff` and `compare` read the runs of the project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Archived, Filter, Json, OtherRun, Run, whole
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.store.rows import RunRow
    from mmctl.store.store import Store

METRICS = ["test/accuracy", "test/balanced_accuracy"]
UNREADABLE = 10
"""So many runs that cannot be read are named."""


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (ls, show, diff, compare):
        app.command()(command)


@contextmanager
def open_store() -> Iterator[Store]:
    """Open the store of this project, up to date with the run folders; say what cannot be read of them."""
    from mmctl import project
    from mmctl.store.reading import open_for_reading, tell

    with open_for_reading(project.runs_dir()) as store:
        problems = list(store.unreadable.values())
        for problem in problems[:UNREADABLE]:
            tell(f"warning: {problem}")
        if len(problems) > UNREADABLE:
            tell(f"warning: ... and {len(problems) - UNREADABLE} more runs cannot be read: mmctl db check")
        yield store


def find(store: Store, reference: str) -> RunRow:
    """The run that a RUN argument means."""
    from mmctl.store import select

    return select.find_run(store.runs(), reference)


def ls(
    terms: Filter = None,
    limit: int = typer.Option(50, "--limit", "-n", parser=whole, metavar="N", help="Show the newest N runs; 0 = all."),
    everything: bool = typer.Option(False, "--all", help="Show all runs."),
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """List runs, the newest at the bottom.

    Shows the state, the progress and the main results of each run.

    \b
    Examples:
      mmctl ls
      mmctl ls state:failed
      mmctl ls mixmatch labels:320 'test/accuracy>0.8'
    """
    from mmctl.report import summaries
    from mmctl.store import select

    with open_store() as store:
        runs = store.runs()
        found = select.select_runs(store, runs, terms or [], archived)
        shown = found if everything or limit == 0 else found[-limit:]
        rows = summaries.listing(store, shown)
        folder = store.runs_dir
    if as_json:
        print_json({"total": len(runs), "found": len(found), "runs": rows})
    elif not rows:
        none = f"no run matches{select.why_none(runs, terms or [])}"
        typer.echo(none if runs else f"no runs in {folder} yet. Start one: mmctl run digits", err=True)
    else:
        from mmctl.report import console, print_runs

        out = console.console()
        print_runs.print_listing(rows, out)
        if len(found) > len(rows):
            console.print_line(out, f"the newest {len(rows)} of {len(found)}; `mmctl ls --all` shows all", "dim")


def show(
    run: Run,
    as_json: Json = False,
) -> None:
    """Show one run in detail.

    Shows its state, data, hardware, last evaluations, warnings, checkpoints and components.

    \b
    Examples:
      mmctl show @last
      mmctl show 3 --json
    """
    from mmctl.report import summaries

    with open_store() as store:
        found = summaries.run_details(store, find(store, run))
    if as_json:
        print_json({"run": found})
    else:
        from mmctl.report import console, print_runs

        print_runs.print_run(found, console.console())


def diff(
    a: Run,
    b: OtherRun,
    everything: bool = typer.Option(False, "--all", help="Show equal settings too."),
    as_json: Json = False,
) -> None:
    """Show how two runs differ.

    Compares their settings, components, data, split and environment.

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


def compare(
    terms: Filter = None,
    metric: list[str] = typer.Option(
        METRICS,
        "--metric",
        "-m",
        metavar="METRIC",
        help="A metric such as test/accuracy, optionally with @last, @max, @min, @median20, @mean20, @step=N or "
        "@best:METRIC. Can be given several times.",
    ),
    baseline: str = typer.Option(
        None,
        "--baseline",
        "-b",
        metavar="NAME",
        help="Recipe, method or configuration id that the others are tested against.",
    ),
    test: str = typer.Option(
        "auto", "--test", metavar="TEST", help="Significance test: auto, paired, welch, permutation or none."
    ),
    count_nc: bool = typer.Option(
        False, "--count-nc", help="Count runs that did not converge in accuracies, as chance level."
    ),
    per_seed: bool = typer.Option(False, "--per-seed", help="List the run of each seed too."),
    all_keys: bool = typer.Option(False, "--all-keys", help="List all settings, not only those that differ."),
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """Compare recipes over their seeds.

    Shows the mean, spread and confidence interval of each configuration, the published result, and the difference to
    the baseline with a significance test. A configuration is all runs that differ only in the seed. Each data set and
    each number of labels has a table of its own.

    \b
    Examples:
      mmctl compare
      mmctl compare marginmix mixmatch -b mixmatch
      mmctl compare labels:320 --per-seed
    """
    from mmctl.report import compare as comparing
    from mmctl.store import select

    with open_store() as store:
        every = store.runs()
        runs = select.select_runs(store, every, terms or [], archived)
        found = comparing.compare(
            store, runs, metric, baseline=baseline, test=test, count_nc=count_nc, all_keys=all_keys
        )
    if as_json:
        print_json(found)
    elif not found["panels"]:
        typer.echo(f"no run matches{select.why_none(every, terms or []) or '; `mmctl ls` shows all'}", err=True)
    else:
        from mmctl.report import console, print_compare

        print_compare.print_comparison(found, console.console(), per_seed=per_seed, all_keys=all_keys)
