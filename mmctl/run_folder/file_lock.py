"""Asks who holds the POSIX record lock of a file, which the kernel drops with its process."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path

FLOCK = "hhqqi4x"
"""struct flock on 64-bit Linux: type, whence, start, length, pid."""


def holder_of(path: Path) -> int | None:
    """The process that holds the lock of a file that this process has not locked; None if nobody does.

    0 or less: one of another container or machine, or the system does not tell.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
    try:
        return _lock_holder(fd)
    finally:
        os.close(fd)


def _lock_holder(fd: int) -> int | None:
    if sys.platform == "linux":
        # Asks without taking, so that a process that wants the lock at this moment is not refused.
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        except OSError:
            return None
        return None if kind == fcntl.F_UNLCK else int(pid)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    return None
