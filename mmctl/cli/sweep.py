"""`mmctl supervise`, which other commands start: it starts the runs that wait."""

from __future__ import annotations

from pathlib import Path

import typer


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command(hidden=True)(supervise)


def supervise(
    runs: Path = typer.Argument(metavar="RUNS", help="The folder of runs."),
) -> None:
    """Start the runs that wait on this machine, until none is left."""
    from mmctl.sweep.background import detached
    from mmctl.sweep.supervisor import supervise as work

    work(runs, detached())
