"""Reads files of published data sets: complete, and the published ones by their MD5, before their content is used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mmctl.plugin import DataError

Files = Literal["official", "any"]
ANY = 'To use it nevertheless, set dataset.files = "any": such results are not figures of the published data set.'


class PublishedFile(NamedTuple):
    """A file of a data set: its name, its size in bytes and its MD5, where they are known."""

    name: str
    size: int | None = None
    md5: str | None = None


def folder_with(root: Path, names: Sequence[str], places: Sequence[str], source: str) -> Path:
    """The folder at or below root that holds one of the files `names`; DataError says what to download if none does."""
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. {source} Set dataset.root to that folder.")
    for place in places:
        if any((root / place / name).exists() for name in names):
            return root / place
    packed = sorted(p.name for p in root.iterdir() if p.name.endswith((".tar.gz", ".tgz", ".zip", ".tar")))
    if packed:
        raise DataError(f"{root}: {packed[0]} is not unpacked, and {names[0]} is missing. Unpack it there. {source}")
    raise DataError(f"{root}: there is no {names[0]} in it. {source}")


def read_whole(folder: Path, file: PublishedFile, files: Files, source: str, pickled: bool = False) -> bytes:
    """All bytes of a file, if it is the published one; with files = "any" other bytes too, unless they are a pickle."""
    path = folder / file.name
    data = _bytes(path, source)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if files == "official" or pickled:
        check_file(path, file, len(data), found, source, pickled)
    return data


def check_whole(path: Path, file: PublishedFile, files: Files, source: str) -> None:
    """DataError if a file is missing or, with files = "official", not the published one."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file. {source}")
        size = path.stat().st_size
        if files == "official":
            check_file(path, file._replace(md5=None), size, "", source)
            with path.open("rb") as opened:
                md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            check_file(path, file, size, md5, source)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {source}") from None


def check_file(path: Path, file: PublishedFile, size: int, md5: str, source: str, pickled: bool = False) -> None:
    """DataError if a file is not the published one."""
    if file.size not in (None, size):
        wrong = f"{size} bytes, but the published file has {file.size}"
    elif file.md5 not in (None, md5):
        wrong = f"MD5 {md5}, but the published file has {file.md5} ({size} bytes were read)"
    else:
        return
    more = "A Python pickle could run any code, so no other file is read." if pickled else ANY
    raise DataError(f"{path}: damaged, incomplete or another file: it has {wrong}. {source} {more}")


def _bytes(path: Path, source: str) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file. {source}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {source}") from None


def records(path: Path, data: bytes, length: int, source: str) -> np.ndarray:
    """The bytes as rows of `length`, uint8 N x length."""
    if not data or len(data) % length:
        raise DataError(
            f"{path}: {len(data)} bytes are not a whole number of images of {length} bytes: incomplete. {source}"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, length)


def check_labels(path: Path, labels_N: np.ndarray, low: int, high: int, source: str) -> np.ndarray:
    """Labels from `low` to `high` as int64 from 0 on."""
    if len(labels_N) and not low <= int(labels_N.min()) <= int(labels_N.max()) <= high:
        raise DataError(
            f"{path}: labels go from {labels_N.min()} to {labels_N.max()}, but must be from {low} to {high}: damaged "
            f"or another file. {source}"
        )
    return labels_N.astype(np.int64) - low


def numbered(part: str, n: int) -> list[str]:
    """Ids of images that have no file name: train/00000, train/00001 ..."""
    return [f"{part}/{row:05d}" for row in range(n)]
