"""Decoded images in the user's cache that nobody has used for a long time; they are decoded again when needed.

Opening a map, an index or another cache file sets its time, so that the time says when it was used last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from typing import NamedTuple

import numpy as np

from mmctl.errors import EnvironmentFault
from mmctl.image_files.packs import OLD, PART, PIXELS, SHARD, cache_folder, delete, lock_of
from mmctl.text import duration


class Unused(NamedTuple):
    """A file or folder of the cache."""

    path: Path
    what: str  # in words, with the time since it was used


def unused(seconds: float) -> list[Unused]:
    """What nobody has used for so long."""
    try:
        cache = cache_folder()
    except EnvironmentFault:  # there is no home folder
        return []
    return [
        Unused(path, f"{what}, unused for {duration(_age(path))}")
        for path, what in _entries(cache)
        if _is_unused(path, seconds)
    ]


def forget(path: Path, seconds: float) -> bool:
    """Delete what `unused` found; False if it was used meanwhile, or is gone. EnvironmentFault if it cannot be deleted.

    Who has it open can read on.
    """
    if not path.exists() or not _is_unused(path, seconds):
        return False
    if path.is_dir():
        delete(path)
        lock_of(path).unlink(missing_ok=True)
    else:
        with suppress(OSError):
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)  # beside the map of a published data set
    if path.exists():
        raise EnvironmentFault(f"{path}: cannot be deleted. Correct its permissions, then run `mmctl gc` again.")
    with suppress(OSError):
        path.parent.rmdir()  # the last of these settings
    return True


def _entries(cache: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(cache.glob("images/*/*")):
        if _is_unfinished(path):
            yield path, "decoded images that no map has taken in"
        else:
            yield path, _words(path / PIXELS)
    for path in sorted(cache.glob("images/*.npz")):
        yield path, "index of image files"
    for path in sorted([*cache.glob("*.npy"), *cache.glob("*.npz")]):
        yield path, f"decoded images of {path.name.partition('-')[0]}"


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(SHARD) or path.name.endswith(PART)


def _is_unused(path: Path, seconds: float) -> bool:
    return _age(path) >= (max(seconds, OLD) if _is_unfinished(path) else seconds)  # a process may be at work on it


def _words(pixels: Path) -> str:
    try:
        n, _, height, width = np.load(pixels, mmap_mode="r", allow_pickle=False).shape
    except Exception:  # a damaged file may raise any error
        return "damaged map of decoded images"
    return f"{n:,} decoded images of {width} x {height} px"


def _age(path: Path) -> float:
    """Seconds since it was used; of a map of a published data set, the file beside it says so."""
    times = [0.0]
    for one in (path, path.with_suffix(".json")):
        with suppress(OSError):
            times.append(one.stat().st_mtime)
    return time() - max(times)
