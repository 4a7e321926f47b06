"""Image files made in a test: nothing binary is stored."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mmctl.image_files.files import ImageFile, OnDisk, Stamp


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    """The file of an image, or of an array of pixels."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(height: int = 24, width: int = 32, seed: int = 0) -> Any:
    """A smooth random colour image."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def png(width: int, height: int, bits: int = 8, colour: int = 0, data: bytes = b"", **chunks: bytes) -> bytes:
    """A PNG by hand: what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    more = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


class Deadly(NamedTuple):
    """A source whose bytes end the process that reads them, as a decoder that crashes does."""

    path: Path
    signal: int

    def read(self) -> bytes:
        """No return."""
        os.kill(os.getpid(), self.signal)
        raise AssertionError

    def stamp(self) -> Stamp:
        """That of the file."""
        return OnDisk(self.path).stamp()


def folder_of_images(root: Path, n: int, size: tuple[int, int] = (8, 8)) -> list[ImageFile]:
    """Small PNG files of one grey value each, i for file i, which were written an hour ago."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        path = root / f"{i:05d}.png"
        path.write_bytes(encoded(np.full(size, i % 256, np.uint8)))
        age(path)
    return files_of(root)


def files_of(root: Path) -> list[ImageFile]:
    """All entries of a folder as image files."""
    return [ImageFile(p.name, OnDisk(p), "train", None, str(root)) for p in sorted(root.iterdir())]


def age(path: Path, hours: int = 1) -> None:
    """Make a file older."""
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
