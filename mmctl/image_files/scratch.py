"""Copies a memory map from a shared disk to the own disk of a node of a cluster, once for all its runs.

Rows of a map are read in random order, so that a shared disk is asked for each. The folder is MMCTL_SCRATCH, or the one
that the cluster gives to its jobs. Only maps are copied, never run folders, which must outlive the node.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from mmctl.filesystem import is_network
from mmctl.image_files.packs import used
from mmctl.image_files.progress import say
from mmctl.image_files.stamps import alone

FOLDERS = ("SLURM_TMPDIR", "TMPDIR")
"""Variables in which clusters name the folder of a job on the node's own disk."""
ROOM = 2
"""A copy is made if so many times its size is free: other jobs of the node need the disk too."""
PIECE = 2**24


class NoRoom(OSError):
    """The disk of the node has too little space for a copy."""


def open_near(path: Path) -> np.memmap:
    """The memory map of a file: of a copy on the disk of this node if the file is on a shared one.

    If no copy can be made, the file itself, with a warning.
    """
    scratch = _scratch()
    if scratch is not None and is_network(path):
        try:
            if is_network(scratch):
                raise OSError(f"{scratch} is no disk of this node")
            return _opened(_copied(path, _own_folder(scratch)))
        except OSError as error:
            _warn(str(error))
    return _opened(path)


def _opened(path: Path) -> np.memmap:
    made: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
    return made


def _scratch() -> Path | None:
    names = ("MMCTL_SCRATCH", *(FOLDERS if "SLURM_JOB_ID" in os.environ else ()))
    return next((Path(folder) for name in names if (folder := os.environ.get(name))), None)


def _own_folder(scratch: Path) -> Path:
    """The folder of this user's copies; OSError if somebody else could write into it."""
    folder = scratch / f"mmctl-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise OSError(f"{folder} is not a folder of yours alone")
    return folder


def _copied(path: Path, folder: Path) -> Path:
    """The copy of this version of the file, which is made if it is not there."""
    info = path.stat()
    key = sha256(f"{path.resolve()}\0{info.st_size}\0{info.st_mtime_ns}".encode(errors="surrogateescape"))
    copy = folder / f"{key.hexdigest()[:32]}{path.suffix}"
    with alone(folder / "lock", "which copies images to the disk of this node"):
        if not copy.is_file() or copy.stat().st_size != info.st_size:
            for left in folder.glob("*.part"):  # of a process that was killed: nobody else is in here
                left.unlink(missing_ok=True)
            _make_room(folder, ROOM * info.st_size)
            _copy(path, copy)
        used(copy)
    return copy


def _make_room(folder: Path, size: int) -> None:
    """Delete the copies that were not used for the longest time until so much is free; NoRoom if that is too little.

    A process that has one open can read on.
    """
    copies = sorted((one for one in folder.iterdir() if one.name != "lock"), key=lambda one: one.stat().st_mtime)
    while shutil.disk_usage(folder).free < size:
        if not copies:
            raise NoRoom(f"{folder} has less than {size / 1e9:,.1f} GB free")
        copies.pop(0).unlink()


def _copy(path: Path, copy: Path) -> None:
    """Copy a file, and make sure that the copy is equal."""
    part = copy.with_suffix(".part")
    try:
        before, written = sha256(), sha256()
        with part.open("xb") as file:
            for piece in _pieces(path):
                before.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        for piece in _pieces(part):
            written.update(piece)
        if before.digest() != written.digest():
            raise OSError(f"{part} is not what was written")
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


@cache
def _warn(why: str) -> None:
    """Say once in a process what is wrong."""
    say(f"images are read from the shared disk, which is slower: {why}")
