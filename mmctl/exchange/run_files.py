"""Run files: whole runs in one tar archive, with a checksum of each file at its end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO

from mmctl import __version__
from mmctl.errors import EnvironmentFault
from mmctl.exchange.foreign import BadSource, readable
from mmctl.exchange.whole_runs import HEAVY, LARGEST, OwnRun, allowed, files_of, make_below
from mmctl.filesystem import open_file, share
from mmctl.text import printable, to_json

HEAD, SUMS = "mmctl-export.json", "SHA256SUMS"
"""The first and the last member of a run file."""
FORMAT, MEMBERS = 1, 1_000_000
AGAIN = "Export the runs again"


def write_archive(out: IO[bytes], folders: Sequence[Path], heavy: bool) -> int:
    """Write runs as one run file; returns the number of files. A journal that grows is cut where it ends now."""
    sums: list[str] = []
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        head = {"format": FORMAT, "mmctl": __version__, "runs": [folder.name for folder in folders]}
        _add(tar, HEAD, io.BytesIO(body := to_json(head).encode()), len(body))
        for folder in folders:
            for path, name in files_of(folder, heavy):
                with readable(path):
                    file = open_file(path, LARGEST)
                with file:
                    info = os.fstat(file.fileno())
                    made = _add(tar, f"{folder.name}/{name}", file, info.st_size, int(info.st_mtime))
                sums.append(f"{made}  {folder.name}/{name}")
        body = "".join(f"{line}\n" for line in sums).encode()
        _add(tar, SUMS, io.BytesIO(body), len(body))
    return len(sums)


class _Hashing(io.RawIOBase):
    def __init__(self, file: BinaryIO | io.BytesIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.hash.update(data)
        return data


def _add(tar: tarfile.TarFile, name: str, file: BinaryIO | io.BytesIO, size: int, mtime: int = 0) -> str:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, mtime, 0o644
    hashing = _Hashing(file)
    tar.addfile(info, hashing)  # type: ignore[arg-type]  # reads it, and needs nothing else
    return hashing.hash.hexdigest()


def is_archive(head: bytes) -> bool:
    """Whether a file that begins with these 512 bytes is a tar archive."""
    return head[257:262] == b"ustar"


def unpack(path: Path, into: Path, heavy: bool, dry_run: bool = False) -> list[OwnRun]:
    """The runs of a run file, unpacked below a new folder; BadSource where it is damaged, or holds what it should not.

    Only files are made, all of them below that folder; nothing in them is executed. dry_run: checkpoints and
    predictions stay empty.
    """
    sums: dict[str, str] = {}
    name = ""
    said: dict[str, str] | None = None
    try:
        with open_file(path, LARGEST) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            _check_head(path, tar)
            room = shutil.disk_usage(into.parent).free
            into.mkdir()
            share(into)
            for n, member in enumerate(tar):
                if member.name == HEAD and n == 0:
                    continue
                if member.name == SUMS and member.isreg():
                    said = _sums(tar, member)
                    break
                name = printable(member.name)
                place = into.joinpath(*_safe(path, member))
                if n > MEMBERS:
                    raise BadSource(f"{path}: more than {MEMBERS} files.")
                large = member.name.split("/")[1] in HEAVY
                if (room := room - (member.size if not large or (heavy and not dry_run) else 0)) < 2**20:
                    raise EnvironmentFault(
                        f"{into.parent}: not enough space for {path}. Free some, then import it again."
                    )
                if large and not heavy:
                    sums[member.name] = _extract(tar, member, None)
                    continue
                make_below(place.parent, into)
                with place.open("xb") as made:
                    sums[member.name] = _extract(tar, member, None if large and dry_run else made)
                share(place)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise BadSource(f"{path}: cut off or damaged ({error}). {AGAIN}.") from None
    except (FileExistsError, NotADirectoryError):
        raise BadSource(f"{path}: holds {name} twice, or as a file and as a folder. {AGAIN}.") from None
    if said is None:
        raise BadSource(f"{path}: cut off: its last part is missing. Copy it or {AGAIN[0].lower()}{AGAIN[1:]}.")
    if said != sums:
        bad = next(name for name in sorted({*said, *sums}) if said.get(name) != sums.get(name))
        raise BadSource(f"{path}: damaged: {bad} is not what was exported. {AGAIN}.")
    return [OwnRun(folder, path, moved=True) for folder in sorted(into.iterdir())]


def _check_head(path: Path, tar: tarfile.TarFile) -> None:
    first = tar.next()
    body = tar.extractfile(first) if first is not None and first.name == HEAD and first.isreg() else None
    try:
        found = json.loads(body.read(2**20)) if body else None
    except (ValueError, RecursionError):
        found = None
    made = found.get("format") if isinstance(found, dict) else None
    if not isinstance(made, int):
        raise BadSource(
            f"{path}: no run file of `mmctl export`. If it holds run folders, unpack it and import the folder."
        )
    if made > FORMAT:
        raise BadSource(f"{path}: made by a newer mmctl (format {made}, this mmctl reads {FORMAT}). Upgrade mmctl.")


def _safe(path: Path, member: tarfile.TarInfo) -> list[str]:
    """The parts of the name of a member: a file below the folder of its run, and nothing else."""
    parts = member.name.split("/")
    shown = printable(member.name)[:100]
    if not member.isreg() or member.issparse():
        raise BadSource(f"{path}: {shown} is not a file (a link, a folder or a device): no run file of mmctl.")
    if not allowed(parts):
        raise BadSource(f"{path}: {shown} would lie outside of a run: no run file of mmctl.")
    return parts


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes] | None) -> str:
    """Write a member to a file (or nowhere); returns its SHA-256."""
    source, made = tar.extractfile(member), hashlib.sha256()
    assert source is not None, "it is a file"
    left = member.size
    while left and (data := source.read(min(left, 2**20))):
        made.update(data)
        left -= len(data)
        if file:
            file.write(data)
    if file:
        file.flush()
        os.fsync(file.fileno())
    if left:
        raise tarfile.ReadError(f"{member.name} ends early")
    return made.hexdigest()


def _sums(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, str]:
    body = tar.extractfile(member)
    lines = body.read(2**28).decode() if body and member.size < 2**28 else ""
    if len(lines.encode()) != member.size:
        raise tarfile.ReadError("its last part is cut off")
    rows = [line.partition("  ") for line in lines.splitlines()]
    return {name: found for found, _, name in rows}
