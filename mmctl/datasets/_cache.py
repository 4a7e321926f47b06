"""A cache of decoded images."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mmctl.image_files.packs import cache_folder, used

Arrays = dict[str, np.ndarray]


def cached(name: str, files: Iterable[tuple[str, int, int]], decode: Callable[[], Arrays]) -> Arrays:
    """The result of `decode`, cached by (path, size, modification time in ns) of the files that it reads."""
    key = hashlib.sha256("".join(f"{path}\0{size}\0{mtime}\n" for path, size, mtime in files).encode(errors="replace"))
    path = cache_folder() / f"{name}-{key.hexdigest()[:24]}.npz"
    kept = _load(path)
    if kept is None:
        kept = decode()
        _save(path, kept)
    return kept


def _load(path: Path) -> Arrays | None:
    """The cached arrays, or None if there is no file or it is damaged (zip archives contain checksums)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            used(path)
            return {name: archive[name] for name in archive.files}
    except Exception:  # a damaged file may raise any error; decoding again is always right
        return None


def _save(path: Path, arrays: Arrays) -> None:
    """Write the cache file atomically; if that fails (disk full, no permission), the next run decodes again."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        Path(part).replace(path)
    except OSError:
        if part is not None:
            Path(part).unlink(missing_ok=True)
