"""What can be imported below a path, recognised by content."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmctl.exchange import databases, mlflow, tensorboard, trackio, wandb
from mmctl.exchange.foreign import BadSource, ForeignRun
from mmctl.exchange.whole_runs import OwnRun, is_archive, is_run, unpack
from mmctl.filesystem import open_file
from mmctl.run_folder.values import text

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


class Source(NamedTuple):
    """A file or folder with runs of one program; `read` gives them, and raises BadSource."""

    path: Path
    read: Callable[[Options], Iterator[Item]]


def sources(path: Path) -> list[Source]:
    """What can be imported at or below a path, in the order of the names; BadSource where there is nothing."""
    if not os.path.lexists(path):
        raise BadSource(f"{path}: does not exist.")
    found = list(_below(path)) if path.is_dir() else [_file(path)]
    if not found:
        raise BadSource(f"{path}: no runs in this folder. Can be imported: {KNOWN}.")
    return found


def _below(top: Path) -> Iterator[Source]:
    """The sources in a folder. Hidden folders and links to folders below it are left out."""
    faults: list[OSError] = []
    for above, folders, names in os.walk(top, onerror=faults.append):
        here = Path(above)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if is_run(here):
            folders.clear()
            yield Source(here, lambda options, here=here: iter([OwnRun(here, here)]))  # type: ignore[misc]
            continue
        if "meta.yaml" in names and mlflow.is_experiment(here):
            folders.clear()
            yield Source(here, lambda options, here=here: mlflow.read_folder(here, options.damaged))  # type: ignore[misc]
            continue
        regular = [here / name for name in sorted(names) if (here / name).is_file() and not (here / name).is_symlink()]
        if events := [path for path in regular if EVENTS in path.name]:
            yield _events(here, events)
        for path in regular:
            if path.suffix in (*DATABASES, ".wandb", ".tar") and (source := _inside(path)) is not None:
                yield source
        while faults:
            yield _failing(Path(faults[0].filename), f"cannot be read ({faults.pop(0).strerror})")


def _failing(path: Path, why: str) -> Source:
    def read(options: Options) -> Iterator[Item]:
        raise BadSource(f"{path}: {why}.")

    return Source(path, read)


def _events(folder: Path, files: list[Path]) -> Source:
    return Source(folder, lambda options: iter([tensorboard.read(folder, files, options.damaged)]))


def _inside(path: Path) -> Source | None:
    """A file of a folder, if it is one of those that are imported or one of them that is damaged."""
    try:
        return _file(path)
    except _Unknown:
        return None
    except BadSource as fault:
        return _failing(path, str(fault).removeprefix(f"{path}: ").rstrip("."))


class _Unknown(BadSource):
    """A file of another kind."""


def _file(path: Path) -> Source:
    """The source in a file."""
    try:
        with open_file(path, ANY) as file:
            head = file.read(512)
    except (OSError, ValueError) as error:
        raise BadSource(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if wandb.is_wandb(head) or path.suffix == ".wandb":
        return Source(path, lambda options: iter([wandb.read(path, options.damaged)]))
    if tensorboard.is_events(head) or EVENTS in path.name:
        return _events(path.parent, [path])
    if head.startswith(databases.MAGIC):
        return _database(path)
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"(\xb5/\xfd", b"BZh")):
        raise _Unknown(f"{path}: is compressed. Unpack it, then import what was in it.")
    if is_archive(head):
        return Source(path, lambda options: iter(unpack(path, options.work / "unpacked", options.heavy)))
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
