"""`mmctl ls`, `show`, `diff`, `compare`, `tag`, `note`: what the runs are and which is better."""

from __future__ import annotations

from typing import Any

import typer

JSON = typer.Option(False, "--json", help="One JSON object for programs.")
RUN = typer.Argument(..., metavar="RUN", help="The run: its id or its beginning, name, @last or number.")


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (ls, show, diff, compare, tag, note):
        app.command()(command)


def _print(found: Any) -> None:
    import json
    import math

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): finite(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    typer.echo(json.dumps(finite(found)))


def ls(
    refs: list[str] = typer.Argument(None, metavar="[WORD...]", help="Only runs of this name, method, state, tag ..."),
    limit: int = typer.Option(50, "--limit", "-n", min=1, help="At most that many, the newest."),
    everything: bool = typer.Option(False, "--all", help="No limit."),
    as_json: bool = JSON,
) -> None:
    """List the runs, newest last.

    mmctl ls completed
    """
    from mmctl.find import opened, select
    from mmctl.report import listing, print_listing

    with opened() as store:
        runs = select(store, refs or [])
        shown = runs if everything or as_json else runs[-limit:]
        listed = listing(store, shown)
        if as_json:
            _print({"schema_version": 1, "runs": listed})
            return
        if not runs:
            typer.echo("no runs yet: mmctl run recipes/digits.toml")
            return
        print_listing(listed)
        if len(shown) < len(runs):
            typer.echo(f"the newest {len(shown)} of {len(runs)}; all of them: mmctl ls --all")


def show(ref: str = RUN, as_json: bool = JSON) -> None:
    """Show all that is known of a run."""
    from mmctl.find import find, opened
    from mmctl.portrait import portrait, print_portrait

    with opened() as store:
        found = portrait(store, find(store, ref))
    _print(found) if as_json else print_portrait(found)


def diff(
    first: str = RUN,
    second: str = typer.Argument(..., metavar="RUN", help="The other run."),
    everything: bool = typer.Option(False, "--all", help="Names, notes and execution keys too."),
    as_json: bool = JSON,
) -> None:
    """Show the recipe keys that differ between two runs."""
    from mmctl.compare import differing
    from mmctl.find import find, opened
    from mmctl.report import print_diff

    with opened() as store:
        runs = [find(store, first), find(store, second)]
        configs = store.configs(runs)
    keys = differing([configs[r["id"]] for r in runs], everything)
    if runs[0]["seed"] != runs[1]["seed"]:
        keys = {"seed": [r["seed"] for r in runs], **keys}
    if as_json:
        _print({"schema_version": 1, "runs": [r["uid"] for r in runs], "keys": keys})
    else:
        print_diff([r["uid"] for r in runs], keys)


def compare(
    refs: list[str] = typer.Argument(None, metavar="[WORD...]", help="Only runs of this name, method, state, tag ..."),
    metrics: list[str] = typer.Option(
        [], "--metric", "-m", help="test/accuracy, test/raw/head/nll@last ...; repeatable."
    ),
    baseline: str = typer.Option("", "--baseline", "-b", help="Name or method; absent = the one supervised cell."),
    test: str = typer.Option("auto", "--test", help="auto, paired, welch, permutation or none."),
    per_seed: bool = typer.Option(False, "--per-seed", help="Every run's figure."),
    all_keys: bool = typer.Option(False, "--all-keys", help="Every differing key."),
    as_json: bool = JSON,
) -> None:
    """Compare recipes over seeds: mean, spread, interval, difference to a baseline and its test.

    Runs that differ in their seed alone are one row. The test is paired where both sides have the same seeds and
    splits, else Welch's; p Holm is adjusted for the number of rows.

    mmctl compare --baseline mixmatch --metric test/accuracy@last
    """
    from mmctl.compare import as_json as to_json
    from mmctl.compare import panels
    from mmctl.find import opened, select
    from mmctl.report import print_panels

    wanted = metrics or ["test/accuracy", "test/balanced_accuracy"]
    with opened() as store:
        runs = select(store, refs or [])
        found = panels(store, runs, wanted, baseline or None, test)
    if as_json:
        _print(to_json(found, wanted))
    elif not runs:
        typer.echo("no runs yet: mmctl run recipes/digits.toml")
    else:
        print_panels(found, wanted, per_seed, all_keys)


def tag(
    ref: str = RUN,
    words: list[str] = typer.Argument(..., metavar="TAG...", help="Tags to add; -TAG (after --) removes one."),
) -> None:
    """Add tags to a run, or remove them.

    mmctl tag @last -- good -draft
    """
    from mmctl.errors import UserError
    from mmctl.find import folder_of_run
    from mmctl.journal import append

    names = [w.lstrip("-+") for w in words]
    if any(not n or not n.isprintable() or " " in n or len(n) > 60 for n in names):
        raise UserError("a tag is one printable word of at most 60 characters.")
    gone = [w[1:] for w in words if w.startswith("-")]
    append(folder_of_run(ref), {"e": "tag", "add": [n for n in names if n not in gone], "remove": gone})


def note(ref: str = RUN, text: str = typer.Argument(..., help="A sentence.")) -> None:
    """Add a note to a run."""
    from mmctl.find import folder_of_run
    from mmctl.journal import append

    append(folder_of_run(ref), {"e": "note", "text": text})
