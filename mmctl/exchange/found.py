"""What can be imported below a path, recognised by content."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmctl.exchange import databases, mlflow, tensorboard, trackio, wandb
from mmctl.exchange.foreign import BadSource, ForeignRun, readable
from mmctl.exchange.run_files import is_archive, unpack
from mmctl.exchange.whole_runs import OwnRun, is_run
from mmctl.filesystem import open_file
from mmctl.run_folder.values import text
from mmctl.store.connection import MAGIC

KNOWN = (
    "run folders and run files of mmctl, event files of TensorBoard, mlflow.db and mlruns/ of MLflow, databases of "
    "Trackio, .wandb files of W&B"
)
EVENTS, DATABASES = ".tfevents.", (".db", ".sqlite", ".sqlite3")
ANY = 2**45
Item = ForeignRun | OwnRun


class Options(NamedTuple):
    """How sources are read."""

    work: Path  # an empty folder, for what must be unpacked
    damaged: bool = False  # read what comes before a damage
    heavy: bool = True  # checkpoints and predictions too
    dry_run: bool = False  # those without their content


class Source(NamedTuple):
    """A file or folder with runs of one program; `read` gives them, and raises BadSource."""

    path: Path
    read: Callable[[Options], Iterator[Item]]
    part: tuple[str, int, int] = ("", 0, 0)  # of a file that may hold a part of a run: its id, when it began, and bytes


def sources(path: Path) -> list[Source]:
    """What can be imported at or below a path, in the order of the names; BadSource where there is nothing."""
    if not os.path.lexists(path):
        raise BadSource(f"{path}: does not exist.")
    found = list(_below(path)) if path.is_dir() else [_file(path)]
    if not found:
        raise BadSource(f"{path}: no runs in this folder. Can be imported: {KNOWN}.")
    return found


def joined(found: Iterable[Source]) -> list[Source]:
    """Each source once; files of one run of W&B, which has several where it was resumed, are one source."""
    groups: dict[str, dict[str, Source]] = {}
    for source in found:
        real = os.path.realpath(source.path)
        groups.setdefault(source.part[0] or real, {}).setdefault(real, source)
    return [
        next(iter(group.values())) if len(group) == 1 else _parts(list(group.values())) for group in groups.values()
    ]


def _parts(sources: list[Source]) -> Source:
    paths = [one.path for one in sorted(sources, key=lambda one: one.part)]  # of copies of a part, the longest is last
    return Source(paths[0], lambda options: iter([wandb.read(paths, options.damaged)]))


def _below(top: Path) -> Iterator[Source]:
    """The sources in a folder. Hidden folders and links to folders below it are left out."""
    faults: list[OSError] = []
    for above, folders, names in os.walk(top, onerror=faults.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        try:
            yield from _here(Path(above), folders, sorted(names))
        except OSError as error:
            faults.append(error)
    for fault in faults:
        path = Path(fault.filename or top)
        yield failing(path, BadSource(f"{path}: cannot be read ({fault.strerror or fault})."))


def _here(here: Path, folders: list[str], names: list[str]) -> Iterator[Source]:
    """The sources in one folder; `folders` becomes empty where those below it belong to it."""
    if is_run(here):
        folders.clear()
        yield Source(here, lambda options: iter([OwnRun(here, here)]))
        return
    if "meta.yaml" in names and mlflow.is_experiment(here):
        folders.clear()
        yield Source(here, lambda options: mlflow.read_folder(here, options.damaged))
        return
    regular = [here / name for name in names if stat.S_ISREG((here / name).lstat().st_mode)]
    if any(EVENTS in path.name for path in regular):
        yield _events(here)
    for path in regular:
        if path.suffix in (*DATABASES, ".wandb", ".tar") and (source := _inside(path)) is not None:
            yield source


def failing(path: Path, fault: BadSource) -> Source:
    """What cannot be imported, which is said when it is read."""

    def read(options: Options) -> Iterator[Item]:
        raise fault

    return Source(path, read)


def _events(folder: Path) -> Source:
    """All event files of a folder are one run, whichever of them is given."""

    def read(options: Options) -> Iterator[Item]:
        with readable(folder):
            files = [path for path in folder.iterdir() if EVENTS in path.name and stat.S_ISREG(path.lstat().st_mode)]
        return iter([tensorboard.read(folder, files, options.damaged)])

    return Source(folder, read)


def _inside(path: Path) -> Source | None:
    """A file of a folder, if it is one of those that are imported or one of them that is damaged."""
    try:
        return _file(path)
    except _Unknown:
        return None
    except BadSource as fault:
        return failing(path, fault)


class _Unknown(BadSource):
    """A file of another kind."""


def _file(path: Path) -> Source:
    """The source in a file."""
    with readable(path), open_file(path, ANY) as file:
        head, size = file.read(512), file.seek(0, os.SEEK_END)
    if wandb.is_wandb(head) or path.suffix == ".wandb":
        return Source(path, lambda options: iter([wandb.read([path], options.damaged)]), (*wandb.identity(path), size))
    if EVENTS in path.name and not path.is_symlink():
        return _events(path.parent)
    if tensorboard.is_events(head) or EVENTS in path.name:
        return Source(path, lambda options: iter([tensorboard.read(path.parent, [path], options.damaged)]))
    if head.startswith(MAGIC):
        return _database(path)
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"(\xb5/\xfd", b"BZh")):
        raise _Unknown(f"{path}: is compressed. Unpack it, then import what was in it.")
    if is_archive(head):
        return Source(
            path, lambda options: iter(unpack(path, options.work / "unpacked", options.heavy, options.dry_run))
        )
    raise _Unknown(f"{path}: {'is empty' if not head else 'not a file that mmctl knows'}. Can be imported: {KNOWN}.")


def _database(path: Path) -> Source:
    with databases.opened(path) as conn:
        tables = databases.tables(conn)
    if mlflow.is_mlflow(tables):
        return Source(path, lambda options: mlflow.read_database(path))
    if trackio.is_trackio(tables):
        return Source(path, lambda options: trackio.read(path))
    if "_sqlite_migrations" in tables and "runs" in tables:
        raise _Unknown(f"{path}: is mmctl's index, which holds no run. Import its folder: {path.parent}")
    names = ", ".join(sorted(tables)[:5]) or "none"
    raise _Unknown(
        text(f"{path}: not a database of MLflow or Trackio (its tables: {names}). Can be imported: {KNOWN}.")
    )
