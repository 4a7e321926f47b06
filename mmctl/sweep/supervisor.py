"""The supervisor: starts the waiting runs of this machine, looks how they end, and ends when the queue is empty.

A process of its own (`mmctl supervise RUNS`), one for each machine and folder of runs. It imports no torch. All that it
knows is in the files of the queue: if it is killed, its runs go on, and the next supervisor finds them by their leases.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mmctl.component_types import JOB_WORDS
from mmctl.errors import MmctlError
from mmctl.plugin import JobState, Launcher
from mmctl.run_folder import journal, lease, queue
from mmctl.run_folder.events import State
from mmctl.run_folder.queue import Ended, Entry, Group
from mmctl.run_folder.record import states
from mmctl.run_folder.supervisor import Supervising
from mmctl.runs.launcher import GOING, launcher_of, wrong_state
from mmctl.sweep.ending import NOT_BEGUN, how_it_ended, note_ending

PAUSE = 0.2
"""Seconds between two questions to the launcher."""
LOOK, SHARE = 1.0, 20
"""Seconds between two looks at the files of the queue, and so many times as long as a look takes, if that is more."""
KEPT = 60.0
"""Seconds for which a group without runs is kept, for the command that waits for it."""
TRIES = 1
"""How often a run is started again after its process was killed."""


@dataclass
class Job:
    """A run that was given to the launcher."""

    folder: Path
    group: str
    before: int  # states in its journals when it was started
    cancelled: bool = False


@dataclass
class Found:
    """What a look at the queue found."""

    waiting: dict[Path, Group] = field(default_factory=dict)
    stopped: set[Path] = field(default_factory=set)  # somebody wants them to stop
    adopted: set[Path] = field(default_factory=set)  # processes of an earlier supervisor train them
    known: set[Path] = field(default_factory=set)


def supervise(runs: Path, ready: Callable[[], None] = lambda: None) -> None:
    """Work until the queue of this machine is empty; returns at once if another process does.

    ready: called as soon as some process is the supervisor.
    """
    more = first = True
    while more:
        with Supervising(runs) as lock:
            if first:
                ready()
            first = False
            if not lock.held:
                return
            _forget_old(runs)
            Supervisor(runs).work()
        more = bool(_mine(runs))  # what came since the last look, from a command that saw the lock held


def _mine(runs: Path) -> list[tuple[Group, dict[Path, Entry]]]:
    """The groups of this machine in which a run is left, and those runs."""
    host = lease.host()
    groups = [group for group in queue.groups(runs) if not group.lasting and group.host == host]
    return [(group, members) for group in groups if (members := queue.members(runs, group))]


def _forget_old(runs: Path) -> None:
    for group in queue.groups(runs):
        path = queue.group_file(runs, group.name)
        with suppress(OSError):
            if not queue.members(runs, group) and time.time() - path.stat().st_mtime > KEPT:
                queue.remove_group(runs, group.name)


class Supervisor:
    """Works on the queue of this machine, whose lock the process holds."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs.resolve()
        self.launcher: Launcher | None = None
        self.said = ""  # the launcher, for messages
        self.setting: tuple[object, ...] = ()  # what all runs share that are given to one launcher
        self.jobs: dict[str, Job] = {}
        self.look_at = float("-inf")  # the time of the next look

    def work(self) -> None:
        """Start runs and wait for their ends until there are none."""
        while True:
            if (begin := time.monotonic()) >= self.look_at or not self.jobs:
                found = self._look()
                pause = max(LOOK, SHARE * (time.monotonic() - begin))
                self._stop(found)
                self._start(found)
                if not (self.jobs or found.waiting or found.adopted):
                    return
                self.look_at = time.monotonic() + pause
            self._ask()
            time.sleep(PAUSE)

    def _look(self) -> Found:
        """Read the queue; takes out what is over."""
        found, mine = Found(), {job.folder for job in self.jobs.values()}
        for group, members in _mine(self.runs):
            for folder, entry in members.items():
                found.known.add(folder)
                if entry.stop:
                    found.stopped.add(folder)
                if folder in mine:
                    continue
                if lease.holder(folder) is not None:
                    found.adopted.add(folder)
                elif ended := _ended_since(folder, group) or (Ended("interrupted", NOT_BEGUN) if entry.stop else None):
                    self._over(folder, group.name, ended)
                else:
                    found.waiting[folder] = group
        return found

    def _stop(self, found: Found) -> None:
        """Cancel the runs that somebody wants to stop, and those that somebody took out of the queue."""
        ids = [
            one
            for one, job in self.jobs.items()
            if not job.cancelled and (job.folder in found.stopped or job.folder not in found.known)
        ]
        for one in ids:
            self.jobs[one].cancelled = True
        if ids and self.launcher:
            with suppress(Exception):  # the states of its runs say what it did
                self.launcher.cancel(ids)

    def _start(self, found: Found) -> None:
        """Give waiting runs to the launcher: those that share what the first one needs, or what already runs."""
        if not found.waiting:
            return
        first = next(iter(found.waiting.values()))
        if not self.jobs and _setting(first) != self.setting and not self._prepare(first):
            return
        groups: dict[str, list[Path]] = {}
        for folder, group in found.waiting.items():
            if _setting(group) == self.setting:
                groups.setdefault(group.name, []).append(folder)
        assert self.launcher
        room = self.launcher.limits().slots - len(found.adopted) - len(self.jobs) if found.adopted else None
        for name, folders in groups.items():
            taken = folders[: max(room, 0)] if room is not None else folders
            room = room if room is None else room - len(taken)
            if taken:
                self._give(self.launcher, name, taken)

    def _prepare(self, group: Group) -> bool:
        """Make the launcher of a group, where it was submitted; False if that fails, and its runs with it."""
        try:
            os.chdir(group.folder)
            for name in queue.VARIABLES:
                os.environ.pop(name, None)
            os.environ |= group.variables
            self.launcher = launcher_of(group.launcher)
        except (MmctlError, OSError) as error:
            self._fail(group.name, list(queue.members(self.runs, group)), str(error))
            return False
        self.setting, self.said = _setting(group), f"launcher {group.launcher['name']}"
        return True

    def _give(self, launcher: Launcher, name: str, folders: Sequence[Path]) -> None:
        before = [len(states(folder)) for folder in folders]
        try:
            ids = launcher.start(list(folders), f"mmctl-{name}")
            if len(set(ids)) != len(folders):
                raise ValueError(f"start gave {len(set(ids))} ids to {len(folders)} runs")
        except Exception as error:
            self._fail(name, folders, f"{self.said} cannot start the runs: {type(error).__name__}: {error}")
            return
        self.jobs |= {
            one: Job(folder, name, n) for one, folder, n in zip(ids, folders, before, strict=True)
        }  # fmt: skip

    def _ask(self) -> None:
        """Ask the launcher how its runs are, and note those that have ended."""
        if not self.jobs or not self.launcher:
            return
        try:
            said = self.launcher.states(list(self.jobs))
            wrong = wrong_state(said, list(self.jobs))
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            self._give_up(wrong)
            return
        for one, job in list(self.jobs.items()):
            if said[one].word not in GOING:
                self._settle(one, job, said[one])
            elif job.cancelled and queue.read(job.folder) is None and lease.holder(job.folder) is None:
                del self.jobs[one]  # nobody waits for a launcher that cannot stop its runs

    def _settle(self, one: str, job: Job, said: JobState) -> None:
        """Note how a run ended, or start it again if its process was killed."""
        if (ended := how_it_ended(job.folder, job.before, said, self.said)) is None:
            return
        del self.jobs[one]
        entry = queue.read(job.folder)
        if entry and entry.group != job.group:
            return  # somebody put it in the queue again
        if ended.state == "crashed" and entry and not entry.stop and not job.cancelled and entry.tries < TRIES:
            queue.put(job.folder, entry._replace(tries=entry.tries + 1))
            self.look_at = float("-inf")
        else:
            self._over(job.folder, job.group, ended)

    def _over(self, folder: Path, name: str, ended: Ended) -> None:
        """Take a run out of the queue, and say how it ended."""
        note_ending(folder, ended)
        if group := queue.read_group(self.runs, name):
            queue.write_group(self.runs, group._replace(ended={**group.ended, folder.name: ended}))
        queue.leave(folder)

    def _give_up(self, wrong: str) -> None:
        """Stop all runs of a launcher that does not answer as it must."""
        assert self.launcher
        with suppress(Exception):
            self.launcher.cancel(list(self.jobs))
        problem = f"{self.said}: states() answers {wrong}; it must answer a JobState for each run, its word one of "
        self._problem({job.group for job in self.jobs.values()}, problem + ", ".join(JOB_WORDS))
        for job in self.jobs.values():
            ended = how_it_ended(job.folder, job.before, JobState("interrupted"), self.said)
            self._over(job.folder, job.group, ended or Ended("interrupted"))
        self.jobs, self.setting = {}, ()

    def _fail(self, name: str, folders: Sequence[Path], reason: str) -> None:
        """Say of runs that cannot be started that they failed."""
        self._problem({name}, reason)
        for folder in folders:
            self._over(folder, name, Ended("failed", reason))

    def _problem(self, names: set[str], problem: str) -> None:
        for name in names:
            if group := queue.read_group(self.runs, name):
                queue.write_group(self.runs, group._replace(problem=problem))


def _ended_since(folder: Path, group: Group) -> Ended | None:
    """How a run ended that somebody trained after it was put in the queue, perhaps an earlier supervisor."""
    last = max(journal.read_events(folder, State), key=lambda event: event.t or 0, default=None)
    if last is None or last.state == "running":
        return None
    if last.state in ("completed", "nc"):
        return Ended("completed")
    return Ended(last.state, last.reason or "") if (last.t or 0) >= group.created else None


def _setting(group: Group) -> tuple[object, ...]:
    """What decides how a launcher starts a run: runs that differ in it take turns."""
    return dict(group.launcher), group.folder, dict(group.variables)
