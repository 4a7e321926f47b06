"""Decodes image files with all cores: in processes of their own, so that a decoder that crashes ends no run.

Processes, not threads: for small images most of the time is Python, and two threads together are as fast as one. A
process is started afresh (not forked: the parent may have threads and a GPU), imports no torch, and nothing of the
parent's script. Ctrl-C reaches only the parent, which ends them; they end by themselves when the parent dies.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Container, Generator, Sequence
from contextlib import suppress
from hashlib import sha256
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmctl.cores import available_cores
from mmctl.errors import EnvironmentFault
from mmctl.image_files.files import Source
from mmctl.image_files.packs import SHARD, Said, clear, publish
from mmctl.image_files.pixels import BadImage, Decoding, decode

FEW, FEW_BYTES = 500, 8 * 2**20
"""So many images, in files of so many bytes, are decoded in less time than processes need to start."""
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
"""Signals by which a decoder ends its process; any other comes from outside, SIGKILL often from too little memory."""

Task = list[tuple[int, Source]]
"""Number of each image, and where its bytes are."""


class Read(NamedTuple):
    """What became of a file."""

    number: int
    sha: bytes | None  # SHA-256 of its bytes; None = it could not be read, or ended the decoder
    bad: str = ""


class Setting(NamedTuple):
    """What all tasks share."""

    decoding: Decoding
    cache: Path  # the folder of packs
    known: Container[bytes]  # SHA-256 of files that are decoded already


def work(task: Task, setting: Setting) -> tuple[list[Read], Path | None]:
    """Read and decode some files; what is new goes into a shard, whose folder is returned.

    Raises OSError if the shard cannot be written.
    """
    read: list[Read] = []
    new: dict[bytes, tuple[Said, np.ndarray | None]] = {}
    for number, source in task:
        try:
            data = source.read()
        except Exception as error:  # a source may be a member of any kind of archive
            read.append(Read(number, None, unreadable(error)))
            continue
        sha = sha256(data).digest()
        read.append(Read(number, sha))
        if sha in setting.known or sha in new:
            continue
        try:
            pixels, notes, kind = decode(data, setting.decoding)
            new[sha] = Said("", kind, notes), pixels
        except BadImage as error:
            new[sha] = Said(str(error)), None
    if not new:
        return read, None
    good = [pixels for _, pixels in new.values() if pixels is not None]
    digests = b"".join(sha256(pixels.data).digest() for pixels in good)
    name = f"{SHARD}{os.getpid()}-{os.urandom(8).hex()}"
    shard = publish(
        setting.cache, name, (len(good), setting.decoding.channels, *setting.decoding.size), good,
        np.frombuffer(digests, np.uint8).reshape(-1, 32), np.frombuffer(b"".join(new), np.uint8).reshape(-1, 32),
        [said for said, _ in new.values()],
    )  # fmt: skip
    return read, shard


def unreadable(error: Exception) -> str:
    """Why a file cannot be read."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return f"cannot be read ({text})"


def work_all(tasks: Sequence[Task], setting: Setting, size: int) -> Generator[tuple[list[Read], Path | None]]:
    """The results of `work`, as they come; size: bytes of all files.

    Raises OSError, or Ended or EnvironmentFault if something ends the processes.
    """
    if sum(map(len, tasks)) <= FEW and size <= FEW_BYTES:
        yield from (work(task, setting) for task in tasks)
        return
    left = deque(tasks)
    workers = [_Worker(setting) for _ in range(min(available_cores(), len(tasks)))]
    try:
        for worker in workers:
            worker.next(left)
        while busy := {worker.pipe: worker for worker in workers if worker.task}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    answer = worker.pipe.recv()
                except (EOFError, ConnectionError):
                    if found := worker.died(left):
                        yield found, None
                    workers.remove(worker)
                    workers.append(worker := _Worker(setting))
                else:
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
                worker.next(left)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that decodes."""

    def __init__(self, setting: Setting) -> None:
        ours, theirs = socket.socketpair()
        code = f"import sys; sys.path[:] = {sys.path!r}; from mmctl.image_files.workers import serve; serve()"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, process_group=0,
                # numpy would start a thread for each core, which have nothing to do.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )  # fmt: skip
        self.pipe = Connection(ours.detach())
        self.task: Task = []
        self.setting: Setting | None = setting
        self.cache = setting.cache

    def next(self, left: deque[Task]) -> None:
        """Give it the next task."""
        if self.setting:  # not before all of them start: this waits until the process reads it
            self._send(self.setting)
            self.setting = None
        self.task = left.popleft() if left else []
        if self.task:
            self._send(self.task)

    def _send(self, what: Any) -> None:
        with suppress(ConnectionError):  # it died: receiving says so
            self.pipe.send(what)

    def died(self, left: deque[Task]) -> list[Read]:
        """The image that ended it, if that is known; otherwise its images come again one by one."""
        code = self.process.wait()
        self.pipe.close()
        if code >= 0:
            raise EnvironmentFault(
                f"A process that decodes images ended with exit code {code}. Run the command again; if that does not "
                "help, reinstall Pillow and numpy."
            )
        if len(self.task) > 1:
            left.extendleft([image] for image in reversed(self.task))
            return []
        name = signal.Signals(-code).name
        if -code in CRASHES:
            return [Read(self.task[0][0], None, f"ends the decoder ({name})")]
        raise Ended(self.task[0][0], name)

    def end(self) -> None:
        """End the process, also in the middle of an image."""
        self.pipe.close()
        self.process.kill()
        self.process.wait()
        clear(self.cache, f"{SHARD}{self.process.pid}-*")


class Ended(Exception):
    """Something ended the process that decoded this image, twice: number of the image, name of the signal."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name
        super().__init__(number, name)


def serve() -> None:
    """What a process does: answer tasks until the pipe on its standard input ends."""
    with Connection(os.dup(0)) as pipe:
        try:
            setting: Setting = pipe.recv()
            while True:
                task: Task = pipe.recv()
                try:
                    answer: Any = work(task, setting)
                except (OSError, MemoryError) as error:
                    answer = error
                pipe.send(answer)
        except (EOFError, ConnectionError):
            return  # the parent has no more tasks, or is dead
