"""The trash of a folder of runs: runs/.trash/. A run moves there and back by one rename, so kill -9 loses nothing.

An entry is named by when it was thrown away and by the run: 1790000000000.20261125-080000-digits-s0-abcd. Nothing here
follows a symbolic link: of a run that is one, the link alone is moved or deleted.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import EnvironmentFault, RunNotFound, UserError, os_error, suggest
from mmctl.filesystem import share, sync_folder
from mmctl.run_folder import lease, queue
from mmctl.run_folder.lease import Lease
from mmctl.text import printable

FOLDER = ".trash"
DELETED = ".del-"
"""Begins the name of what is being deleted: it can no longer be restored."""
DRAFTS = ".new-"
"""Begins the name of a run folder that is being made."""
ABANDONED = 3600
"""Seconds after which a draft counts as left behind."""


class Thrown(NamedTuple):
    """A run in the trash."""

    path: Path
    uid: str
    t: int  # when it was thrown away, in milliseconds since 1970


def size(path: Path) -> int:
    """The bytes of all files below a folder, or of one file or link; what vanishes meanwhile does not count."""
    total, waiting = 0, [str(path)]
    while waiting:
        name = waiting.pop()
        with suppress(OSError):
            info = os.lstat(name)
            if not stat.S_ISDIR(info.st_mode):
                total += info.st_size
                continue
            with os.scandir(name) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total


def check_free(folder: Path) -> None:
    """UserError if a process trains this run, works on its files, or will start it."""
    if said := lease.busy(folder):
        raise UserError(said)
    if (found := lease.holder(folder)) is not None:
        raise UserError(
            f"{folder.name}: is running (process {found.get('pid', '?')}). Stop it first: mmctl stop {folder.name}"
        )
    if waits := queue.waits_for(folder):
        raise UserError(f"{folder.name}: {waits}. Take it out of the queue first: mmctl stop {folder.name}")


def throw(runs: Path, uid: str) -> Thrown:
    """Move a run into the trash; UserError if it is running or there is no such folder."""
    folder, trash = runs / uid, _trash(runs, make=True)
    if Path(uid).name != uid or not os.path.lexists(folder):
        raise UserError(f"{printable(folder)}: there is no such folder. See: mmctl ls")
    check_free(folder)
    if folder.is_symlink():
        return _moved(folder, trash)
    with Lease(folder, train=False):  # nobody starts it while it moves
        return _moved(folder, trash)


def _moved(folder: Path, trash: Path) -> Thrown:
    t = lease.now()
    while os.path.lexists(target := trash / f"{t}.{folder.name}"):
        t += 1
    _rename(folder, target)
    return Thrown(target, folder.name, t)


def thrown(runs: Path) -> list[Thrown]:
    """The runs in the trash, as they were thrown away."""
    trash = _trash(runs)
    names = [name.partition(".") for name in _names(trash)]
    found = [Thrown(trash / f"{t}.{uid}", uid, int(t)) for t, _, uid in names if t.isascii() and t.isdigit() and uid]
    return sorted(found, key=lambda one: (one.t, one.uid))


def find(entries: Sequence[Thrown], reference: str) -> Thrown:
    """The run in the trash that an id, a part of one or @last means; RunNotFound if none or several match."""
    if reference == "@last" and entries:
        return entries[-1]
    rules: list[Callable[[str], bool]] = [
        lambda uid: uid == reference,
        lambda uid: uid.startswith(reference),
        lambda uid: len(reference) >= 3 and reference in uid,
    ]
    found = next((some for rule in rules if (some := [one for one in entries if rule(one.uid)])), [])
    uids = sorted({one.uid for one in found})
    if len(uids) == 1 and reference:
        return found[-1]  # thrown away several times: the newest
    if uids and reference:
        raise RunNotFound(f'"{reference}" matches {len(uids)} runs in the trash:', *(f"  {uid}" for uid in uids[:10]))
    known = suggest(reference, [one.uid for one in entries])
    raise RunNotFound(f'no run "{reference}" in the trash.{known} `mmctl restore` lists what is there.')


def restore(runs: Path, entry: Thrown) -> Path:
    """Move a run back; UserError if there is a run of this id again."""
    folder = runs / entry.uid
    if os.path.lexists(folder):
        raise UserError(f"{folder}: exists again, so the run in the trash stays there: {entry.path}")
    _rename(entry.path, folder)
    return folder


def leftovers(runs: Path) -> Iterator[Path]:
    """What kill -9 left in a folder of runs: half-deleted entries of the trash, and drafts of runs of an hour ago."""
    trash = _trash(runs)
    yield from (trash / name for name in _names(trash) if name.startswith(DELETED))
    for name in _names(runs):
        with suppress(OSError):
            old = lease.now() / 1000 - os.lstat(runs / name).st_mtime > ABANDONED
            if name.startswith(DRAFTS) and old:
                yield runs / name


def delete(path: Path) -> bool:
    """Delete an entry of the trash, or what is left of one, for good; kill -9 leaves something that `leftovers` gives.

    False if it is not there any more. EnvironmentFault where a file cannot be deleted.
    """
    try:
        if not path.name.startswith((DELETED, DRAFTS)):
            if lease.holder(path) is not None:
                raise UserError(f"{path}: a process works on this run. Nothing was deleted.")
            path = path.rename(path.with_name(f"{DELETED}{path.name}"))
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False  # it was restored, or another `mmctl gc` was faster
    except OSError as error:
        raise EnvironmentFault(
            f"{error.filename or path}: cannot be deleted ({error.strerror}). Correct its permissions, then run "
            "`mmctl gc` again."
        ) from None
    return True


def _trash(runs: Path, make: bool = False) -> Path:
    """The folder of the trash; UserError if it is a link, which could lead anywhere."""
    trash = runs / FOLDER
    if make and not os.path.lexists(trash):
        try:
            trash.mkdir(exist_ok=True)
            share(trash)
            sync_folder(runs)
        except OSError as error:
            raise os_error(error, trash) from None
    if os.path.lexists(trash) and not stat.S_ISDIR(os.lstat(trash).st_mode):
        raise UserError(f"{trash}: is not a folder, so it cannot be the trash of the runs. Move it away.")
    return trash


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        return []


def _rename(old: Path, new: Path) -> None:
    try:
        old.rename(new)
    except OSError as error:
        raise EnvironmentFault(f"{old}: cannot be moved to {new} ({error.strerror}). Nothing was changed.") from None
    with suppress(OSError):  # it was moved, whole; only a power cut could still undo that
        sync_folder(new.parent)
        sync_folder(old.parent)
