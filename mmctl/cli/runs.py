"""Commands that read what runs have left: ls, show, diff, compare; and the two that add a word: tag, note."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.store.store import Store

METRICS = ["test/accuracy", "test/balanced_accuracy"]
RUN = "A number of `mmctl ls`, a uid or a part of one, a name, @last or @last-failed."
FILTER = (
    "Words (recipe, method, name, run) and conditions: state:failed tag:x labels:320,400 not:method:pi "
    "cfg.optimizer.lr>=0.01 test/accuracy>0.8"
)
JSON = typer.Option(False, "--json", help="Print one JSON object instead.")


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (ls, show, diff, compare, tag, note):
        app.command()(command)


@contextmanager
def opened() -> Iterator[Store]:
    """The store of this project, up to date."""
    from mmctl import project
    from mmctl.store.store import Store

    with Store(project.runs_dir()) as store:
        store.sync()
        for problem in store.unreadable.values():
            typer.echo(f"mmctl: {problem}; this run is left out or not up to date", err=True)
        yield store


def find(store: Store, reference: str) -> dict[str, Any]:
    """The run that a reference means."""
    from mmctl.store import select

    return select.find_run(store.runs(), reference)


def ls(
    terms: list[str] = typer.Argument(None, metavar="[FILTER]...", help=FILTER),
    limit: int = typer.Option(50, "-n", "--limit", min=0, help="Show so many of the newest; 0 for all."),
    everything: bool = typer.Option(False, "--all", help="Show all runs."),
    as_json: bool = JSON,
) -> None:
    """List runs: state, progress and headline figures, the newest at the bottom.

    Examples: mmctl ls | mmctl ls state:failed | mmctl ls mixmatch labels:320 "test/accuracy>0.8"
    """
    from mmctl.report import summaries
    from mmctl.store import select

    with opened() as store:
        runs = store.runs()
        found = select.select_runs(store, runs, terms or [])
        shown = found if everything or limit == 0 else found[-limit:]
        rows = summaries.listing(store, shown)
        folder = store.runs_dir
    if as_json:
        print_json({"total": len(runs), "found": len(found), "runs": rows})
    elif not rows:
        typer.echo("no run matches" if runs else f"no runs in {folder} yet; start one: mmctl run digits", err=True)
    else:
        from mmctl.report import console, print_runs

        out = console.console()
        print_runs.print_listing(rows, out)
        if len(found) > len(rows):
            console.print_line(out, f"the newest {len(rows)} of {len(found)}; mmctl ls --all shows all", "dim")


def show(
    run: str = typer.Argument(metavar="RUN", help=RUN),
    as_json: bool = JSON,
) -> None:
    """Show one run: how it went, on what, its last evaluations, alerts, checkpoints, components.

    Examples: mmctl show @last | mmctl show 3 --json
    """
    from mmctl.report import summaries

    with opened() as store:
        found = summaries.run_details(store, find(store, run))
    if as_json:
        print_json({"run": found})
    else:
        from mmctl.report import console, print_runs

        print_runs.print_run(found, console.console())


def diff(
    a: str = typer.Argument(metavar="RUN", help=RUN),
    b: str = typer.Argument(metavar="RUN", help="The other run."),
    everything: bool = typer.Option(False, "--all", help="Show equal settings too."),
    as_json: bool = JSON,
) -> None:
    """Show what two runs differ in: settings, components, data, split, environment.

    Example: mmctl diff 3 4
    """
    from mmctl.report import summaries

    with opened() as store:
        found = summaries.difference(store, find(store, a), find(store, b), everything)
    if as_json:
        print_json(found)
    else:
        from mmctl.report import console, print_runs

        print_runs.print_difference(found, console.console())


def compare(
    terms: list[str] = typer.Argument(None, metavar="[FILTER]...", help=FILTER),
    metric: list[str] = typer.Option(
        METRICS, "--metric", "-m", help="SPLIT/METRIC, with @last @max @min @median20 @mean20 @step=N @best:METRIC."
    ),
    baseline: str = typer.Option(
        None, "--baseline", "-b", help="Recipe, method or cell that the others are tested against."
    ),
    test: str = typer.Option("auto", "--test", help="auto, paired, welch, permutation or none."),
    per_seed: bool = typer.Option(False, "--per-seed", help="List the runs behind the means."),
    all_keys: bool = typer.Option(False, "--all-keys", help="List all settings, not only those that differ."),
    as_json: bool = JSON,
) -> None:
    """Compare recipes over their seeds: mean, spread, interval, published figure, difference and test.

    Runs that differ in nothing but the seed are one cell. Other data or another number of labels is another panel.

    Examples: mmctl compare | mmctl compare marginmix mixmatch --baseline mixmatch | mmctl compare labels:320 --per-seed
    """
    from mmctl.report import compare as comparing
    from mmctl.store import select

    with opened() as store:
        runs = select.select_runs(store, store.runs(), terms or [])
        found = comparing.compare(store, runs, metric, baseline=baseline, test=test, all_keys=all_keys)
    if as_json:
        print_json(found)
    elif not found["panels"]:
        typer.echo("no run matches; see: mmctl ls", err=True)
    else:
        from mmctl.report import console, print_compare

        print_compare.print_comparison(found, console.console(), per_seed=per_seed, all_keys=all_keys)


def tag(
    run: str = typer.Argument(metavar="RUN", help=RUN),
    add: list[str] = typer.Argument(None, metavar="[TAG]...", help="Tags to add."),
    remove: list[str] = typer.Option([], "--remove", "-r", help="A tag to remove; may be given several times."),
    as_json: bool = JSON,
) -> None:
    """Add tags to a run, remove some, or see them.

    Examples: mmctl tag 3 good | mmctl tag @last final --remove draft | mmctl ls tag:good
    """
    from mmctl.store.select import checked_tags

    added = checked_tags([word.removeprefix("+") for word in add or []])
    checked_tags(remove)
    event = {"e": "tag", "add": added, "remove": remove} if added or remove else None
    _say(run, event, as_json)


def note(
    run: str = typer.Argument(metavar="RUN", help=RUN),
    text: str = typer.Argument(metavar="TEXT", help="What is worth knowing about it."),
    as_json: bool = JSON,
) -> None:
    """Add a note to a run; `mmctl show` prints it.

    Example: mmctl note @last "the learning rate was a mistake"
    """
    from mmctl.errors import UserError

    if not text.strip() or len(text) > 10_000:
        raise UserError("a note has some text, and no more than 10,000 characters of it")
    _say(run, {"e": "note", "text": text}, as_json)


def _say(reference: str, event: dict[str, Any] | None, as_json: bool) -> None:
    """Write an event from outside training to a run's journal, and tell what the run is called now."""
    from mmctl.run_folder import journal

    with opened() as store:
        run = find(store, reference)
        if event is not None:
            journal.append(store.runs_dir / run["uid"], event)
            store.sync([run["uid"]])
            run = find(store, run["uid"])
    if as_json:
        print_json({"uid": run["uid"], "tags": run["tags"]})
    else:
        typer.echo(f"{run['uid']}: " + (" ".join(run["tags"]) or "no tags"))
