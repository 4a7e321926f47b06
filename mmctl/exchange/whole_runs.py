"""Whole runs of mmctl: copied from a folder, or in one file, a tar archive with a checksum of each file at its end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from mmctl import __version__
from mmctl.errors import EnvironmentFault, UserError
from mmctl.exchange.foreign import BadSource, readable
from mmctl.filesystem import open_file, share, sync_folder
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import Evaluation, Event, Points, State
from mmctl.run_folder.record import load_record, read_record
from mmctl.run_folder.values import text
from mmctl.text import printable, to_json

HEAD, SUMS = "mmctl-export.json", "SHA256SUMS"
"""The first and the last member of a run file."""
FORMAT = 1
HEAVY = ("checkpoints", "predictions")
LARGEST, DEPTH, MEMBERS = 2**45, 8, 1_000_000
AGAIN = "Export the runs again"


class OwnRun(NamedTuple):
    """A run folder that may be imported."""

    folder: Path
    file: Path  # that people gave: the folder, or the archive that it came from
    moved: bool = False  # the folder is ours: it need not be copied


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of mmctl, readable or not."""
    if not (folder / "run.json").is_file():
        return False
    try:
        return {"uid", "config"} <= load_record(folder).keys()
    except (OSError, ValueError):
        return bool(journal.attempts(folder)) or (folder / "recipe.toml").is_file()


def checked(run: OwnRun) -> tuple[str, int, str]:
    """The id of a run, its number of points, and its state; BadSource where it cannot be read."""
    try:
        with readable(run.folder):
            record = read_record(run.folder)
            uid, points, state = record["uid"], 0, "queued"
            if Path(uid).name != uid or uid.startswith(".") or not uid.isprintable() or len(uid.encode()) > 200:
                raise ValueError(f'its id "{uid}" cannot be the name of a folder')
            for n in journal.attempts(run.folder):
                for line in journal.read_lines(journal.path_of(run.folder, n)):
                    points += isinstance(line.event, Points | Evaluation)
                    state = line.event.state if isinstance(line.event, State) else state
    except UserError as error:
        raise BadSource(str(error)) from None
    return uid, points, state


def copy_run(run: OwnRun, target: Path, heavy: bool) -> None:
    """Copy (or move, if it is ours) a run to a new folder; heavy: with checkpoints and predictions."""
    if run.moved:
        run.folder.rename(target)
        return
    if said := lease.busy(run.folder):
        raise BadSource(said)
    if lease.holder(run.folder) is not None:
        raise BadSource(f"{run.folder}: is running. Import it when it has ended, or stop it first.")
    with readable(run.folder):
        files = list(files_of(run.folder, heavy))
    target.mkdir()
    share(target)
    for path, name in files:
        copy = target / name
        _make(copy.parent, target)
        with readable(path):
            source = open_file(path, LARGEST)
        with source, copy.open("xb") as made:
            shutil.copyfileobj(source, made, 2**20)
            made.flush()
            os.fsync(made.fileno())
        share(copy)


def _make(folder: Path, top: Path) -> None:
    """Make a folder below `top`, and those between them."""
    for part in (*reversed(folder.relative_to(top).parents), folder.relative_to(top)):
        if not (made := top / part).is_dir():
            made.mkdir()
            share(made)


def say_where_from(folder: Path, file: Path, state: str) -> None:
    """Note in the journal of a copy where it comes from, and that a run which was running there runs nowhere here."""
    if state == "running":
        reason = f"was running when it was imported from {file}"
        journal.append(folder, State(state="interrupted", reason=text(reason), code=75))


def files_of(folder: Path, heavy: bool) -> Iterator[tuple[Path, str]]:
    """The files of a run with their names in it, run.json first; no links, leases or halves of something.

    OSError where a folder cannot be read; BadSource where a name is one that no run file may have.
    """

    def refuse(error: OSError) -> None:
        raise error

    for above, folders, names in os.walk(folder, onerror=refuse):
        here = Path(above)
        inside = here.relative_to(folder)
        folders[:] = sorted(
            name for name in folders
            if name[0] != "." and (heavy or inside.parts or name not in HEAVY) and not (here / name).is_symlink()
        )  # fmt: skip
        for name in sorted(names, key=lambda name: (name != "run.json", name)):
            path = here / name
            if not name.startswith(".") and name != lease.FILE and stat.S_ISREG(path.lstat().st_mode):
                if not _plain([folder.name, *inside.parts, name]):
                    raise BadSource(
                        f"{printable(path)}: its name has characters that cannot be printed, or is too long, or it is "
                        "too deep. Rename it, or move it out of the run."
                    )
                yield path, (inside / name).as_posix()


def why_not(folder: Path, heavy: bool) -> str | None:
    """Why a run cannot be exported whole: which of its files cannot be read; None if it can."""
    path = folder
    try:
        for path, _ in files_of(folder, heavy):
            open_file(path, LARGEST).close()
    except BadSource as fault:
        return str(fault)
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or path
        return f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})."
    return None


def missing(source: Path, here: Path, heavy: bool) -> bool:
    """Whether a run has something that its copy here lacks: a note, or (heavy) a checkpoint or predictions."""
    if notes_of(source).keys() - notes_of(here).keys():
        return True
    return heavy and any(
        not os.path.lexists(here / part / one.name) for part in HEAVY for one in _inside(source / part)
    )


def keep_more(old: Path, new: Path) -> None:
    """Give a new copy of a run what only the old one has: checkpoints, predictions, and files that people put there.

    Both have it afterwards (as hard links where the file system knows them), so that either may be deleted.
    """
    for path in _inside(old):
        if path.name in HEAVY and (new / path.name).is_dir():
            for one in _inside(path):
                _link(one, new / path.name / one.name)
        elif path.name not in ("run.json", lease.FILE) and not re.fullmatch(r"journal\.[0-9]+\.jsonl", path.name):
            _link(path, new / path.name)


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []


def _link(old: Path, new: Path) -> None:
    if os.path.lexists(new):
        return
    if old.is_dir() and not old.is_symlink():
        new.mkdir()
        share(new)
        for path in old.iterdir():
            _link(path, new / path.name)
        sync_folder(new)
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)
        if not new.is_symlink():
            with new.open("rb") as file:
                os.fsync(file.fileno())


def merged_notes(old: Path, new: Path) -> bytes:
    """The journal of what people said of a run: that of both copies, without what an import said of its state."""
    ours = {
        raw
        for raw, event in notes_of(old).items()
        if isinstance(event, State) and "imported from" in (event.reason or "")
    }
    return b"".join(dict.fromkeys([*notes_of(new), *(raw for raw in notes_of(old) if raw not in ours)]))


def notes_of(folder: Path) -> dict[bytes, Event]:
    """The lines of the journal of what people said of a run, without damaged ones."""
    path = journal.path_of(folder, 0)
    return {line.raw: line.event for line in journal.read_lines(path) if line.event} if path.exists() else {}


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
                _make(place.parent, into)
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
    if not _plain(parts):
        raise BadSource(f"{path}: {shown} would lie outside of a run: no run file of mmctl.")
    return parts


def _plain(parts: Sequence[str]) -> bool:
    """Whether these may be the parts of the name of a member: the folder of a run, and what lies below it."""
    good = (part and part[0] != "." and part.isprintable() and len(part.encode()) < 250 for part in parts)
    return 2 <= len(parts) <= DEPTH and all(good)


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
