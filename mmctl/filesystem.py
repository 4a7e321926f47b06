"""Writes files atomically, reads files that may be anything, and detects network file systems."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NETWORK = {"nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "beegfs", "ceph", "afs", "9p", "pvfs2", "orangefs"}
LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.overlayfs"}


def is_network(path: Path) -> bool:
    """Whether a folder is on a network file system, where SQLite is safe for a single host only."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    path = path.resolve()
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


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes, OSError or ValueError for anything else.

    A run folder may come from anywhere: a FIFO would make the reader wait, a device or huge file fill the memory.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path.name} is not a file")
        if info.st_size > limit:
            raise ValueError(f"{path.name} has {info.st_size} bytes, more than {limit}")
        return file.read()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file atomically: after a crash or power cut it has the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
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
