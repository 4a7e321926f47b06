"""Shows the progress of runs that wait in the queue of this machine, until they have ended or the user stops them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmctl.errors import EnvironmentFault, PartFailed, PluginError, Stopped
from mmctl.run_folder import lease, queue
from mmctl.run_folder.queue import Ended, Group
from mmctl.runs.batch_view import BatchView
from mmctl.runs.resume import resume_command
from mmctl.runs.signals import StopSignal
from mmctl.sweep.background import ensure_supervisor, log_file
from mmctl.sweep.cancel import ask_to_stop
from mmctl.sweep.ending import NOT_BEGUN, ending, last_line, note_ending

PAUSE = 0.2
"""Seconds between two looks at the run folders."""
RESTARTS = 5
"""A command does not start more supervisors than this, one after the other."""


class Watch:
    """The runs of a group as the command sees them that put them in the queue."""

    def __init__(self, runs: Path, group: Group, view: BatchView, tags: Sequence[str] = ()) -> None:
        """tags: those that all runs have."""
        self.runs, self.name, self.view, self.tags = runs, group.name, view, tags
        self.folders = [runs / uid for uid in group.runs]
        self.ended: dict[Path, str] = {}
        self.restarts = 0
        self.leaves = False
        """Whether Ctrl-C leaves the runs in the queue."""

    def until_they_end(self, stop: StopSignal) -> None:
        """Wait for all runs; a signal stops them at their checkpoints.

        PluginError if the launcher does not work, PartFailed if some runs do not complete, Stopped after a signal.
        """
        try:
            with self.view:
                self.view.begin(self.folders)
                self._watch(stop)
        except KeyboardInterrupt:
            self._abandon()
            end = Stopped(f"not waiting for the runs to stop: {self._summary()}")
            end.exit_code = 130
            raise end from None
        self._raise(stop)

    def until_stopped(self, stop: StopSignal) -> bool:
        """Wait for all runs; False if a signal came first, which changes nothing for the runs."""
        self.leaves = True
        with self.view:
            self.view.begin(self.folders)
            self._watch(stop)
        if self._open():
            return False
        self._raise(stop)
        return True

    def _watch(self, stop: StopSignal) -> None:
        asked = False
        while self._show_ended():
            if stop() and not asked:
                if self.leaves:
                    return
                asked = True
                ask_to_stop(self.runs, self._open())
            self._restart()
            self.view.update([folder for folder in self._open() if lease.holder(folder) is not None])
            time.sleep(PAUSE)

    def _restart(self) -> None:
        """Start another supervisor if it was killed, so that the runs that wait start all the same."""
        self.restarts += ensure_supervisor(self.runs)
        if self.restarts > RESTARTS:
            log = log_file(self.runs)
            raise EnvironmentFault(
                f"the process that starts runs has ended {self.restarts} times: {last_line(log) or 'it was killed'} "
                f"({log}). The runs stay in the queue: mmctl ls"
            )

    def _show_ended(self) -> bool:
        """Print the runs that have ended since; whether others are left."""
        gone = [folder for folder in self._open() if not self._waits(folder)]
        group = queue.read_group(self.runs, self.name) if gone else None  # after the look at the entries
        for folder in gone:
            said = group.ended.get(folder.name) if group else None
            self._end(folder, Ended(*said) if said else Ended("interrupted"))
        return bool(self._open())

    def _abandon(self) -> None:
        """Take the runs out of the queue that have not ended, whatever their launcher does with them."""
        self._show_ended()
        for folder in self._open():
            queue.leave(folder)
            if lease.holder(folder) is None:
                note_ending(folder, ended := Ended("interrupted", NOT_BEGUN))
                self._end(folder, ended)

    def _waits(self, folder: Path) -> bool:
        entry = queue.read(folder)
        return entry is not None and entry.group == self.name

    def _end(self, folder: Path, ended: Ended) -> None:
        self.ended[folder] = ended.state
        self.view.end(folder, ended.state, ending(folder, ended))

    def _open(self) -> list[Path]:
        return [folder for folder in self.folders if folder not in self.ended]

    def _raise(self, stop: StopSignal) -> None:
        """The error that says how the runs ended, if not all have completed."""
        group = queue.read_group(self.runs, self.name)
        queue.remove_group(self.runs, self.name)
        if group and group.problem:
            text = "" if "cannot" in group.problem else f". All runs were asked to stop: {self._summary()}"
            raise PluginError(group.problem + text)
        if bad := len(self.folders) - Counter(self.ended.values())["completed"]:
            if stop():
                raise Stopped(f"stopped: {self._summary()}")
            raise PartFailed(f"{bad} of {len(self.folders)} runs did not complete: {self._summary()}")

    def _summary(self) -> str:
        """How many runs ended in which way, and the command that continues those that can be continued."""
        counts = Counter(self.ended.get(folder, "not ended") for folder in self.folders)
        text = ", ".join(f"{n} {state}" for state, n in counts.items()) + "."
        if stopped := [f for f in self.folders if self.ended.get(f) not in ("completed", "failed")]:
            text += f" Continue with:  {resume_command(stopped, self.tags)}"
        return text
