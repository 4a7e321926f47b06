"""The queue: which runs wait to be started, and by whom.

runs/.queue/GROUP.json  the runs of one submission, in the order of their start, and the launcher that starts them
runs/RUN/queue.json     in the folder of each of them until it is over: its group, and its id in the launcher's engine

A run is in the queue if both files say so. The group is written last, so that a command that is killed while it makes
many runs leaves queued runs that no one starts by surprise. To take a run out of the queue, remove its file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mmctl.filesystem import read_file, share, write_atomic
from mmctl.run_folder import lease, supervisor
from mmctl.run_folder.supervisor import FOLDER
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.text import to_json

FILE = "queue.json"
SIZE = 1000
"""A larger entry is not read, in bytes."""
GROUP_SIZE = 10**7
"""A larger group is not read, in bytes."""


VARIABLES = ("MMCTL_PLUGINS_DIR", "MMCTL_PLUGINS", "CUDA_VISIBLE_DEVICES")
"""Environment variables on which it depends how a run is trained."""


class Entry(NamedTuple):
    """The place of a run in the queue."""

    group: str
    order: int  # among the runs of its group, from 0
    id: str = ""  # of the engine; "" while it was not handed over
    tries: int = 0  # how often it was started again after its process was killed
    stop: bool = False  # somebody wants it to stop, or not to start


class Ended(NamedTuple):
    """How a run of a group ended, for the command that waits for it."""

    state: str
    reason: str = ""


class Group(NamedTuple):
    """The runs of one submission."""

    name: str
    launcher: Config  # the table [launcher] of their recipes
    runs: Sequence[str]  # names of their folders, in the order of their start
    sweep: str = ""
    lasting: bool = False  # whether the launcher's engine keeps them without mmctl
    host: str = ""  # the machine that starts them, if not lasting
    folder: str = ""  # the working folder of their processes: the project
    variables: Mapping[str, str] = {}  # the environment variables VARIABLES where they were submitted
    created: int = 0  # milliseconds since 1970
    problem: str = ""  # why the launcher cannot start or watch them
    ended: Mapping[str, Sequence[str]] = {}  # name of a run that has ended -> Ended
    handed: Sequence[str] = ()  # of a lasting launcher: the runs that are being given to it, or were

    @property
    def jobs(self) -> str:
        """The name under which the engine knows the runs."""
        return f"mmctl-{self.name}"


def new_name() -> str:
    """A name for a new group; names sort in the order in which this machine makes them."""
    return f"{time.time_ns():x}{os.urandom(2).hex()}"


def group_file(runs: Path, name: str) -> Path:
    """The file of a group."""
    return runs / FOLDER / f"{name}.json"


def write_group(runs: Path, group: Group) -> None:
    """Write a group: from now on its runs are in the queue, if their entries are there."""
    folder = runs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    share(folder)
    about = {key: value for key, value in group._asdict().items() if key != "name"}
    write_atomic(group_file(runs, group.name), to_json(about).encode())


def new_group(
    runs: Path, launcher: Mapping[str, Setting], folders: Sequence[Path], name: str, *, sweep: str = "", lasting: bool
) -> Group:
    """Put runs that have an entry with this group's name in the queue, in this order."""
    uids, variables = [folder.name for folder in folders], {k: os.environ[k] for k in VARIABLES if k in os.environ}
    made = Group(
        name, dict(launcher), uids, sweep, lasting, lease.host(), str(Path.cwd()), variables, lease.now()
    )  # fmt: skip
    write_group(runs, made)
    return made


