"""Decodes each image file once, with all cores, into a file that is mapped into memory.

An entry of the cache is named by the files (path, size, time) and by how they are decoded. It has two files: NAME.u8,
the pixels row by row, and NAME.npz, what is known of each file; the second one is written last. While an entry is
made, it is the folder NAME.part, in which `done` says which rows are there: after kill -9 the next start goes on.
Images that another entry has, by the hash of their bytes, are copied from it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mmctl.errors import DataError, EnvironmentFault, os_error
from mmctl.image_files.entry import Entry, Kept, Known, alone, older
from mmctl.image_files.files import ImageFile
from mmctl.image_files.pixels import Decoding
from mmctl.image_files.work import CHUNK, Row, decode_rows, each_chunk, kept_pixels
from mmctl.text import printable

LOADED = 2**30
"""Bytes; with memory = "auto", more decoded pixels than this stay on the disk."""
NAMED = 3
"""Damaged files that a message names."""
Progress = Callable[[int, int], None]
"""Called with the number of files that are decoded, and of all."""


@dataclass(frozen=True)
class Decoded:
    """The images that could be decoded, in the order of their files. N images, C channels, H height, W width."""

    pixels: np.ndarray  # uint8 NCHW; an np.memmap if it stays on the disk
    kept: np.ndarray  # int64 N: which files they are
    content: list[bytes]  # SHA-256 of the pixels of each image: equal images have equal ones
    bad: list[tuple[str, str]]  # id and reason of each file that was left out
    notes: Counter[str]  # what is remarkable -> number of files


def read_pixels(
    files: Sequence[ImageFile],
    decoding: Decoding,
    *,
    on_bad: Literal["stop", "skip"] = "stop",
    memory: Literal["auto", "load", "map"] = "auto",
    progress: Progress | None = None,
) -> Decoded:
    """The decoded images, from the cache if it has them.

    on_bad: "stop" = DataError if a file is damaged, "skip" = leave it out. memory: "map" = pixels stay on the disk,
    "load" = they are read into memory, "auto" = below 1 GiB. EnvironmentFault if the cache cannot be written.
    """
    entry = Entry.of(files, decoding)
    try:
        if not entry.complete():
            entry.folder.mkdir(parents=True, exist_ok=True)
            with alone(entry):
                if not entry.complete():
                    with _shown(progress, len(files)) as told:
                        _make(entry, files, decoding, told)
        return _open(entry, files, decoding, on_bad, memory)
    except OSError as error:
        raise os_error(error, error.filename or entry.folder) from None


def _open(entry: Entry, files: Sequence[ImageFile], decoding: Decoding, on_bad: str, memory: str) -> Decoded:
    kept = Kept.read(entry.known)
    shape = (decoding.channels, *decoding.size)
    good = 0 if kept is None else int((kept.row >= 0).sum())
    if kept is None or len(kept.row) != len(files) or entry.pixels.stat().st_size != good * int(np.prod(shape)):
        entry.known.unlink(missing_ok=True)
        raise EnvironmentFault(f"{entry.known}: the cache was damaged, and is deleted. Start again.")
    bad = [(files[int(number)].id, str(reason)) for number, reason in kept.said["bad"].items()]
    if bad and on_bad == "stop":
        raise DataError(_damaged(files, kept.said["bad"]))
    if not good:
        raise DataError(f"none of {len(files)} images can be decoded: {printable(bad[0][0])} {bad[0][1]}.")
    pixels: np.ndarray = np.memmap(entry.pixels, np.uint8, "r", shape=(good, *shape))
    if memory == "load" or (memory == "auto" and pixels.nbytes < LOADED):
        pixels = np.array(pixels)
    rows = np.flatnonzero(kept.row >= 0)
    content = [kept.content[number].tobytes() for number in rows.tolist()]
    return Decoded(pixels, rows, content, bad, Counter(kept.said["notes"]))


def _damaged(files: Sequence[ImageFile], bad: dict[str, str]) -> str:
    first = [f"{printable(files[int(number)].id)} {reason}" for number, reason in list(bad.items())[:NAMED]]
    more = f"; and {len(bad) - NAMED} more (`mmctl data check` lists all)" if len(bad) > NAMED else ""
    what = "1 image is" if len(bad) == 1 else f"{len(bad)} images are"
    return (
        f"{what} damaged of {len(files):,}: {'; '.join(first)}{more}. Restore or remove them, or set "
        'dataset.on_bad = "skip" to leave them out.'
    )


def _make(entry: Entry, files: Sequence[ImageFile], decoding: Decoding, told: Progress) -> None:
    """Decode what is not there yet, and publish the entry."""
    part, n = entry.part, len(files)
    size = decoding.channels * decoding.size[0] * decoding.size[1]
    part.mkdir(exist_ok=True)
    _check_room(part, n * size)
    path, log = part / "pixels", part / "done"
    done = _done(log, n)
    if (part / "packed").exists() or not path.exists() or path.stat().st_size != n * size:
        done = {}
        for old in ("packed", "done"):
            (part / old).unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate(n * size)
    by_stamp, by_data = older(entry)
    todo = [row for row in range(n) if row not in done]
    told(n - len(todo), n)
    with log.open("a") as out:
        for row in _copied(todo, entry.stamps, by_stamp, path, size):
            out.write(json.dumps(row) + "\n")
            done[row.number] = row
        todo = [row for row in todo if row not in done]
        chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
        for rows in each_chunk(decode_rows, ([(row, files[row]) for row in chunk] for chunk in chunks),
                               (decoding, path, by_data), len(todo)):  # fmt: skip
            for row in rows:
                out.write(json.dumps(row) + "\n")
                done[row.number] = row
            out.flush()
            told(len(done), n)
    _publish(entry, [done[number] for number in range(n)], path, size)


def _copied(
    todo: Sequence[int], stamps: Sequence[bytes], known: Mapping[bytes, Known], path: Path, size: int
) -> Iterator[Row]:
    """Copies of the images that another entry has of the same unchanged files, without reading these."""
    with path.open("r+b", buffering=0) as out:
        for number in todo:
            if (one := known.get(stamps[number])) and (pixels := kept_pixels(one, size)) is not None:
                os.pwrite(out.fileno(), pixels, number * size)
                yield Row(number, one.data, one.content)


def _done(log: Path, n: int) -> dict[int, Row]:
    """The rows of an earlier start; a line that was cut off by kill -9 is decoded again."""
    found: dict[int, Row] = {}
    with suppress(FileNotFoundError), log.open() as file:
        for line in file:
            with suppress(ValueError, TypeError):
                row = Row(*json.loads(line))
                if 0 <= row.number < n and len(row.data) == len(row.content) == 64:
                    found[row.number] = row
    return found


def _publish(entry: Entry, rows: Sequence[Row], path: Path, size: int) -> None:
    """Close the gaps of damaged images, then move both files to where others look for them."""
    good = [row.number for row in rows if not row.bad]
    if len(good) < len(rows):
        (entry.part / "packed").touch()  # from here on, rows are no longer where `done` says
        with path.open("r+b") as file:
            for place, number in enumerate(good):
                if place != number:
                    file.seek(number * size)
                    data = file.read(size)
                    file.seek(place * size)
                    file.write(data)
            file.truncate(len(good) * size)
    with path.open("r+b") as file:
        os.fsync(file.fileno())
    place_of = np.full(len(rows), -1, np.int64)
    place_of[good] = np.arange(len(good))
    said = {
        "bad": {str(row.number): row.bad for row in rows if row.bad},
        "notes": dict(Counter(note for row in rows for note in row.notes)),
    }
    arrays = {
        "stamps": np.frombuffer(b"".join(entry.stamps), np.uint8).reshape(-1, 16),
        "data": np.frombuffer(bytes.fromhex("".join(row.data for row in rows)), np.uint8).reshape(-1, 32),
        "content": np.frombuffer(bytes.fromhex("".join(row.content for row in rows)), np.uint8).reshape(-1, 32),
        "row": place_of,
        "said": np.frombuffer(json.dumps(said).encode(), np.uint8),
    }
    known = entry.part / "known"
    with known.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    path.replace(entry.pixels)
    known.replace(entry.known)
    shutil.rmtree(entry.part, ignore_errors=True)


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    have = sum(one.stat().st_blocks * 512 for one in folder.iterdir())
    if size > free + have:
        raise EnvironmentFault(
            f"{folder.parent}: decoded images need {size / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free. Make "
            "room, lower dataset.size, or set XDG_CACHE_HOME to another disk."
        )


@contextmanager
def _shown(progress: Progress | None, n: int) -> Iterator[Progress]:
    """The given progress; else a bar on a terminal, once it takes more than a second."""
    if progress is not None or not sys.stderr.isatty():
        yield progress or (lambda done, total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("decoding images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    start = time.monotonic()
    task = bar.add_task("", total=n)

    def told(done: int, total: int) -> None:
        if not bar.live.is_started and time.monotonic() - start > 1:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield told
    finally:
        bar.stop()
