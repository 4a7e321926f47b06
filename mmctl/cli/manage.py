"""What a person does with runs: tag, note, rename, star, archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import typer

from mmctl.cli.options import Json, Run, Runs, checked_name
from mmctl.cli.runs import find, open_store
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmctl.run_folder.events import Mark
    from mmctl.store.rows import RunRow


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (tag, note, rename, star, archive):
        app.command()(command)


def tag(
    run: Run,
    add: list[str] = typer.Argument(
        None, metavar="TAG", help="Tags to add; more runs and conditions too. +TAG is a tag that looks like a run."
    ),
    remove: list[str] = typer.Option(
        [], "--remove", "-r", metavar="TAG", help="Remove a tag. Can be given several times."
    ),
    as_json: Json = False,
) -> None:
    """Add, remove or show the tags of runs.

    A tag is one word. `mmctl ls tag:good` lists the runs with a tag. Further runs and conditions may follow the first.

    \b
    Examples:
      mmctl tag 3 good
      mmctl tag 3 4 good
      mmctl tag state:completed final --remove draft
    """
    from mmctl.run_folder.events import Tag
    from mmctl.runs.annotate import annotate
    from mmctl.store.select import TERM, checked_tags, find_runs

    checked_tags(remove, new=False)
    with open_store() as store:
        known = {"@last", "@last-failed"}.union(*((one["uid"], str(one["number"])) for one in store.runs()))
        runs = [word for word in add or [] if word in known or TERM.fullmatch(word)]
        added = checked_tags([word.removeprefix("+") for word in add or [] if word not in runs])
        found = find_runs(store, [run, *runs])
        if added or remove:
            found = annotate(store, found, Tag(add=added, remove=remove))
    _print_tags(found, as_json)


def _print_tags(found: Sequence[RunRow], as_json: bool) -> None:
    from mmctl.text import printable

    if as_json and len(found) == 1:
        print_json({"uid": found[0]["uid"], "tags": found[0]["tags"]})
    elif as_json:
        print_json({"runs": [{"uid": one["uid"], "tags": one["tags"]} for one in found]})
    else:
        for one in found:
            typer.echo(f"{one['uid']}: " + (printable(" ".join(one["tags"])) or "no tags"))


def note(
    run: Run,
    text: str = typer.Argument(None, metavar="TEXT", help="The note, in quotes."),
    as_json: Json = False,
) -> None:
    """Add a note to a run, or show its notes.

    Without TEXT, prints the notes. `mmctl show` prints them too. A condition adds the note to all runs that fulfil it.

    \b
    Examples:
      mmctl note @last "the learning rate was too high"
      mmctl note @last
      mmctl note tag:draft "the labels were wrong"
    """
    from mmctl import redact
    from mmctl.errors import UserError
    from mmctl.report.summaries import notes_of
    from mmctl.run_folder.events import Note
    from mmctl.runs.annotate import annotate
    from mmctl.store.select import find_runs
    from mmctl.text import printable

    if text is not None and (not text.strip() or len(text) > 10_000):
        raise UserError("the text of a note must have between 1 and 10,000 characters")
    with open_store() as store:
        found = find_runs(store, [run])
        if text is not None:
            found = annotate(store, found, Note(text=redact.text(text)))
        notes = [{"uid": one["uid"], "notes": notes_of(store, one)} for one in found]
    if as_json:
        print_json(notes[0] if len(notes) == 1 else {"runs": notes})
    else:
        for one in notes:
            for words in [str(each["text"]) for each in one["notes"]] or ["no notes"]:  # type: ignore[index, attr-defined]
                typer.echo(f"{one['uid']}: {printable(words)}")


def rename(
    run: Run,
    name: str = typer.Argument(metavar="NAME", callback=checked_name, help="The new name of the run in listings."),
    as_json: Json = False,
) -> None:
    """Give a run another name.

    The id of the run, which is the name of its folder, stays as it is.

    \b
    Examples:
      mmctl rename @last wide-network
    """
    from mmctl.run_folder.events import Mark
    from mmctl.runs.annotate import annotate

    with open_store() as store:
        (found,) = annotate(store, [find(store, run)], Mark(name=name))
    if as_json:
        print_json({"uid": found["uid"], "name": found["name"]})
    else:
        typer.echo(f"{found['uid']}: {name}")


def star(
    runs: Runs,
    remove: bool = typer.Option(False, "--remove", "-r", help="Take the star away."),
    as_json: Json = False,
) -> None:
    """Give runs a star.

    `mmctl ls star:true` lists the runs that have one.

    \b
    Examples:
      mmctl star @last
      mmctl star 3 4 --remove
    """
    from mmctl.run_folder.events import Mark

    _mark(runs, Mark(star=not remove), "starred", "no star" if remove else "star", as_json)


def archive(
    runs: Runs,
    remove: bool = typer.Option(False, "--remove", "-r", help="Show the runs again."),
    as_json: Json = False,
) -> None:
    """Hide runs from listings and comparisons.

    Their files stay as they are. `--archived` or the filter `archived:true` shows them.

    \b
    Examples:
      mmctl archive state:failed
      mmctl ls archived:true
      mmctl archive 3 --remove
    """
    from mmctl.run_folder.events import Mark

    word = "not archived" if remove else "archived"
    _mark(runs, Mark(archived=not remove), "archived", word, as_json, archived=remove)


def _mark(
    runs: Sequence[str],
    event: Mark,
    field: Literal["starred", "archived"],
    word: str,
    as_json: bool,
    archived: bool = False,
) -> None:
    """Mark runs and say so; field: of the run in --json; archived: conditions choose among archived runs too."""
    from mmctl.runs.annotate import annotate
    from mmctl.store.select import find_runs

    with open_store() as store:
        found = annotate(store, find_runs(store, runs, archived=archived), event)
    if as_json:
        print_json({"runs": [{"uid": one["uid"], field: one[field]} for one in found]})
    else:
        for one in found:
            typer.echo(f"{one['uid']}: {word}")
