"""Makes the n-th change of a folder fail, as a full, read-only or dying disk would."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ERRORS = (errno.EIO, errno.EROFS, errno.EINTR, errno.ENOSPC)
CALLS = ("open", "write", "pwrite", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Faults:
    """Counts the system calls that change something below `folder`, the database apart, and fails the n-th.

    lasting: all later ones too. `done` says whether it came to that.
    """

    def __init__(self, folder: Path, n: int, number: int, lasting: bool, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.n, self.number, self.lasting = str(folder), n, number, lasting
        self.count, self.done, self.lock = 0, "", threading.Lock()
        for name in CALLS:
            patch.setattr(os, name, self.counted(name, getattr(os, name)))
        opening = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **keys: Any) -> Any:
            if mode == "xb":  # the one mode in which mmctl writes files whole
                self.call("open", str(file), str(file))
                return io.BufferedWriter(_Raw(self, file, mode))
            return opening(file, mode, *args, **keys)

        patch.setattr(io, "open", opened)

    def call(self, name: str, path: str, filename: str | None) -> None:
        """One call; OSError if it is the n-th."""
        if not (path == self.folder or path.startswith(self.folder + "/")) or "mmctl.db" in path:
            return
        with self.lock:
            self.count += 1
            if self.count == self.n or (self.lasting and self.count > self.n):
                self.done = self.done or f"{self.count}: {name} {path}: {errno.errorcode[self.number]}"
                raise OSError(self.number, os.strerror(self.number), *([filename] if filename else []))

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The function of `os` with a count."""

        def call(first: Any, *args: Any, **keys: Any) -> Any:
            if isinstance(first, int):
                self.call(name, _path(first), None)
            elif name != "open" or args[0] & WRITING:
                base = "" if keys.get("dir_fd") is None else _path(keys["dir_fd"]) + "/"
                self.call(name, base + os.fspath(first), os.fspath(first))
            return real(first, *args, **keys)

        return call


class _Raw(io.FileIO):
    def __init__(self, faults: Faults, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self.faults = faults

    def write(self, data: Any) -> int:
        self.faults.call("write", str(self.name), None)
        return super().write(data) or 0


def _path(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""
