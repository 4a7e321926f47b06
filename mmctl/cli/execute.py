"""`mmctl exec`: what launchers, engines and people start with the folder of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import AcceptChanges, FromStart, Quiet
from mmctl.cli.ranks import train_as_rank
from mmctl.cli.train import train_job, train_pack, train_run

if TYPE_CHECKING:
    from mmctl.runs.signals import StopSignal


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command("exec", hidden=True)(exec_)


def exec_(
    folders: list[Path] = typer.Argument(metavar="FOLDER", help="Run folders."),
    accept_changes: AcceptChanges = False,
    from_start: FromStart = False,
    quiet: Quiet = False,
) -> None:
    """Train the runs in these folders.

    Launchers start this command. All runs share one process, and each continues from its newest checkpoint. Started
    several times by `--gpus`, torchrun or srun, the processes share one run.
    """
    from mmctl.environment import on_cluster

    if not (folders := _unfinished(folders)):
        return

    def train(stop: StopSignal) -> None:
        from mmctl.runs.ranks import place_of

        if place := place_of(os.environ):
            train_as_rank(folders[0], place, stop, quiet, accept_changes, from_start)
        else:
            train_run(folders[0], stop, quiet, accept_changes, from_start)

    if len(folders) > 1:
        train_pack(folders)
    elif on_cluster():
        train_job(folders[0], train)
    else:
        import mmctl.runs.execute  # noqa: F401 - takes seconds; until then a signal ends the process at once
        from mmctl.runs.signals import StopSignal

        with StopSignal() as stop:
            train(stop)


def _unfinished(folders: list[Path]) -> list[Path]:
    """The folders of the runs that are not over. An engine may start one again that is: that is no mistake of it."""
    from mmctl.run_folder.record import last_state
    from mmctl.runs.progress import tell

    left = []
    for folder in folders:
        if (state := last_state(folder.resolve()) if folder.is_dir() else None) in ("completed", "nc"):
            tell(
                f"{folder.name}: is over already ({'not converged' if state == 'nc' else state}); nothing to do",
                out=True,
            )
        else:
            left.append(folder.resolve())
    return left
