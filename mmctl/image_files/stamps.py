"""Remembers what the bytes of files were, so that a file that did not change is not read again."""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from time import time_ns

import numpy as np

from mmctl.filesystem import naming, write_atomic
from mmctl.image_files.files import Stamp
from mmctl.image_files.packs import used
from mmctl.image_files.progress import say

RECENT = 2 * 10**9
"""Nanoseconds. A file that was written so shortly before it was read may change again within the same time stamp."""


class Stamps:
    """SHA-256 of files by path, size and times; one index for each folder of images."""

    def __init__(self, folder: Path, stamps: Iterable[Stamp]) -> None:
        folders = {os.path.dirname(stamp.path) for stamp in stamps}  # noqa: PTH120 (a million Paths take seconds)
        root = os.path.commonpath([Path(folder).absolute() for folder in folders]) if folders else ""
        key = sha256(root.encode(errors="surrogateescape")).hexdigest()[:24]
        self.path, self.lock = folder / f"{key}.npz", folder / f"{key}.lock"
        self.known: dict[tuple[str, int], tuple[int, int, int, bytes]] = {}
        self.changed = False
        self.load()

    def load(self) -> None:
        """Read the index; a damaged one is as none."""
        with suppress(Exception), self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            paths = file["paths"].tobytes().decode(errors="surrogateescape").split("\0")
            numbers, sha = file["numbers"].tolist(), file["sha"]
            used(self.path)
            if len(paths) == len(numbers) == len(sha):
                for path, (place, size, mtime, changed), digest in zip(paths, numbers, sha, strict=True):
                    self.known[path, place] = size, mtime, changed, digest.tobytes()

    def get(self, stamp: Stamp) -> bytes | None:
        """SHA-256 of the bytes; None if they may have changed."""
        found = self.known.get((stamp.path, stamp.place))
        return found[3] if found and found[:3] == (stamp.size, stamp.mtime_ns, stamp.changed_ns) else None

    def put(self, stamp: Stamp, sha: bytes) -> None:
        """Remember the bytes of a file that was read after it had this stamp."""
        if time_ns() - stamp.mtime_ns > RECENT:
            self.known[stamp.path, stamp.place] = stamp.size, stamp.mtime_ns, stamp.changed_ns, sha
            self.changed = True

    def save(self) -> None:
        """Write the index; if that fails, the files are read again next time."""
        if not self.changed:
            return
        out = io.BytesIO()
        np.savez(
            out,
            paths=np.frombuffer("\0".join(path for path, _ in self.known).encode(errors="surrogateescape"), np.uint8),
            numbers=np.array([(place, *found[:3]) for (_, place), found in self.known.items()], np.int64),
            sha=np.frombuffer(b"".join(found[3] for found in self.known.values()), np.uint8).reshape(-1, 32),
        )
        with suppress(OSError):
            write_atomic(self.path, out.getvalue())
            self.changed = False


@contextmanager
def alone(lock: Path, what: str = "which decodes the same images") -> Iterator[bool]:
    """Wait until no other process is in a block with this lock file, and hold the others off.

    what: the other process does, for people.
    False where the file system has no locks: then others may be in such a block, too.
    """
    with naming(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process, {what} ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # both decode, and the faster one publishes
            yield False
            return
        yield True
