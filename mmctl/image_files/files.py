"""An image file: where its bytes are, and what a folder or a label file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Part = Literal["train", "val", "test", "unlabeled"]


class Stamp(NamedTuple):
    """Tells cheaply whether the bytes may have changed."""

    path: str  # of the file on the disk
    size: int
    mtime_ns: int
    place: int = 0  # within that file, for archives


class Source(Protocol):
    """Where the bytes of an image are. OSError where they cannot be read."""

    def read(self) -> bytes: ...

    def stamp(self) -> Stamp: ...


class OnDisk(NamedTuple):
    """An image file of its own."""

    path: Path

    def read(self) -> bytes:
        """All bytes."""
        return self.path.read_bytes()

    def stamp(self) -> Stamp:
        """Size and modification time of the file."""
        stat = self.path.stat()
        return Stamp(str(self.path), stat.st_size, stat.st_mtime_ns)


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
        return self.path.read_bytes()

    def stamp(self) -> Stamp:
        """Size and modification time of the file."""
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
