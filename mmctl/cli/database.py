"""`mmctl db`: the index of all runs, which can be made again at any time."""

from __future__ import annotations

import typer


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    db = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The index of all runs.")
    db.command()(rebuild)
    db.command()(check)
    db.command()(info)
    app.add_typer(db, name="db")


def rebuild() -> None:
    """Make the database again from the run folders."""
    from mmctl import project
    from mmctl.store import Store

    with Store.rebuild(project.runs_dir()) as store:
        typer.echo(f"{store.path}: {len(store.runs())} runs")


def check() -> None:
    """Compare the database with the journals; exit 4 if it is damaged."""
    from mmctl.errors import EnvironmentFault
    from mmctl.find import opened

    with opened() as store:
        if wrong := store.check():
            raise EnvironmentFault("\n".join([*wrong, "Make it again: mmctl db rebuild"]))
        typer.echo(f"{store.path}: {len(store.runs())} runs, as their journals say")


def info() -> None:
    """Where the database is and what it holds."""
    from mmctl import journal
    from mmctl.find import opened

    with opened() as store:
        size = store.path.stat().st_size if store.path.exists() else 0
        points = store.all("SELECT count(*) AS n FROM points")[0]["n"]
        kind = "network" if journal.is_network(store.runs_dir) else "local"
        typer.echo(f"{store.path}: {size:,} bytes, {len(store.runs())} runs, {points:,} points, {kind} file system")
