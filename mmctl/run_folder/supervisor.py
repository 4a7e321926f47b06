"""Which process of this machine starts the runs that wait in a folder of runs: one, by a lock of the kernel."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import share
from mmctl.run_folder import lease
from mmctl.run_folder.file_lock import holder_of

FOLDER = ".queue"

_held: dict[Path, int] = {}


def lock_file(runs: Path) -> Path:
    """The file whose lock the supervisor of this machine holds."""
    return runs.resolve() / FOLDER / f"{lease.host()}.lock"


class Supervising:
    """Held by the supervisor while it works; `held` is false if another process is the supervisor."""

    def __init__(self, runs: Path) -> None:
        self.path, self.held = lock_file(runs), False
        self._fd = -1

    def __enter__(self) -> Supervising:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
            share(self.path)
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self
        except OSError as error:
            raise EnvironmentFault(f"{self.path}: cannot lock the queue ({error.strerror}).") from None
        self.held = True
        _held[self.path] = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.held:
            _held.pop(self.path, None)
        os.close(self._fd)


def pid(runs: Path) -> int | None:
    """The process that starts the waiting runs of this folder on this machine, 0 if the system does not say which.

    None if there is none.
    """
    path = lock_file(runs)
    if _held.get(path) == os.getpid():  # to open and close the file would drop the lock
        return os.getpid()
    return holder_of(path)
