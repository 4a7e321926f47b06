"""Downloads a published data set and unpacks it where it is read unpacked. Start here."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mmctl.download.fetch import Progress, State, fetch
from mmctl.download.published import PublishedSet, find_set
from mmctl.download.unpack import beside, unpack
from mmctl.errors import EnvironmentFault, UserError

SPARE = 64 * 2**20
"""Bytes that stay free on the disk."""


class Got(NamedTuple):
    """What there is now."""

    folder: Path
    files: dict[str, State]  # of the downloaded files
    unpacked: list[str]  # files and folders that unpacking made


def get(
    name: str,
    folder: Path,
    *,
    keep: bool = False,
    watch: Callable[[str], Progress] | None = None,
    urls: Mapping[str, str] | None = None,
    pause: float = 1.0,
) -> Got:
    """Download the data set `name` into `folder`.

    keep: keep the archive after unpacking. watch: makes the progress display of a file. urls: other addresses, by the
    name of the file. UserError for an unknown data set; EnvironmentFault if the disk is full or the server fails.
    """
    found = find_set(name)
    if urls:
        found = replace(found, files=tuple(replace(f, urls=(urls.get(f.name, f.urls[0]),)) for f in found.files))
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if _is_unpacked(found, folder):
        for file in found.files:
            if (left := beside(folder / file.name)).exists():  # of a process that was killed when it had unpacked
                with _alone(folder):
                    shutil.rmtree(left, ignore_errors=True)
                    if not keep:
                        (folder / file.name).unlink(missing_ok=True)
        return Got(folder, {file.name: "unpacked already" for file in found.files}, [])
    try:
        with _alone(folder):
            _check_space(found, folder)
            states = {f.name: fetch(f, folder, watch(f.name) if watch else None, pause) for f in found.files}
            made = []
            for file in found.files:
                if found.kind != "files":
                    made += unpack(folder / file.name, found.kind, folder, found.unpacked)
                    if not keep:
                        (folder / file.name).unlink()
        return Got(folder, states, made)
    finally:
        if new:  # a folder without data would look like a data set
            with suppress(OSError):
                folder.rmdir()


def _is_unpacked(found: PublishedSet, folder: Path) -> bool:
    """Whether everything is there; UserError for a part of it, which nobody should find out after a long download."""
    there = [folder / made for made in found.makes if (folder / made).exists()]
    size = sum((Path(at) / name).stat().st_size for path in there for at, _, names in os.walk(path) for name in names)
    if there and (len(there) < len(found.makes) or size < found.at_least):
        raise UserError(
            f"{there[0]}: is there, but not complete ({size:,} bytes, {found.title} has {found.at_least:,} or more). "
            "Move it away, then run this again."
        )
    return bool(there)


def _check_space(found: PublishedSet, folder: Path) -> None:
    def there(name: str) -> int:
        return sum(path.stat().st_size for n in (name, f"{name}.part") if (path := folder / n).is_file())

    needed = sum(max(0, file.size - there(file.name)) for file in found.files) + found.unpacked
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise EnvironmentFault(
            f"{folder}: {needed / 2**20:,.0f} MiB are needed for {found.title}, but {free / 2**20:,.0f} MiB are free. "
            "Free space, or choose another folder with --to."
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse to download into a folder into which another process downloads."""
    path = folder / ".mmctl-download.lock"
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(f"{folder}: another mmctl is downloading into this folder; wait for it.") from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
    finally:
        os.close(fd)
