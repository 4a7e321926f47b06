"""A memory map of decoded images in the user's cache, for data sets that are larger than the memory of many machines.

It is built once, under another name, and renamed when it is complete: kill -9 leaves nothing that looks like a map.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmctl.image_files.packs import cache_folder, used
from mmctl.image_files.scratch import open_near
from mmctl.image_files.stamps import alone
from mmctl.plugin import DataError

DAY = 86_400
SPARE = 64 * 2**20
"""Bytes that a map leaves free on the disk."""


def mapped(
    name: str, sources: Sequence[Path], shape: tuple[int, ...], fill: Callable[[np.ndarray], list[str]]
) -> tuple[np.memmap, list[str]]:
    """The map of an array uint8, and what `fill` said about it when it filled it.

    It is filled again if a source file has another size or modification time.
    """
    stats = [(str(path.absolute()), path.stat()) for path in sources]
    place = hashlib.sha256(json.dumps([name, *(p for p, _ in stats)]).encode()).hexdigest()[:8]
    key = hashlib.sha256(json.dumps([name, shape, *((p, s.st_size, s.st_mtime_ns) for p, s in stats)]).encode())
    path = cache_folder() / f"{name}-{place}-{key.hexdigest()[:24]}.npy"
    try:
        if (told := _told(path, shape)) is None:
            with alone(path.with_name(f"{name}-{place}.lock")):
                if (told := _told(path, shape)) is None:  # else another process has built it meanwhile
                    told = _build(path, shape, fill)
        return open_near(path), told
    except OSError as error:
        raise DataError(f"{path.parent}: cannot write decoded images ({error.strerror}).") from None


def _told(path: Path, shape: tuple[int, ...]) -> list[str] | None:
    """What was said about the map when it was filled; None if there is no whole map of this shape."""
    try:
        told = json.loads(path.with_suffix(".json").read_text())
        made = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    good = isinstance(made, np.memmap) and made.shape == shape and made.dtype == np.uint8 and isinstance(told, list)
    used(path.with_suffix(".json"))
    return told if good else None


def _build(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], list[str]]) -> list[str]:
    size = int(np.prod(shape, dtype=np.int64))
    part: str | None = None
    try:
        for left in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.part"):  # of a killed process
            if time.time() - left.stat().st_mtime > DAY:
                left.unlink(missing_ok=True)
        if (free := shutil.disk_usage(path.parent).free) < size + SPARE:
            raise DataError(
                f"{path.parent}: {size / 2**30:.1f} GiB are needed for decoded images, but {free / 2**30:.1f} GiB are "
                "free. Free space, or set XDG_CACHE_HOME to a folder on a larger disk."
            )
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        os.close(handle)
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        told = fill(array)
        array.flush()
        about = Path(part).with_suffix(".about.part")
        about.write_text(json.dumps(told))
        about.replace(path.with_suffix(".json"))  # before the map, which makes it valid
        Path(part).replace(path)
        for old in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.npy"):  # of the same files before they changed
            if old != path:
                old.unlink(missing_ok=True)
                old.with_suffix(".json").unlink(missing_ok=True)
        return told
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)
            Path(part).with_suffix(".about.part").unlink(missing_ok=True)
