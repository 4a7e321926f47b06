"""Unpacks an archive: plain files and folders alone, below one folder, and never more bytes than are expected."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from mmctl.errors import UserError
from mmctl.text import printable

BLOCK = 2**20


def unpack(archive: Path, kind: Literal["tar", "zip"], folder: Path, most: int) -> list[str]:
    """Unpack into `folder`, and return the names of the files and folders that are new there.

    It is unpacked beside its place and moved when it is whole: what is in `folder` is complete. most: the largest
    number of bytes of all files. UserError for an archive that is damaged, or that would write elsewhere.
    """
    place = beside(folder / archive.name)
    shutil.rmtree(place, ignore_errors=True)  # of a killed process
    place.mkdir()
    try:
        left = most
        for name, data in _tar(archive) if kind == "tar" else _zip(archive):
            target = place / inside(archive, name)
            if data is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with data, target.open("xb") as out:
                while block := data.read(BLOCK):
                    left -= len(block)
                    if left < 0:
                        raise UserError(f"{archive}: unpacks to more than {most:,} bytes: not the published archive.")
                    out.write(block)
        new = sorted(path.name for path in place.iterdir())
        for name in new:
            if (folder / name).exists():
                raise UserError(f"{folder / name}: is there already. Move it away, then run this again.")
        for name in new:
            (place / name).replace(folder / name)
        return new
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, FileExistsError) as error:
        raise UserError(f"{archive}: damaged ({printable(str(error))}). Delete it, then run this again.") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def beside(archive: Path) -> Path:
    """Where an archive is unpacked until it is whole."""
    return archive.with_name(f".{archive.name}.unpacking")


def inside(archive: Path, name: str) -> PurePosixPath:
    """The relative path of a member; UserError if it could lead out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name or not path.parts:
        raise UserError(f"{archive}: has a member {printable(name)!r} outside of it, so nothing was unpacked.")
    return path


def _tar(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(archive, "r|*") as opened:
        for member in opened:
            if member.isdir():
                if PurePosixPath(member.name).parts:  # not "./"
                    yield member.name, None
            elif member.isreg():
                yield member.name, opened.extractfile(member)
            else:
                raise UserError(
                    f"{archive}: {printable(member.name)!r} is a link or a device, so nothing was unpacked."
                )


def _zip(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with closing(zipfile.ZipFile(archive)) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
                raise UserError(
                    f"{archive}: {printable(member.filename)!r} is a link or encrypted, so nothing was unpacked."
                )
            yield member.filename, None if member.is_dir() else opened.open(member)
