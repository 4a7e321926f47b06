"""Packs of decoded images on the disk: folders with a memory map of pixels and what they were made from.

A pack appears whole or not at all. Small packs (shards) are written while images are decoded, so that a killed process
loses little; one pack with all images of a data set, its map, is made of them.

N image files, M of them good, C channels, H height, W width.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import NamedTuple

import numpy as np

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import naming

PIXELS, ABOUT = "pixels.npy", "about.npz"
SHARD, PART = "shard-", ".part"
OLD = 24 * 3600
"""Seconds after which an unfinished pack is one that a killed process left."""


def cache_folder() -> Path:
    """The folder for decoded images; mmctl never writes into the data folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "mmctl"
    except RuntimeError:
        raise EnvironmentFault("There is no home folder to keep decoded images in; set XDG_CACHE_HOME.") from None


class Said(NamedTuple):
    """What decoding said about a file."""

    bad: str  # why it gives no image; "" = it is good
    format: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pack:
    """Decoded images."""

    folder: Path
    pixels: np.ndarray  # uint8 MCHW, a memory map unless M is 0
    content: np.ndarray  # uint8 M x 32: SHA-256 of the pixels
    source: np.ndarray  # uint8 N x 32: SHA-256 of the file
    said: Sequence[Said]  # N

    @property
    def path(self) -> Path:
        """The file of the pixels."""
        return self.folder / PIXELS

    def rows(self) -> Iterator[tuple[bytes, int, Said]]:
        """SHA-256 of each file, its row of pixels (-1 if it is bad), and what was said about it."""
        row = 0
        for source, said in zip(self.source, self.said, strict=True):
            yield source.tobytes(), -1 if said.bad else row, said
            row += not said.bad


def open_pack(folder: Path) -> Pack | None:
    """A pack; None if there is none, or another process deletes it just now."""
    try:
        with (folder / ABOUT).open("rb") as file, np.load(file, allow_pickle=False) as about:
            words = [Said(bad, kind, tuple(notes)) for bad, kind, notes in json.loads(about["words"].tobytes())]
            said = [words[i] for i in about["word"].tolist()]
            content, source = about["content"], about["source"]
        header = np.load(folder / PIXELS, mmap_mode="r" if len(content) else None, allow_pickle=False)
    except Exception:  # a damaged file may raise any error; decoding again is always right
        return None
    whole = len(header) == len(content) == sum(not s.bad for s in said) and len(source) == len(said)
    return Pack(folder, header, content, source, said) if whole else None


def used(path: Path) -> None:
    """Note that a map or another cache file is used now; see unused.py."""
    with suppress(OSError):
        os.utime(path)


def packs(cache: Path) -> Iterator[Pack]:
    """All packs of a folder; those that a killed process did not finish are deleted after a day."""
    with suppress(FileNotFoundError):
        for entry in sorted(cache.iterdir()):
            if entry.name.endswith(PART):
                with suppress(OSError):
                    if time() - entry.stat().st_mtime > OLD:
                        shutil.rmtree(entry, ignore_errors=True)
            elif found := open_pack(entry):
                yield found


def publish(
    cache: Path,
    name: str,
    shape: tuple[int, ...],
    pixels: Iterable[np.ndarray],
    content: np.ndarray,
    source: np.ndarray,
    said: Sequence[Said],
) -> Path:
    """Write a pack, on the disk when it appears; nothing is left of one that cannot be written (OSError).

    shape: M, C, H, W of all pixels, which come in pieces.
    """
    words = {word: i for i, word in enumerate(dict.fromkeys(said))}
    part = cache / f".{name}.{os.getpid()}-{os.urandom(4).hex()}{PART}"
    with naming(cache):
        part.mkdir(parents=True)
    try:
        with naming(part), (part / PIXELS).open("xb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pixels:
                file.write(piece.data)
            file.flush()
            os.fsync(file.fileno())
        with naming(part), (part / ABOUT).open("xb") as file:
            np.savez(
                file, content=content, source=source, words=np.frombuffer(json.dumps([*words]).encode(), np.uint8),
                word=np.array([words[s] for s in said], np.int32),
            )  # fmt: skip
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError), naming(part):
            _rename(part, cache / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return cache / name


def _rename(part: Path, final: Path) -> None:
    try:
        part.rename(final)
    except OSError as error:
        if not final.is_dir():
            raise
        raise FileExistsError from error  # another process was faster, with the same pixels


def delete(pack: Path) -> None:
    """Delete a pack; maps of it that are open stay readable."""
    with suppress(OSError):
        (pack / ABOUT).unlink()  # first: without it, it is no pack
    shutil.rmtree(pack, ignore_errors=True)


def check_space(cache: Path, shards: int, stays: int) -> None:
    """Better now than after an hour; shards and stays: bytes that are needed while images are decoded, and for good."""
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < shards + stays:
        more = f" and {shards / 1e9:,.2f} GB more while they are decoded" if shards else ""
        raise EnvironmentFault(
            f"{cache}: the decoded images need {stays / 1e9:,.2f} GB{more}, but only {free / 1e9:,.2f} GB are free. "
            "Free some (`mmctl gc` names old ones), or set XDG_CACHE_HOME to a folder on another disk."
        )


def lock_of(pack: Path) -> Path:
    """The lock file of those who make this map."""
    return pack.parent.with_name(f"{pack.parent.name}.{pack.name}.lock")


def clear(cache: Path, name: str) -> None:
    """Delete what a process that no longer lives left half of a pack; name may have a `*`."""
    for part in cache.glob(f".{name}.*{PART}"):
        shutil.rmtree(part, ignore_errors=True)