def read_group(runs: Path, name: str) -> Group | None:
    """A group by its name; None if there is no readable one."""
    path = group_file(runs, name)
    return _read_group(path, name, _stamp(path)) if name.isalnum() else None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file: thousands of runs ask for the same one, which is read again only if this differs."""
    try:
        now = path.stat()
    except OSError:
        return None
    return now.st_ino, now.st_mtime_ns, now.st_size


@lru_cache(maxsize=8)
def _members_of(path: Path, name: str, stamp: tuple[int, int, int] | None) -> frozenset[str]:
    group = _read_group(path, name, stamp)
    return frozenset(group.runs if group else ())


@lru_cache(maxsize=8)
def _read_group(path: Path, name: str, stamp: tuple[int, int, int] | None) -> Group | None:
    if stamp is None:
        return None
    try:
        said = json.loads(read_file(path, GROUP_SIZE))
        group = Group(**(said | {"name": name}))
        texts = [
            group.sweep,
            group.host,
            group.folder,
            group.problem,
            group.launcher["name"],
            *group.runs,
            *group.handed,
        ]
        texts += [*group.variables.values(), *(text for ended in group.ended.values() for text in Ended(*ended))]
        good = all(isinstance(text, str) for text in texts) and isinstance(group.created, int)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return group if good and type(group.lasting) is bool else None


def groups(runs: Path) -> list[Group]:
    """All groups, the oldest first."""
    try:
        names = [
            entry.name.removesuffix(".json") for entry in os.scandir(runs / FOLDER) if entry.name.endswith(".json")
        ]
    except OSError:
        return []
    found = [group for name in names if (group := read_group(runs, name))]
    return sorted(found, key=lambda group: (group.created, group.name))


def remove_group(runs: Path, name: str) -> None:
    """Forget a group, whose runs are all over."""
    with suppress(OSError):
        group_file(runs, name).unlink(missing_ok=True)


def put(folder: Path, entry: Entry) -> None:
    """Write the entry of a run, or change it."""
    # Not synced, since many runs are put in the queue at once: one whose entry is lost in a power cut can be resumed.
    write_atomic(folder / FILE, to_json(entry._asdict()).encode(), sync=False)


def read(folder: Path) -> Entry | None:
    """The entry of a run; None if there is no readable one."""
    try:
        entry = Entry(**json.loads(read_file(folder / FILE, SIZE)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    kinds = [str, int, str, int, bool]
    return entry if [type(value) for value in entry] == kinds else None


def leave(folder: Path) -> None:
    """Take a run out of the queue."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def members(runs: Path, group: Group) -> dict[Path, Entry]:
    """The runs of a group that are in the queue still, in the order of their start."""
    found = ((runs / uid, read(runs / uid)) for uid in group.runs if Path(uid).name == uid)
    return {folder: entry for folder, entry in found if entry and entry.group == group.name}


def group_of(folder: Path) -> tuple[Group, Entry] | None:
    """The group and the entry of a run; None if it is not in the queue."""
    if (entry := read(folder)) is None or (group := read_group(folder.parent, entry.group)) is None:
        return None
    path = group_file(folder.parent, group.name)
    return (group, entry) if folder.name in _members_of(path, group.name, _stamp(path)) else None


class Said(NamedTuple):
    """What the engines of lasting launchers said last, and when in milliseconds since 1970."""

    t: int = 0
    states: Mapping[str, tuple[str, str]] = {}  # id -> word and reason


def said_file(runs: Path) -> Path:
    """The file of what the engines said; without the end of a group's file."""
    return runs / FOLDER / "said"


def read_said(runs: Path) -> Said:
    """What the engines said last; nothing if there is no readable file."""
    path = said_file(runs)
    return _read_said(path, _stamp(path))


@lru_cache(maxsize=1)
def _read_said(path: Path, stamp: tuple[int, int, int] | None) -> Said:
    try:
        found = json.loads(read_file(path, GROUP_SIZE))
        states = {str(job): (str(word), str(reason)) for job, (word, reason) in found["states"].items()}
        return Said(int(found["t"]), states)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Said()


def waits_for(folder: Path) -> str | None:
    """Who will start the run, for people: "waits in the queue of this machine"; None if nobody will.

    Without a living process that works on the queue of this machine, nobody will.
    """
    found = group_of(folder)
    return _starter(folder.parent, *found) if found else None


def place_of(folder: Path) -> str | None:
    """What a run of the queue waits for, for people, also if nobody starts it; None of one that is not in the queue."""
    if (found := group_of(folder)) is None:
        return None
    return _starter(folder.parent, *found) or f"nobody starts it any more: mmctl resume {folder.name}"


def _starter(runs: Path, group: Group, entry: Entry) -> str | None:
    if group.lasting:
        name = str(group.launcher["name"]).rpartition(":")[2]
        if not entry.id:
            return f"waits to be handed to {name}"
        word, reason = read_said(runs).states.get(entry.id, ("", ""))
        return f"is {word} by {name}: {reason} (job {entry.id})" if reason else f"is job {entry.id} of {name}"
    if group.host != lease.host():
        return f"waits in the queue of {group.host}"
    return "waits in the queue of this machine" if supervisor.pid(runs) is not None else None
