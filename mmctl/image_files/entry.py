"""An entry of the cache of decoded images: its files, what is known of them, and who makes it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmctl.image_files.files import ImageFile
from mmctl.image_files.pixels import VERSION, Decoding

OLDER = 4
"""Other entries that are searched for images with the same bytes."""


def cache_folder() -> Path:
    """The folder for decoded images; mmctl never writes into the data folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mmctl"


class Entry(NamedTuple):
    """One list of files, decoded in one way."""

    folder: Path
    name: str
    stamps: list[bytes]  # 16 bytes for each file

    @staticmethod
    def of(files: Sequence[ImageFile], decoding: Decoding) -> Entry:
        """The entry of these files; nothing is read but their sizes and times."""
        import PIL

        stamps = [hashlib.blake2b(repr(_stamp(file)).encode("utf-8", "surrogateescape"), digest_size=16).digest()
                  for file in files]  # fmt: skip
        how = hashlib.sha256(f"{VERSION} {PIL.__version__} {decoding}".encode()).hexdigest()[:12]
        which = hashlib.sha256(b"".join(stamps)).hexdigest()[:20]
        return Entry(cache_folder() / "images", f"{how}-{which}", stamps)

    @property
    def pixels(self) -> Path:
        """The pixels, row by row."""
        return self.folder / f"{self.name}.u8"

    @property
    def known(self) -> Path:
        """What is known of each file; it is there once the entry is complete."""
        return self.folder / f"{self.name}.npz"

    @property
    def part(self) -> Path:
        """The folder in which the entry is made."""
        return self.folder / f"{self.name}.part"

    def complete(self) -> bool:
        """Whether it can be read."""
        return self.known.is_file() and self.pixels.is_file()


def _stamp(file: ImageFile) -> object:
    try:
        one = file.source.stamp()
        return one._replace(path=os.path.abspath(one.path))  # noqa: PTH100 - of a hundred thousand files
    except OSError as error:
        return (str(getattr(error, "filename", "")), file.id, error.errno)


class Kept(NamedTuple):
    """NAME.npz: what is known of each file of an entry."""

    stamps: np.ndarray  # uint8 N x 16
    data: np.ndarray  # uint8 N x 32: SHA-256 of the bytes of the file
    content: np.ndarray  # uint8 N x 32: of its pixels
    row: np.ndarray  # int64 N: where its pixels are; -1 = it could not be decoded
    said: dict[str, Any]  # bad: number -> reason; notes: number of files of each

    @staticmethod
    def read(path: Path) -> Kept | None:
        """None if the file is damaged, or gone."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                arrays = [found[name] for name in ("stamps", "data", "content", "row")]
                said = json.loads(found["said"].tobytes())
            stamps, data, content, row = arrays
            return Kept(stamps, data, content, row, said) if len({len(one) for one in arrays}) == 1 else None
        except Exception:  # a damaged file may raise any error; decoding again is always right
            return None


class Known(NamedTuple):
    """Where another entry has the pixels of an image."""

    pixels: str
    row: int
    data: str
    content: str


def older(entry: Entry) -> tuple[dict[bytes, Known], dict[str, Known]]:
    """The images of other entries, decoded in the same way: by the stamp of the file, and by the hash of its bytes."""
    others = [one for one in entry.folder.glob(f"{entry.name.partition('-')[0]}-*.npz") if one != entry.known]
    by_stamp: dict[bytes, Known] = {}
    by_data: dict[str, Known] = {}
    for path in sorted(others, key=_age)[:OLDER]:
        pixels, kept = path.with_suffix(".u8"), Kept.read(path)
        if kept is None or not pixels.is_file():
            continue
        for number in np.flatnonzero(kept.row >= 0).tolist():
            data, content = (one[number].tobytes().hex() for one in (kept.data, kept.content))
            one = Known(str(pixels), int(kept.row[number]), data, content)
            by_stamp.setdefault(kept.stamps[number].tobytes(), one)
            by_data.setdefault(data, one)
    return by_stamp, by_data


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def alone(entry: Entry) -> Iterator[None]:
    """One process makes an entry; others wait until it has."""
    import fcntl

    # Never deleted: a process that waits for a deleted file would not see the lock of one that made it anew.
    fd = os.open(entry.folder / f".lock-{entry.name[-1]}", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        waiting = False
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):
                if not waiting and sys.stderr.isatty():
                    print("another process decodes these images: waiting for it ...", file=sys.stderr)
                waiting = True
                time.sleep(0.2)
        yield
    finally:
        os.close(fd)
