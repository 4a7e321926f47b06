"""Takes rows out of pixels in memory or in a memory map, which can be larger than memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np


def gather(pixels: Any, rows: np.ndarray) -> Any:
    """A copy of some rows of an array or tensor; of a memory map, only these rows get into memory."""
    if not isinstance(pixels, np.memmap):
        return pixels[rows]
    _announce(pixels, rows)
    # A plain array: indexing a memmap costs more, and gives a view that keeps the map open.
    return np.take(np.asarray(pixels), rows, axis=0)


def _announce(pixels: np.memmap, rows: np.ndarray) -> None:
    """Tell the system which rows come, so that it reads them from the disk side by side.

    Otherwise each is read when the one before is there: sixty times slower where the disk answers slowly.
    """
    disk = getattr(pixels, "_mmap", None)  # numpy has no public name for it
    if disk is None or not len(rows) or not hasattr(mmap, "MADV_WILLNEED") or not pixels.flags.c_contiguous:
        return
    whole = np.frombuffer(disk, np.uint8)
    first = pixels.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    each = pixels.nbytes // len(pixels)
    for start, stop in spans(first, each, rows):
        disk.madvise(mmap.MADV_WILLNEED, start, stop - start)


def spans(first: int, each: int, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where the rows are, from the start of a page; neighbours are one. first: place of row 0, each: size of a row."""
    ordered = np.unique(rows)
    ends = np.flatnonzero(np.diff(ordered) > 1)
    for low, high in zip(ordered[np.r_[0, ends + 1]].tolist(), ordered[np.r_[ends, -1]].tolist(), strict=True):
        yield (first + low * each) // mmap.PAGESIZE * mmap.PAGESIZE, first + (high + 1) * each
