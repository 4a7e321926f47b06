"""What the processes that decode images do: read files, decode them, and write their pixels to their rows."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mmctl.cores import available_cores
from mmctl.errors import EnvironmentFault
from mmctl.image_files.entry import Known
from mmctl.image_files.files import ImageFile
from mmctl.image_files.pixels import EXTENSIONS, BadImage, Decoding, decode

CHUNK = 64
"""Files that a process gets at once."""
ALONE = 400
"""So few files are decoded in this process: others would take longer to start."""
NONE = "0" * 64


Copied: TypeAlias = Mapping[str, Known]
"""Images of other entries by the SHA-256 of the bytes of their files."""


class Row(NamedTuple):
    """One file: its number, the hashes of its bytes and of its pixels, what is wrong with it, what is remarkable."""

    number: int
    data: str
    content: str
    bad: str = ""
    notes: Sequence[str] = ()


def kept_pixels(known: Known, size: int) -> bytes | None:
    """The pixels that another entry has; None if they are no longer there."""
    try:
        with open(known.pixels, "rb") as kept:  # noqa: PTH123
            pixels = os.pread(kept.fileno(), size, known.row * size)
    except OSError:
        return None
    return pixels if hashlib.sha256(pixels).hexdigest() == known.content else None


def decode_rows(files: Sequence[tuple[int, ImageFile]], decoding: Decoding, path: Path, copied: Copied) -> list[Row]:
    """Decode some files into their rows of the file of pixels."""
    size = decoding.channels * decoding.size[0] * decoding.size[1]
    rows = []
    with path.open("r+b", buffering=0) as out:
        for number, file in files:
            row, pixels = _one(number, file, decoding, copied, size)
            if pixels is not None:
                os.pwrite(out.fileno(), pixels, number * size)
            rows.append(row)
    return rows


def _one(number: int, file: ImageFile, decoding: Decoding, copied: Copied, size: int) -> tuple[Row, bytes | None]:
    try:
        data = read_bytes(file)
    except OSError as error:
        return Row(number, NONE, NONE, f"cannot be read ({error.strerror or error})"), None
    except BadImage as error:
        return Row(number, NONE, NONE, str(error)), None
    key = hashlib.sha256(data).hexdigest()
    if (one := copied.get(key)) and (pixels := kept_pixels(one, size)) is not None:
        return Row(number, key, one.content), pixels
    try:
        made = decode(data, decoding)
    except BadImage as error:
        return Row(number, key, NONE, str(error)), None
    pixels = np.ascontiguousarray(made.pixels).tobytes()
    notes = list(made.notes)
    suffix = file.id.rpartition(".")[2].lower()
    if (said := EXTENSIONS.get(suffix)) and said != made.format:
        notes.append(f"{made.format} images named .{suffix}")
    return Row(number, key, hashlib.sha256(pixels).hexdigest(), "", notes), pixels


def read_bytes(file: ImageFile) -> bytes:
    """The bytes of an image; BadImage for what is no regular file: a FIFO would make the reader wait."""
    path = getattr(file.source, "path", None)
    if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
        raise BadImage("is not a regular file")
    return file.source.read()


def each_chunk(
    work: Callable[..., list[Row]], chunks: Iterable[Sequence[tuple[int, ImageFile]]], args: tuple[Any, ...], n: int
) -> Iterator[list[Row]]:
    """The results of work(chunk, *args), as they come; by several processes if there is much to do."""
    cores = available_cores()
    if n <= ALONE or cores == 1:
        for chunk in chunks:
            yield work(chunk, *args)
        return
    # A fresh process has no threads of torch and no locks that somebody holds; it imports Pillow and numpy alone.
    pool = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), _begin, (os.getpid(),))
    waiting: deque[Future[list[Row]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(work, chunk, *args))
            if len(waiting) > 4 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise EnvironmentFault(
            "a process that decodes images was ended, perhaps for want of memory. Start again: what is decoded stays."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    """Ctrl-C is for the parent, which ends its children; they end with it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
