"""The checkpoints of a run on the disk: verify them, delete what is not needed, copy one out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import EnvironmentFault, MmctlError, ResumeRefused, UserError, os_error
from mmctl.filesystem import sync_folder
from mmctl.recipe.recipe import load_stored
from mmctl.run_folder import trash
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.record import read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.evaluate import checkpoint_of
from mmctl.runs.past import best_so_far, past_of
from mmctl.training import checkpoint

STEPS = 20
"""Steps that a message lists."""


class Pruned(NamedTuple):
    """The checkpoints of a run that are (or would be) deleted, with their bytes, and those that stay."""

    deleted: dict[int, int]
    kept: list[int]


def verify(folder: Path) -> dict[int, str]:
    """Step -> what is wrong with its checkpoint, "" if nothing is; also for the newest, if it is missing."""
    past = past_of(folder, read_record(folder))
    found: dict[int, str] = {}
    for step in checkpoint.steps(folder):
        where = checkpoint.folder_of(folder, step)
        try:
            checkpoint.read(where, past.identity)
            found[step] = ""
        except MmctlError as error:
            if where.is_dir():  # else the training deleted it meanwhile
                found[step] = str(error)
    if past.newest and past.newest not in found:
        newest = past_of(folder, read_record(folder)).newest  # asked anew: the run may train
        if not (where := checkpoint.folder_of(folder, newest)).is_dir():
            found[newest] = f"{where}: is missing, but the journal says it was saved."
    return found


def check_kept(folders: Sequence[Path], keep: Collection[int]) -> None:
    """UserError if no run has a checkpoint that is to be kept: a mistyped step would delete the one that was meant."""
    have = sorted({step for folder in folders for step in checkpoint.steps(folder)})
    if wrong := sorted({*keep} - {*have}):
        shown = ", ".join(map(str, have[:STEPS])) + (f" and {len(have) - STEPS} more" if len(have) > STEPS else "")
        raise UserError(f"--keep {wrong[0]}: no chosen run has this checkpoint (there are: {shown or 'none'}).")


def prune(folder: Path, keep: Collection[int] = (), dry_run: bool = False) -> Pruned:
    """Delete the checkpoints of a run but the newest, the best of train.keep_best and those of the steps `keep`.

    UserError if the run is running; ResumeRefused if the newest is damaged: an older one may be needed then;
    EnvironmentFault if one cannot be deleted.
    """
    trash.check_free(folder)
    if (folder / "checkpoints").is_symlink():
        raise UserError(f"{folder / 'checkpoints'}: is a link. Nothing is deleted where it leads.")
    with Lease(folder, train=False), _faults(folder):
        if not dry_run:
            checkpoint.tidy(folder)  # also what a killed command left, which nobody else deletes of a finished run
        past = past_of(folder, read_record(folder))
        steps = checkpoint.steps(folder)
        if not steps:
            return Pruned({}, [])
        if steps[-1] < past.newest:
            raise ResumeRefused(f"{folder.name}: its newest checkpoint is missing, so nothing is deleted.")
        checkpoint.read(checkpoint.folder_of(folder, steps[-1]), past.identity)
        best = best_so_far(folder, load_stored(folder / "recipe.toml", upgrade_recipe), among=steps).step
        kept = [step for step in steps if step in (steps[-1], best) or step in keep]
        doomed = [step for step in steps if step not in kept]
        sizes = {step: trash.size(checkpoint.folder_of(folder, step)) for step in doomed}
        if not dry_run:
            checkpoint.delete(folder, doomed)
        return Pruned(sizes, kept)


@contextmanager
def _faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise os_error(error, folder) from None


def copy(folder: Path, which: str, target: Path) -> Path:
    """Copy a verified checkpoint, with the recipe of its run, to a new folder; complete or not at all."""
    saved, _ = checkpoint_of(folder, which, past_of(folder, read_record(folder)))
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        raise UserError(f"{target}: exists and is no folder.")
    final = target / f"{folder.name}-step-{saved.step}" if target.is_dir() else target
    if os.path.lexists(final):
        raise UserError(f"{final}: exists already. Give another name.")
    draft = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        draft.mkdir(parents=True)
        for file in (saved.folder / checkpoint.STATE, saved.folder / checkpoint.MANIFEST, folder / "recipe.toml"):
            shutil.copyfile(file, draft / file.name)
        draft.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise EnvironmentFault(f"{final}: cannot be written ({error.strerror or error}).") from None
    return final
