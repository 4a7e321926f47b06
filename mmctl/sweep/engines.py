"""Lasting launchers: runs that an engine keeps without mmctl, such as the jobs of a cluster.

Each command calls `reconcile`: it hands over what waits and fits, and compares what the engine says with the folders.

A submission may be cut off at any point. The runs that are handed over are first written into their group, then the
engine gets them under the group's name, then their ids are noted. A run without an id is therefore looked for by name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mmctl.errors import MmctlError, PluginError
from mmctl.plugin import JobState, Launcher
from mmctl.run_folder import queue
from mmctl.run_folder.queue import Ended, Entry, Group
from mmctl.run_folder.supervisor import FOLDER
from mmctl.runs.launcher import launcher_of, wrong_state
from mmctl.sweep import job_states
from mmctl.sweep.ending import NOT_BEGUN, note_ending
from mmctl.sweep.reconcile import settle

LOCK = "engines.lock"


def reconcile(runs: Path, wait: bool = False, fresh: bool = False) -> None:
    """Bring the queue and the engines of lasting launchers together; with one question to each engine.

    wait: wait for another command that does it too, and do not leave it to that; fresh: ask although somebody asked a
    few seconds ago. Raises PluginError or the launcher's own error if an engine does not answer.
    """
    groups = [group for group in queue.groups(runs) if group.lasting]
    if not groups:
        return
    with _alone(runs, wait) as alone:
        if not alone:
            return
        tables: dict[str, Mapping[str, Any]] = {repr(group.launcher): group.launcher for group in groups}
        for key, table in tables.items():
            mine = [group for group in groups if repr(group.launcher) == key]
            _bring_together(runs, mine, table, fresh)


def submit_lasting(
    runs: Path, folders: Sequence[Path], table: Mapping[str, Any], launcher: Launcher, sweep: str
) -> None:
    """Put runs in the queue in chunks that the engine takes in one call, and hand over what fits."""
    chunk = launcher.limits().chunk or len(folders)
    for at in range(0, len(folders), chunk):
        _enqueue(runs, folders[at : at + chunk], table, sweep)
    reconcile(runs, wait=True, fresh=True)


def _enqueue(runs: Path, folders: Sequence[Path], table: Mapping[str, Any], sweep: str, tries: int = 0) -> None:
    name = queue.new_name()
    for order, folder in enumerate(folders):
        queue.put(folder, Entry(name, order, tries=tries))
    queue.new_group(runs, table, folders, name, sweep=sweep, lasting=True)


def cancel_jobs(runs: Path, folders: Sequence[Path]) -> None:
    """Stop the jobs of these runs, and take those out of the queue that no engine has."""
    jobs: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    with _alone(runs, wait=True) if folders else nullcontext():
        for folder in folders:
            if found := queue.group_of(folder):
                group, entry = found
                queue.put(folder, entry._replace(stop=True))  # first, so that nobody hands it over
                if entry.id:
                    jobs.setdefault(repr(group.launcher), (group.launcher, []))[1].append(entry.id)
        for table, ids in jobs.values():
            launcher_of(table).cancel(ids)
    if folders:
        reconcile(runs, wait=True, fresh=True)


@contextmanager
def _alone(runs: Path, wait: bool) -> Iterator[bool]:
    """Whether no other command hands over runs at this moment."""
    fd = os.open(runs / FOLDER / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def _bring_together(runs: Path, groups: Sequence[Group], table: Mapping[str, Any], fresh: bool) -> None:
    launcher = launcher_of(table)
    said = f"launcher {table['name']}"
    _settle_all(runs, groups, launcher, said, fresh)
    for group in [one for one in queue.groups(runs) if one.lasting and one.launcher == table]:  # also new ones
        members = queue.members(runs, group)
        for folder in [folder for folder, entry in members.items() if entry.stop and not entry.id and not group.handed]:
            note_ending(folder, Ended("interrupted", NOT_BEGUN))
            queue.leave(folder)
            del members[folder]
        if any(not entry.id for entry in members.values()):
            _hand_over(runs, group, launcher, said)
        elif not members:
            queue.remove_group(runs, group.name)


def _settle_all(runs: Path, groups: Sequence[Group], launcher: Launcher, said: str, fresh: bool) -> None:
    """Ask for the states of all jobs, and act where they and the folders say something different."""
    jobs = {
        entry.id: (group, folder)
        for group in groups
        for folder, entry in queue.members(runs, group).items()
        if entry.id
    }
    if not jobs or (not fresh and job_states.recent(runs, list(jobs))):
        return
    states = _asked(launcher, list(jobs), said)
    job_states.keep(runs, states)
    surplus = []
    for job, (group, folder) in jobs.items():
        entry = queue.read(folder)
        if entry is None or entry.id != job:
            continue
        action = settle(folder, states[job], said, group.created)
        if action == "cancel":
            surplus.append(job)
        if action in ("again", "go on"):
            _enqueue(runs, [folder], group.launcher, group.sweep, entry.tries + (action == "again"))
        elif action != "wait":
            queue.leave(folder)
    if surplus:
        launcher.cancel(surplus)


def _asked(launcher: Launcher, ids: Sequence[str], said: str) -> Mapping[str, JobState]:
    try:
        states = launcher.states(ids)
    except MmctlError:
        raise
    except Exception as error:
        raise PluginError(f"{said}: states() raised {type(error).__name__}: {error}") from error
    if wrong := wrong_state(states, ids):
        raise PluginError(f"{said}: states() answers {wrong}; it must answer a JobState for each run.")
    return states


def _hand_over(runs: Path, group: Group, launcher: Launcher, said: str) -> None:
    """Give the runs of a group to the engine that it does not have, as many as it takes."""
    try:
        if group.handed and (ids := launcher.find(group.jobs)):  # a command was killed before it noted them
            _note(runs, group, group.handed, ids)
            group, waiting = _rest(runs, group)
        else:
            waiting = [folder for folder, entry in queue.members(runs, group).items() if not entry.id]
        limits = launcher.limits()
        room = len(waiting) if limits.submitted is None else limits.submitted
        fits = waiting[: min(room, limits.chunk or len(waiting))]
        if not fits:
            return
        if len(fits) < len(waiting):
            _enqueue(runs, waiting[len(fits) :], group.launcher, group.sweep)
        group = group._replace(runs=[f.name for f in fits], handed=[f.name for f in fits])
        queue.write_group(runs, group)
        _note(runs, group, group.handed, launcher.start(fits, group.jobs))
    except MmctlError:
        raise
    except Exception as error:
        raise PluginError(f"{said} cannot start the runs: {type(error).__name__}: {error}") from error


def _rest(runs: Path, group: Group) -> tuple[Group, list[Path]]:
    """A new group for the runs that the engine did not get, since it knows the name of the old one."""
    left = [folder for folder, entry in queue.members(runs, group).items() if not entry.id]
    if not left:
        return group, []
    _enqueue(runs, left, group.launcher, group.sweep)
    entry = queue.read(left[0])
    made = queue.read_group(runs, entry.group) if entry else None
    assert made
    return made, left


def _note(runs: Path, group: Group, uids: Sequence[str], ids: Sequence[str]) -> None:
    """Write the ids of the engine into the entries."""
    for uid, job in zip(uids, ids, strict=False):
        entry = queue.read(runs / uid)
        if entry and entry.group == group.name:
            queue.put(runs / uid, entry._replace(id=job))
