"""`mmctl show` and `diff` read the runs of the project; `tag` and `note` add to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Json, OtherRun, Run
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.run_folder.events import Event
    from mmctl.store.rows import RunRow
    from mmctl.store.store import Store

UNREADABLE = 10
"""So many runs that cannot be read are named."""


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (show, diff, tag, note):
        app.command()(command)


@contextmanager
def open_store(newest: int | None = None) -> Iterator[Store]:
    """Open the store of this project, up to date with the run folders; say what cannot be read of them.

    newest: the command shows only so many runs, so that the folders of older ones are not looked into.
    """
    from mmctl import project
    from mmctl.store.reading import open_for_reading, tell

    with open_for_reading(project.runs_dir(), newest=newest) as store:
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


def tag(
    run: Run,
    add: list[str] = typer.Argument(None, metavar="TAG", help="Tags to add. +TAG is a tag that looks like a run."),
    remove: list[str] = typer.Option(
        [], "--remove", "-r", metavar="TAG", help="Remove a tag. Can be given several times."
    ),
    as_json: Json = False,
) -> None:
    """Add, remove or show the tags of a run.

    A tag is one word. `mmctl ls tag:good` lists the runs with a tag.

    \b
    Examples:
      mmctl tag 3 good
      mmctl tag @last final --remove draft
      mmctl ls tag:good
    """
    from mmctl.errors import UserError
    from mmctl.run_folder.events import Tag
    from mmctl.store.select import checked_tags
    from mmctl.text import printable

    added = checked_tags([word.removeprefix("+") for word in add or []])
    checked_tags(remove, new=False)
    with open_store() as store:
        found = find(store, run)
        known = {"@last", "@last-failed"}.union(*((one["uid"], str(one["number"])) for one in store.runs()))
        for word in add or []:
            if word in known:
                others = " ".join(one for one in added if one != word)
                raise UserError(
                    f'"{word}" is a run, and a command tags one run. To tag that run too: mmctl tag {word} '
                    f"{others or 'TAG'}. For a tag with this name: mmctl tag {run} +{word}"
                )
        if added or remove:
            found = _append_event(store, found, Tag(add=added, remove=remove))
    if as_json:
        print_json({"uid": found["uid"], "tags": found["tags"]})
    else:
        typer.echo(f"{found['uid']}: " + (printable(" ".join(found["tags"])) or "no tags"))


def note(
    run: Run,
    text: str = typer.Argument(None, metavar="TEXT", help="The note, in quotes."),
    as_json: Json = False,
) -> None:
    """Add a note to a run, or show its notes.

    Without TEXT, prints the notes. `mmctl show` prints them too.

    \b
    Examples:
      mmctl note @last "the learning rate was too high"
      mmctl note @last
    """
    from mmctl.errors import UserError
    from mmctl.report.summaries import notes_of
    from mmctl.run_folder.events import Note
    from mmctl.text import printable

    if text is not None and (not text.strip() or len(text) > 10_000):
        raise UserError("the text of a note must have between 1 and 10,000 characters")
    with open_store() as store:
        found = find(store, run)
        if text is not None:
            found = _append_event(store, found, Note(text=text))
        notes = notes_of(store, found)
    if as_json:
        print_json({"uid": found["uid"], "notes": notes})
    else:
        for words in [one["text"] for one in notes] or ["no notes"]:
            typer.echo(f"{found['uid']}: {printable(words)}")


def _append_event(store: Store, run: RunRow, event: Event) -> RunRow:
    """Write an event to the journal of a run; returns the run as it is then."""
    from mmctl.run_folder import journal

    journal.append(store.runs_dir / run["uid"], event)
    store.sync([run["uid"]])
    return find(store, run["uid"])
