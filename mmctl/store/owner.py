"""Which machine has the database open, on a disk that several machines share and on which they may not see locks.

SQLite is safe for one machine at a time: with two whose locks do not meet, commits vanish without a word. So a machine
makes the owner file, which only one can, and removes it when its last process closes the database. One that crashed is
known by its file, which a living one changes with each import.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mmctl.filesystem import read_file, share, write_atomic
from mmctl.run_folder.lease import boot, host, now
from mmctl.text import to_json

FILE = "mmctl.owner"
STALE = 30.0
"""Seconds without a change, on the clock of who waits, after which the owner is believed dead."""
SIZE = 1000
PAUSE = 0.2


def take(folder: Path, seconds: float, waits: Callable[[], None]) -> str | None:
    """Make this machine the owner of a folder's database; or the machine that is, after waiting so long for it.

    waits: called while it waits. OSError if the file cannot be written.
    """
    path, begin = folder / FILE, time.monotonic()
    seen, since = b"", begin
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            pass
        else:
            with os.fdopen(fd, "wb") as file:
                file.write(_content())
            share(path)
            return None
        said = _read(path)
        if _is_mine(said):
            return None
        if said != seen:
            seen, since = said, time.monotonic()
        elif time.monotonic() - since > STALE and _read(path) == seen:
            with suppress(FileNotFoundError):  # another one was faster
                path.rename(path.with_name(f".{FILE}.{os.urandom(4).hex()}.tmp")).unlink()
            continue
        if time.monotonic() - begin > seconds:
            return _host_of(said)
        waits()
        time.sleep(PAUSE)


def beat(folder: Path) -> str | None:
    """Say that this machine still uses the database; or which machine took it over meanwhile. OSError as `take`."""
    said = _read(folder / FILE)
    if not _is_mine(said):
        return _host_of(said)
    write_atomic(folder / FILE, _content(), sync=False)  # before each import; after a power cut it says nothing
    return None


def leave(folder: Path) -> None:
    """Give the database free; called by the last process of this machine that has it open."""
    with suppress(OSError):
        if _is_mine(_read(folder / FILE)):
            (folder / FILE).unlink()


def _content() -> bytes:
    return to_json({"host": host(), "boot": boot(), "pid": os.getpid(), "t": now()}).encode()


def _read(path: Path) -> bytes:
    try:
        return read_file(path, SIZE)
    except (OSError, ValueError):
        return b""


def _said(content: bytes, key: str) -> str:
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict):
            return str(found.get(key, ""))
    return ""


def _is_mine(content: bytes) -> bool:
    # After a restart of this machine, the file that it left counts as its own too.
    return boot() == _said(content, "boot") or host() == _said(content, "host")


def _host_of(content: bytes) -> str:
    return _said(content, "host") or "another machine"
