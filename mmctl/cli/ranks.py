"""One run on several GPUs: `--gpus N` of `mmctl run` and `resume`, and `mmctl exec` as one of its processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmctl.cli.options import whole

if TYPE_CHECKING:
    from mmctl.recipe.recipe import Recipe
    from mmctl.runs.ranks import Place
    from mmctl.runs.signals import StopSignal

Gpus = Annotated[
    int,
    typer.Option(
        "--gpus", parser=whole, metavar="N", help="Share one run between N GPUs of this machine, a process for each."
    ),
]


def check_gpus(gpus: int, others: Mapping[str, object]) -> None:
    """Raise UserError if --gpus is given together with an option, or a number of runs, that does not go with it."""
    from mmctl.errors import UserError

    if gpus > 1 and (extra := [name for name, given in others.items() if given]):
        raise UserError(f"--gpus {gpus} shares one run between GPUs: it cannot be combined with {' and '.join(extra)}.")


def check_recipe(recipe: Recipe, gpus: int) -> None:
    """Raise UserError if so many processes of this machine cannot share a run of this recipe."""
    from mmctl.cores import available_cores
    from mmctl.errors import UserError
    from mmctl.runs.hardware import device_of
    from mmctl.runs.ranks import check_shared

    check_shared(recipe, gpus)
    if device_of(recipe.settings.train.device).type == "cuda":
        import torch

        if gpus > (found := torch.cuda.device_count()):
            raise UserError(f"--gpus {gpus}: torch finds {found} GPU{'s' * (found != 1)} on this machine.")
    elif gpus > (cores := available_cores()):
        raise UserError(
            f"--gpus {gpus}: torch finds no GPU, and on the CPU this machine has cores for {cores} processes."
        )


def train_shared(folder: Path, gpus: int, options: Mapping[str, bool], stop: StopSignal) -> None:
    """Train the run in this folder in so many processes; options: those of `mmctl exec`, and whether they are set."""
    from mmctl.runs.start_ranks import train_on_ranks

    code = train_on_ranks(folder.resolve(), gpus, [name for name, given in options.items() if given], stop)
    if code:
        raise SystemExit(code)


def stored_recipe(folder: Path) -> Recipe:
    """The recipe of a run."""
    from mmctl.recipe.recipe import load_stored
    from mmctl.run_folder.upgrade import upgrade_recipe

    return load_stored(folder / "recipe.toml", upgrade_recipe)


def train_as_rank(
    folder: Path, place: Place, stop: StopSignal, quiet: bool, accept_changes: bool, from_start: bool
) -> None:
    """Train the run in this folder as one of several processes; all but rank 0 are silent.

    What happened to the run is the exit code of rank 0. The others end with 0 when it stops: engines end all processes
    of a run at once if one has another code, and rank 0 may still have to put the run back into their queue.
    """
    from mmctl.cli.train import train_run
    from mmctl.errors import MmctlError, Stopped, Superseded
    from mmctl.runs.progress import tell
    from mmctl.runs.ranks import check_shared, follow, joined, lost

    check_shared(stored_recipe(folder), place.world)
    try:
        with joined(place):
            if place.rank == 0:
                train_run(folder, stop, quiet, accept_changes, from_start)
            elif follow(folder, stop, accept_changes):
                raise Stopped("stopped by a signal")
    except Superseded as end:  # known to this process alone: the others wait for it in vain
        tell(f"mmctl: {end}")
        leave(end.exit_code)
    except Stopped:
        if place.rank == 0:
            raise
    except Exception as error:
        known = error if isinstance(error, MmctlError) else lost(error, folder)
        if known is None:
            raise
        tell(f"mmctl: {known}")
        leave(known.exit_code)
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1)


def leave(code: int) -> None:
    """End this process now: other ranks cannot be waited for, and gloo would abort an ordinary end without them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
