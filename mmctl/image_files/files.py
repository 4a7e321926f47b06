"""An image file: where its bytes are, and what a folder or a label file says about it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from mmctl.filesystem import read_file

LARGEST = 2**30
"""Bytes of an image file; a larger one is refused."""
Part = Literal["train", "val", "test", "unlabeled"]


class Stamp(NamedTuple):
    """Tells cheaply whether the bytes may have changed."""

    path: str  # of the file on the disk; for Parquet with the column as if the file was a folder
    size: int
    mtime_ns: int
    place: int = 0  # within that file, for archives
    changed_ns: int = 0  # st_ctime_ns: a file that is moved or copied over another may have its size and mtime


class Source(Protocol):
    """Where the bytes of an image are. OSError where they cannot be read."""

    def read(self) -> bytes: ...

    def stamp(self) -> Stamp: ...


class OnDisk(NamedTuple):
    """An image file of its own."""

    path: Path

    def read(self) -> bytes:
        """All bytes. Raises OSError; a FIFO or device is not waited for."""
        try:
            return read_file(self.path, LARGEST)
        except ValueError as error:
            raise OSError(str(error)) from None

    def stamp(self) -> Stamp:
        """Size and times of the file. Raises OSError, also if it is no regular file."""
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"it is {kind_of(found.st_mode)}, not a file")
        return Stamp(
            os.path.abspath(self.path),  # noqa: PTH100 (ten times faster)
            found.st_size,
            found.st_mtime_ns,
            changed_ns=found.st_ctime_ns,
        )


_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def kind_of(mode: int) -> str:
    """What this is that is no regular file, for messages; mode: st_mode."""
    return next((name for what, name in _KINDS if what(mode)), "something else")


class InFolder(NamedTuple):
    """An image file of its own, as its folder and its path below it: a million of them share the folder."""

    root: str
    name: str

    @property
    def path(self) -> Path:
        """Of the file on the disk."""
        return Path(self.root, self.name)

    def read(self) -> bytes:
        """All bytes."""
        return OnDisk(self.path).read()

    def stamp(self) -> Stamp:
        """Size and times of the file."""
        return OnDisk(self.path).stamp()


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image, not decoded yet."""

    id: str  # path below the root, with "/", in Unicode normal form C: it names the image in splits and messages
    source: Source
    part: Part
    label: str | None  # class name; None = no label
    where: str  # what said so, for messages: "labels.csv:17", or the folder
    group: str | None = None  # images of one group (a person, a series) must not be divided between parts
