"""`mmctl db`: the database is an index of all runs, and can be made again from the run folders at any time."""

from __future__ import annotations

import typer

from mmctl.cli.options import Json
from mmctl.report.json_output import print_json


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    db = typer.Typer(
        help="Look after the index of all runs.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (rebuild, check, info, backup, vacuum):
        db.command()(command)
    app.add_typer(db, name="db")


def rebuild(as_json: Json = False) -> None:
    """Build the database again.

    It is built from the run folders, and keeps what it knows of runs that cannot be read now, so nothing is lost.

    \b
    Examples:
      mmctl db rebuild
    """
    from mmctl import project
    from mmctl.store.reading import PATIENCE, tell
    from mmctl.store.store import Store

    with Store.rebuild(project.runs_dir(), patience=2 * PATIENCE, say=tell) as store:
        found = len(store.runs())
        path, unreadable = str(store.path), store.unreadable
    for problem in unreadable.values():
        tell(f"warning: {problem}")
    if as_json:
        print_json({"path": path, "runs": found, "unreadable": unreadable})
    else:
        typer.echo(f"{path}: {found} runs")


def check(as_json: Json = False) -> None:
    """Check the database for errors.

    Checks its pages, compares each run with the journals in its folder, and lists the run folders that cannot be read
    or were edited. Exits with code 4 if the database or a run folder is wrong.

    \b
    Examples:
      mmctl db check
    """
    from mmctl import project
    from mmctl.errors import EnvironmentFault
    from mmctl.store.check import bad_lines, database_problems, folder_problems
    from mmctl.store.connection import REMEDY
    from mmctl.store.reading import PATIENCE, tell
    from mmctl.store.store import Store

    with Store(project.runs_dir(), patience=2 * PATIENCE, say=tell) as store:
        store.sync()
        problems = database_problems(store)
        path, found = str(store.path), len(store.runs()) if not problems else None
        folders, lines = (folder_problems(store), bad_lines(store)) if not problems else ([], [])
    if as_json:
        print_json({"path": path, "problems": problems, "folders": folders, "bad_lines": lines})
    else:
        for line in lines:
            typer.echo(f"note: {line}")
    for wrong, what, remedy in (
        (problems, f"{path}: the database does not match the run folders", REMEDY),
        (
            folders,
            f"{path}: the database is right, but run folders are not",
            "The runs are marked; no other is affected.",
        ),
    ):
        if wrong:
            more = [f"  ... and {len(wrong) - 20} more"] if len(wrong) > 20 else []
            raise EnvironmentFault(f"{what}:", *(f"  {problem}" for problem in wrong[:20]), *more, remedy)
    if not as_json:
        typer.echo(f"{path}: {found} runs, nothing wrong")


def info(as_json: Json = False) -> None:
    """Show the path and size of the database.

    \b
    Examples:
      mmctl db info
    """
    import sqlite3

    from mmctl import project
    from mmctl.filesystem import is_network
    from mmctl.report.console import file_size
    from mmctl.store import schema
    from mmctl.store.reading import open_for_reading

    folder = project.runs_dir()
    with open_for_reading(folder) as store:
        rows = store.counts()
        size = 0 if store.memory else store.path.stat().st_size
        found = {
            "path": None if store.memory else str(store.path),
            "bytes": size,
            "schema": len(schema.MIGRATIONS),
            "sqlite": sqlite3.sqlite_version,
            "network": is_network(folder),
            "rows": rows,
        }
    if as_json:
        print_json(found)
        return
    typer.echo(f"path     {found['path'] or 'in memory: the folder of runs cannot be written'}")
    typer.echo(f"size     {file_size(size)}, schema {found['schema']}, SQLite {sqlite3.sqlite_version}")
    if found["network"]:
        typer.echo(
            "network  yes: use `mmctl db`, `ls`, `show` and `compare` on one host only; runs do not open the database"
        )
    typer.echo("rows     " + ", ".join(f"{count} {table}" for table, count in rows.items()))


def backup(
    target: str = typer.Argument(metavar="FILE", help="The new file."),
    as_json: Json = False,
) -> None:
    """Copy the database to a file.

    Other commands may use it meanwhile.
    The run folders hold everything: a backup of runs/ is one of the database too.

    \b
    Examples:
      mmctl db backup runs.db
    """
    from pathlib import Path

    from mmctl.cli.runs import open_store
    from mmctl.report.console import file_size
    from mmctl.store.upkeep import backup as copy

    with open_store() as store:
        size = copy(store, Path(target))
    if as_json:
        print_json({"path": target, "bytes": size})
    else:
        typer.echo(f"{target}: {file_size(size)}")


def vacuum(as_json: Json = False) -> None:
    """Make the file of the database smaller.

    Gives its free pages back to the disk.

    \b
    Examples:
      mmctl db vacuum
    """
    from mmctl import project
    from mmctl.report.console import file_size
    from mmctl.store.reading import PATIENCE, tell
    from mmctl.store.store import Store
    from mmctl.store.upkeep import vacuum as shrink

    with Store(project.runs_dir(), patience=2 * PATIENCE, say=tell) as store:
        store.sync()
        before, after = shrink(store)
    if as_json:
        print_json({"before": before, "after": after})
    else:
        typer.echo(f"{store.path}: {file_size(before)} -> {file_size(after)}")
