"""The journal of a run: one JSON object per line, one file per attempt.

journal.1.jsonl, journal.2.jsonl, ... are written by training; journal.0.jsonl holds what came from
outside of it (evaluate, tag, note). The journal is the truth: the database is made from it and from nothing else.

The file of an attempt is also its claim: only one process can create it, and a process that finds a newer one ends.
So no two processes write into a run, even on machines that do not see each other's locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from mmctl.errors import EnvironmentFault, Superseded
from mmctl.filesystem import open_file, share
from mmctl.run_folder.events import Event, encode, parse
from mmctl.run_folder.lease import now

PAUSE = 0.5
"""Seconds between two writes; kill -9 loses at most the events of this time."""
EVENTS = 1000
"""This many waiting events are written at once."""
SIZE, LINE_SIZE = 2**31, 2**24
"""Bytes of a journal and of one line; what is larger is not read."""


E = TypeVar("E", bound=Event)


class Journal:
    """Writes a run's events from a thread of its own."""

    def __init__(self, folder: Path, attempt: int, on_flush: Callable[[], None] | None = None) -> None:
        """on_flush: called by the writing thread once new lines are in the file, to bring the index up to date."""
        self.folder, self.attempt = folder, attempt
        self.path = path_of(folder, attempt)
        self._events: list[tuple[Event, int]] = []
        self._rest = b""
        self._fault: OSError | None = None
        self._newer = 0  # the attempt that takes the place of this one
        self._on_flush = on_flush
        self._warned = False
        self._closing = False
        self._wake = threading.Condition()
        self._writing = threading.Lock()
        try:
            self._fd = _open(self.path)
        except OSError as error:
            raise EnvironmentFault(f"{self.path}: cannot write the journal ({error.strerror}).") from None
        self._rest = _mend(self._fd)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except EnvironmentFault as fault:
            if error is None:
                raise
            self._warn(str(fault))
        except Superseded:
            if error is None:
                raise

    def write(self, event: Event) -> None:
        """Add an event; it is written to the file within half a second. Nothing in it may be changed afterwards."""
        with self._wake:
            assert not self._closing, "the journal is closed"
            self._events.append((event, now()))  # encoded by the thread: it takes five times as long as all this
            if len(self._events) >= EVENTS:
                self._wake.notify()

    def check_newest(self, look: bool = True) -> None:
        """Raise Superseded if there is a newer attempt; without `look`, only if the writing thread has seen one."""
        if look and not self._newer:
            with suppress(OSError):  # the folder was renamed: this process still holds it
                newest = max(attempts(self.folder), default=0)
                self._newer = newest if newest > self.attempt else 0
        if self._newer:
            raise Superseded(
                f"{self.folder.name}: attempt {self._newer} of this run has started, so this one (attempt "
                f"{self.attempt}) ends and writes nothing more."
            )

    def flush(self, sync: bool = False) -> None:
        """Write all waiting events; with `sync`, wait until they are on disk. Raises Superseded or EnvironmentFault."""
        self.check_newest()
        self._put()
        self._raise()
        if sync:
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._fault = error
                self._raise()

    def close(self) -> None:
        """Write everything, bring the database up to date, end the thread."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        try:
            self.flush(sync=True)
        finally:
            os.close(self._fd)

    def _work(self) -> None:
        closing, seen = False, 0
        while not closing:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or len(self._events) >= EVENTS, timeout=PAUSE)
                closing = self._closing
            self._put()
            if self._on_flush and (size := os.fstat(self._fd).st_size) != seen and self._flushed(self._on_flush):
                seen = size

    def _put(self) -> None:
        with self._writing:
            with self._wake:
                events, self._events = self._events, []
            self._rest += b"".join(encode(event, t) for event, t in events)
            try:
                if self._rest:
                    self.check_newest()
                while self._rest:
                    # A full disk may take half a line; the other half follows when there is room.
                    self._rest = self._rest[os.write(self._fd, self._rest) :]
                self._fault = None
            except Superseded:
                self._rest = b""
            except OSError as error:
                self._fault = error

    def _raise(self) -> None:
        self.check_newest(look=False)
        if self._fault is not None:
            raise EnvironmentFault(f"{self.path}: cannot write the journal ({self._fault.strerror}).")

    def _flushed(self, on_flush: Callable[[], None]) -> bool:
        try:
            on_flush()
        except Exception as error:  # whatever goes wrong with the index, training goes on
            self._warn(f"the database was not updated, the journal is complete: {error}")
            return False
        return True

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            with suppress(OSError):  # a closed terminal must not end the writing
                print(f"mmctl: {self.folder.name}: {text}", file=sys.stderr)


def path_of(folder: Path, attempt: int) -> Path:
    """The journal file of an attempt; attempt 0 holds events from outside training (evaluate, tag, note)."""
    return folder / f"journal.{attempt}.jsonl"


def attempts(folder: Path) -> list[int]:
    """The attempts that have a journal, in order; 0 is everything outside training."""
    names = (re.fullmatch(r"journal\.(0|[1-9][0-9]{0,5})\.jsonl", name) for name in os.listdir(folder))  # noqa: PTH208
    return sorted(int(name[1]) for name in names if name)


def claim(folder: Path) -> int:
    """Make the journal of the next attempt, which no other process can do then; returns its number, 1 at first."""
    while True:
        number = max(attempts(folder), default=0) + 1
        path = path_of(folder, number)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            share(path)
        except FileExistsError:
            continue  # another process was faster
        except OSError as error:
            raise EnvironmentFault(f"{path}: cannot write the journal ({error.strerror}).") from None
        return number


def append(folder: Path, event: Event) -> None:
    """Write one event from outside training, with the last attempt; several processes may do so at the same time."""
    path = path_of(folder, 0)
    try:
        event = replace(event, after=max(attempts(folder), default=0))
        fd = _open(path)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX)
            os.write(fd, _mend(fd) + encode(event))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot write the journal ({error.strerror}).") from None


def _open(path: Path) -> int:
    """Open a journal for writing; OSError if it is anything but a file."""
    # O_NONBLOCK: not even a FIFO makes the writer wait.
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o666)
        share(path)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return fd


def _mend(fd: int) -> bytes:
    # A line break where a writer was killed in the middle of a line, so that the next line is whole.
    size = os.fstat(fd).st_size
    return b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""


class Line(NamedTuple):
    """One line of a journal file: an event, or what is wrong with it, or neither (of a newer mmctl)."""

    event: Event | None
    offset: int  # of the byte after it
    raw: bytes  # as written, with what this mmctl does not know of it
    fault: str | None = None


def read_lines(path: Path, offset: int = 0) -> Iterator[Line]:
    """Each whole line from a byte offset on; OSError or ValueError if it is not a file or is too large."""
    with open_file(path, SIZE) as file:
        file.seek(offset)
        while line := file.readline(LINE_SIZE):
            offset += len(line)
            if line.endswith(b"\n"):
                try:
                    yield Line(None if line.isspace() else parse(line), offset, line)
                except ValueError as error:
                    yield Line(None, offset, b"", str(error))
            elif len(line) < LINE_SIZE:
                return  # still being written, or cut off by a kill
            else:
                while (line := file.readline(LINE_SIZE)) and not line.endswith(b"\n"):
                    offset += len(line)
                offset += len(line)
                if not line:
                    return
                yield Line(None, offset, b"", f"longer than {LINE_SIZE} bytes")


def read_events(folder: Path, kind: type[E]) -> Iterator[E]:
    """All events of one kind in the journals of a run, attempt by attempt."""
    for attempt in attempts(folder):
        for line in read_lines(path_of(folder, attempt)):
            if isinstance(line.event, kind):
                yield line.event
