"""Who works on a run right now: a lock that the kernel drops with its process, however that ends.

A POSIX record lock (`fcntl.lockf`), not `flock`: forked children inherit a `flock` and would keep a dead
run alive. Its trap: a process loses its record lock as soon as it closes ANY descriptor of the file, so
nothing in this process may open a lease that it holds; `read` and `holder_pid` ask the table of held leases first.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

from mmctl.errors import EnvironmentFault, ResumeRefused
from mmctl.filesystem import read_file, share
from mmctl.run_folder.file_lock import holder_of
from mmctl.text import to_json

FILE = "lease"
PAUSE = 2.0
"""Seconds between two beats."""
SIZE = 1024
"""The content is padded to this, so that one write replaces all of it."""

_held: dict[Path, Lease] = {}


class Lease:
    """Held while a run lives; its file says by whom, and how far the run is."""

    def __init__(self, folder: Path, train: bool = True) -> None:
        """train: false only keeps others from the run for a while, and leaves what the file says of the last attempt.

        Held like this, the folder may be renamed.
        """
        self.folder, self.train = folder, train
        self._key = Path()
        self.content: dict[str, object] = {}
        self._fd = -1
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        key = self._key = _key(self.folder)
        if _mine(key):
            raise ResumeRefused(_refusal(self.folder))
        try:
            self._fd = os.open(self.folder / FILE, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
            share(self.folder / FILE)
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            if self._fd < 0:
                raise EnvironmentFault(f"{self.folder}: cannot write the lease ({error.strerror}).") from None
            os.close(self._fd)
            raise ResumeRefused(_refusal(self.folder)) from None
        except OSError as error:
            if self._fd >= 0:
                os.close(self._fd)
            raise EnvironmentFault(
                f"{self.folder}: cannot lock the run ({error.strerror}). Keep runs/ on a file system with POSIX locks."
            ) from None
        _held[key] = self
        self.content = {"host": host(), "boot": boot(), "pid": os.getpid(), "started": process_start(), "since": now()}
        if not self.train:
            return self
        with suppress(OSError):
            self.content["ticks"] = start_ticks(os.getpid())
        self.content |= {"beat": 0, "step": 0, "total": 0, "rate": 0.0, "left": 0.0}
        self._put()
        self._thread = threading.Thread(target=self._work, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
            self._put()
        _held.pop(self._key, None)
        os.close(self._fd)

    def beat(self, step: int, total: int, rate: float, left: float = 0.0) -> None:
        """Say how far the run is: steps, steps in all, steps a second, seconds left; the file follows each two seconds.

        The seconds left include evaluation and saving, the steps a second do not.
        """
        self.content.update(step=step, total=total, rate=rate, left=left)

    def gpu_memory(self, peak: int) -> None:
        """Say how many bytes of GPU memory this process has needed at most."""
        self.content["gpu_memory"] = peak

    def _work(self) -> None:
        beat = 0
        while not self._over.wait(PAUSE):
            beat += 1
            self.content["beat"] = beat
            self._put()

    def _put(self) -> None:
        self.content["t"] = now()
        self.content["memory"] = memory()
        try:
            os.pwrite(self._fd, to_json(self.content).encode().ljust(SIZE - 1) + b"\n", 0)
        except OSError:
            return  # a full disk: the lock still says that the run lives


def read(folder: Path) -> dict[str, object] | None:
    """The content of the lease file, held or not; None if there is no readable one."""
    key = _key(folder)
    if _mine(key):
        return dict(_held[key].content)
    try:
        content = json.loads(read_file(folder / FILE, 16 * SIZE))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def holder(folder: Path) -> dict[str, object] | None:
    """The content of the lease if a process of this machine holds it, else None."""
    return None if holder_pid(folder) is None else read(folder) or {}


def holder_pid(folder: Path) -> int | None:
    """The process that holds the lease, as the kernel says; None if nobody holds it.

    0 or less: one of another container or machine, or the system does not tell.
    """
    if _mine(_key(folder)):
        return os.getpid()
    return holder_of(folder / FILE)


def process(folder: Path) -> int | None:
    """The id of the process that holds the lease, if it is on this machine and surely the one that the lease names.

    The kernel says who holds the lock; boot and start time say that the number was not used again.
    """
    owner, content = holder_pid(folder), read(folder) or {}
    pid = content.get("pid")
    if owner is None or content.get("boot") != boot() or not isinstance(pid, int) or pid <= 1:
        return None
    try:
        same = content.get("ticks", ticks := start_ticks(pid)) == ticks  # older versions wrote no ticks
    except (OSError, IndexError):
        return None
    return pid if same and owner in (pid, 0) else None


def busy(folder: Path) -> str | None:
    """What to say where a process keeps others from a run for a while, as `rm` and `checkpoints prune` do; else None.

    The file then names the process of the last attempt, which has ended: nobody is to be told to stop that number.
    """
    owner, mine = holder_pid(folder), _mine(_key(folder))
    if owner is None or (_held[_key(folder)].train if mine else owner <= 0 or owner == (read(folder) or {}).get("pid")):
        return None
    return f"{folder.name}: is being worked on by process {owner}. Try again when it is done."


def _key(folder: Path) -> Path:
    return folder.resolve()


def _mine(key: Path) -> bool:
    # A forked child inherits the table but not the locks.
    return key in _held and _held[key].content.get("pid", os.getpid()) == os.getpid()


def _refusal(folder: Path) -> str:
    if (said := busy(folder)) is not None:
        return said
    content = read(folder) or {}
    since = content.get("since", content.get("started"))
    since = since if isinstance(since, int) and 0 < since < 2**47 else None  # a year below 6500
    when = f" since {datetime.fromtimestamp(since / 1000):%Y-%m-%d %H:%M:%S}" if since else ""
    who = f"{content.get('pid', '?')}@{content.get('host', '?')}"
    remedy = f"Wait for it, or stop it on that machine: kill {content.get('pid', 'PID')}"
    return f"{folder.name}: is already running: process {who}{when}. {remedy}"


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def host() -> str:
    """The name of this machine."""
    return os.uname().nodename


def boot() -> str:
    """Identifies one boot of this machine; containers on one machine share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return host()


def memory() -> int | None:
    """Bytes of main memory that this process has now; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def process_start() -> int:
    """When this process started, in milliseconds since 1970: a process id alone may be used again."""
    try:
        ticks = int(start_ticks(os.getpid()))
        up = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return now()
    return now() - round(1000 * (up - ticks / os.sysconf("SC_CLK_TCK")))


def start_ticks(pid: int) -> str:
    """When a process of this machine started, in clock ticks since boot; OSError if there is none."""
    # The second field is the program's name, which may hold blanks and brackets.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
