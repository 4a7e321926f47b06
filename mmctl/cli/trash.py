"""`mmctl rm`, `restore` and `gc`: runs go to the trash first, and only gc deletes."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import DryRun, Json, Runs
from mmctl.cli.runs import open_store
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmctl.errors import MmctlError

YES = "--yes"


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (rm, restore, gc):
        app.command()(command)


def rm(
    runs: Runs,
    dry_run: DryRun = False,
    force: bool = typer.Option(False, "--force", "-f", help="Runs too whose folder cannot be read."),
    as_json: Json = False,
) -> None:
    """Move runs to the trash.

    `mmctl restore` brings them back, `mmctl gc` deletes them for good. A running run is refused; of a filter, it is
    left as it is. `mmctl rm state:queued` clears runs that nobody will start.

    \b
    Examples:
      mmctl rm 3
      mmctl rm state:failed --dry-run
      mmctl rm state:queued
    """
    from mmctl.errors import MmctlError, UserError
    from mmctl.report.console import file_size
    from mmctl.run_folder import trash
    from mmctl.store.select import find_runs

    moved: dict[str, int] = {}
    left: dict[str, MmctlError] = {}
    with open_store() as store:
        folder = store.runs_dir
        for run in find_runs(store, runs):
            uid = run["uid"]
            try:
                if run["unreadable"] and not force:
                    raise UserError(
                        f"{run['unreadable']} `mmctl rm --force` removes it, with what only the database knows of it."
                    )
                if run["state"] == "running":
                    raise UserError(f"{uid}: is running on {run['host']}. Stop it first: mmctl stop {uid}")
                trash.check_free(folder / uid)
                count = trash.size(folder / uid)
                if not dry_run:
                    trash.throw(folder, uid)
                moved[uid] = count
            except MmctlError as error:
                left[uid] = error
        store.sync()
    if as_json:
        rows = [{"uid": uid, "bytes": count} for uid, count in moved.items()]
        print_json({"moved": rows, "left": _texts(left), "dry_run": dry_run})
    else:
        for uid, count in moved.items():
            typer.echo(f"{uid}: {file_size(count)} {'would move' if dry_run else 'moved'} to the trash")
        if len(moved) > 1:
            typer.echo(f"{len(moved)} runs, {file_size(sum(moved.values()))}")
        if moved and not dry_run:
            uids = next(iter(moved)) if len(moved) == 1 else "RUN"
            typer.echo(f"back: mmctl restore {uids}   for good: mmctl gc")
    _raise(left, some_done=bool(moved))


def _texts(left: Mapping[str, MmctlError]) -> dict[str, str]:
    return {uid: str(error) for uid, error in left.items()}


def _raise(left: Mapping[str, MmctlError], some_done: bool) -> None:
    """One error that says of each run that was left as it is why, if there is any."""
    from mmctl.errors import EnvironmentFault, PartFailed, UserError

    if left:
        faults = any(isinstance(error, EnvironmentFault) for error in left.values())
        kind = PartFailed if some_done else EnvironmentFault if faults else UserError
        raise kind(*(f"left as it is: {error}" for error in left.values()))


def restore(
    runs: list[str] = typer.Argument(
        None, metavar="RUN", help="Ids of runs in the trash, parts of ids, or @last. None = list the trash."
    ),
    as_json: Json = False,
) -> None:
    """Bring runs back from the trash.

    Without RUN, lists what is there.

    \b
    Examples:
      mmctl restore
      mmctl restore @last
    """
    from mmctl import project
    from mmctl.errors import MmctlError
    from mmctl.report.console import file_size
    from mmctl.run_folder import lease, trash
    from mmctl.text import duration, printable

    folder = project.runs_dir()
    entries = trash.thrown(folder)
    if not runs:
        if as_json:
            print_json({"trash": [{"uid": one.uid, "t": one.t, "bytes": trash.size(one.path)} for one in entries]})
            return
        for one in entries:
            age = duration((lease.now() - one.t) / 1000)
            typer.echo(f"{printable(one.uid)}: {file_size(trash.size(one.path))}, thrown away {age} ago")
        if not entries:
            typer.echo("the trash is empty", err=True)
        return
    chosen = list(dict.fromkeys(trash.find(entries, word) for word in runs))
    back: list[str] = []
    left: dict[str, MmctlError] = {}
    for one in chosen:
        try:
            trash.restore(folder, one)
        except MmctlError as error:
            left[one.uid] = error
            continue
        back.append(one.uid)
        if not as_json:
            typer.echo(f"{printable(one.uid)}: restored")
    with open_store():
        pass  # brings the index up to date
    if as_json:
        print_json({"restored": back, "left": _texts(left)})
    _raise(left, some_done=bool(back))


def _age(text: object) -> int:
    """Seconds of an age such as 30d; typer calls it with the default too."""
    given = re.fullmatch(r"([0-9]{1,6})([smhd])", str(text))
    if given is None:
        raise typer.BadParameter(f'"{text}" is not an age such as 30d, 12h, 10m or 0s.')
    return int(given[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[given[2]]


def gc(
    older: int = typer.Option(
        "0s", "--older", parser=_age, metavar="AGE", help="Only what was thrown away so long ago, such as 30d."
    ),
    unused: int = typer.Option(
        "30d", "--unused", parser=_age, metavar="AGE", help="Decoded images that nobody has used for so long."
    ),
    dry_run: DryRun = False,
    yes: bool = typer.Option(False, YES, "-y", help="Do not ask."),
    as_json: Json = False,
) -> None:
    """Delete the runs in the trash for good.

    Shows what is deleted and asks. Also deletes what killed commands left in the folder of runs, and decoded images in
    the cache of the user that nobody has used for 30 days: who needs them again decodes them again. Gives free pages of
    the database back.

    \b
    Examples:
      mmctl gc --dry-run
      mmctl gc --older 30d --yes
      mmctl gc --older 30d --unused 7d
    """
    from mmctl import project
    from mmctl.errors import MmctlError, UserError
    from mmctl.image_files.unused import forget
    from mmctl.image_files.unused import unused as unused_images
    from mmctl.report.console import file_size
    from mmctl.run_folder import lease, trash
    from mmctl.text import printable

    folder = project.runs_dir()
    old = [one for one in trash.thrown(folder) if lease.now() - one.t >= 1000 * older]
    doomed = [(one.uid, one.path) for one in old]
    doomed += [(f"{path.name} (left by a killed command)", path) for path in trash.leftovers(folder)]
    images = {one.path: f"{one.path.name} ({one.what})" for one in unused_images(unused)}
    doomed += [(what, path) for path, what in images.items()]
    sizes = [trash.size(path) for _, path in doomed]
    if not as_json:
        for (what, _), count in zip(doomed, sizes, strict=True):
            typer.echo(f"{printable(what)}: {file_size(count)}")
        typer.echo(
            f"{len(doomed)} to delete, {file_size(sum(sizes))}" if doomed else "nothing to delete", err=not doomed
        )
    if doomed and not (dry_run or yes):
        if as_json or not sys.stdin.isatty():
            raise UserError("gc: deletes for good. `--yes` says that you want it; `--dry-run` shows what it is.")
        typer.confirm("Delete them for good?", abort=True)
    left: dict[str, MmctlError] = {}
    gone = dict(zip([path for _, path in doomed], sizes, strict=True))
    for what, path in doomed if not dry_run else ():
        try:
            if not (forget(path, unused) if path in images else trash.delete(path)):
                del gone[path]
                typer.echo(f"{printable(what)}: is no longer there, or is used again", err=True)
        except MmctlError as error:
            del gone[path]
            left[path.name] = error  # unlike its id, it is there once
    if not dry_run:
        _shrink()
    if as_json:
        uids = [one.uid for one in old if one.path in gone]
        decoded = [str(path) for path in images if path in gone]
        made = {"deleted": uids, "decoded": decoded, "entries": len(gone), "bytes": sum(gone.values())}
        print_json({**made, "left": _texts(left), "dry_run": dry_run})
    _raise(left, some_done=bool(gone))


def _shrink() -> None:
    """Give the free pages of the database back, if they are many; another process that reads it is no error."""
    from contextlib import suppress

    from mmctl.store.connection import IndexUnusable
    from mmctl.store.upkeep import vacuum

    with suppress(IndexUnusable), open_store() as store:
        if not store.memory:
            vacuum(store, if_more_than=0.25)
