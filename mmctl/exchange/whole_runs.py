"""Whole runs of mmctl: which files they have, how they are copied, and what stays when one is updated."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import UserError
from mmctl.exchange.foreign import BadSource, readable
from mmctl.filesystem import open_file, share, sync_folder
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import Evaluation, Event, Points, State
from mmctl.run_folder.record import load_record, read_record
from mmctl.run_folder.values import text
from mmctl.text import printable

HEAVY = ("checkpoints", "predictions")
LARGEST, DEPTH = 2**45, 8
"""Bytes of a file, and parts of the name of a file of a run with its folder."""


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
        make_below(copy.parent, target)
        with readable(path):
            source = open_file(path, LARGEST)
        with source, copy.open("xb") as made:
            shutil.copyfileobj(source, made, 2**20)
            made.flush()
            os.fsync(made.fileno())
        share(copy)


def make_below(folder: Path, top: Path) -> None:
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
                if not allowed([folder.name, *inside.parts, name]):
                    raise BadSource(
                        f"{printable(path)}: its name has characters that cannot be printed, or is too long, or it is "
                        "too deep. Rename it, or move it out of the run."
                    )
                yield path, (inside / name).as_posix()


def allowed(parts: Sequence[str]) -> bool:
    """Whether a run file may have a file of this name, in parts: the folder of a run, and what lies below it."""
    good = (part and part[0] != "." and part.isprintable() and len(part.encode()) < 250 for part in parts)
    return 2 <= len(parts) <= DEPTH and all(good)


def why_not(folder: Path, heavy: bool) -> str | None:
    """Why a run cannot be exported whole: which of its files cannot be read; None if it can."""
    try:
        with readable(folder):
            for path, _ in files_of(folder, heavy):
                with readable(path):
                    open_file(path, LARGEST).close()
    except BadSource as fault:
        return str(fault)
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
