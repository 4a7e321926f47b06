"""Writes files atomically, reads files that may be anything, and detects network file systems."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NETWORK = {
    "nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "beegfs", "ceph", "afs", "9p", "pvfs2", "orangefs",
    "panfs", "wekafs", "fuse",
}  # fmt: skip
LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.overlayfs"}


def is_network(path: Path) -> bool:
    """Whether a folder is on a network file system, where SQLite is safe for a single host only."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    path = Path(os.path.realpath(path))
    best, kind = -1, ""
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        # A later mount hides an earlier one at the same folder.
        if len(point.parts) >= best and path.is_relative_to(point):
            best, kind = len(point.parts), right.split()[0]
    return kind in NETWORK or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def open_file(path: Path, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes, opened for reading; OSError or ValueError for anything else.

    A run folder may come from anywhere: a FIFO would make the reader wait, a device or huge file fill the memory.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
        os.close(fd)
        size = f"has {info.st_size} bytes, more than {limit}"
        raise ValueError(f"{path.name} {size if stat.S_ISREG(info.st_mode) else 'is not a file'}")
    return open(fd, "rb")  # noqa: PTH123


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes, OSError or ValueError for anything else."""
    with open_file(path, limit) as file:
        return file.read()


def share(path: Path) -> None:
    """Give a new file or folder the group of its folder and that group's rights, if the group may write in the folder.

    So that several people can use one folder of runs; elsewhere, umask alone decides.
    """
    above = path.parent.stat()
    if above.st_mode & stat.S_IWGRP:
        with suppress(OSError):  # not ours, or the file system has no groups
            info = path.stat()
            if info.st_gid != above.st_gid:
                os.chown(path, -1, above.st_gid)
            path.chmod(stat.S_IMODE(info.st_mode) | (0o2070 if stat.S_ISDIR(info.st_mode) else 0o060))


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file atomically: after a crash or power cut it has the old or the new content, never a part.

    sync: wait for the disk, twice. Without it, a power cut (but no crash) may leave the file empty.
    """
    # Process ids repeat, in containers from one start to the next: what a killed process left must not be in the way.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        if sync:
            write_synced(temporary, data)
        else:
            temporary.write_bytes(data)
        share(temporary)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on disk; FileExistsError if it exists."""
    with naming(path), path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the directory entries of a folder are on disk."""
    with naming(folder):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to an OSError that has none, as those of write and fsync, so that its message names the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
