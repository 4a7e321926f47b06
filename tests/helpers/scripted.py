"""A launcher that pretends that runs end as a test wants; the variable COMMAND names the process of the test."""

from __future__ import annotations

LAUNCHER = '''
import os
import signal

from mmctl.plugin import JobState, Limits, launcher
from mmctl.run_folder import journal
from mmctl.run_folder.events import State


@launcher("scripted")
class Scripted:
    """Pretends that runs end as told, or go on until they are cancelled.

    Args:
        ends: One end for each run, in order; running = until it is cancelled.
        slots: Runs at a time.
        says: What states() answers for the runs in place of their ends; raise = it raises, none = nothing.
        deaf: Whether runs go on although they were cancelled.
        terms: So many SIGTERMs reach the command while it waits.
        empty: Whether the runs leave nothing in their folders.
    """

    def __init__(
        self, *, ends: list[str], slots: int = 2, says: list[str] = (), deaf: bool = False, terms: int = 0,
        empty: bool = False,
    ):
        self.ends, self.slots, self.says, self.deaf, self.terms = ends, slots, says, deaf, terms
        self.asked, self.empty, self.command = 0, empty, int(os.environ["COMMAND"])

    def start(self, run_dirs, name):
        ids = [f"job-{n}" for n, _ in enumerate(run_dirs)]
        self.folders = dict(zip(ids, run_dirs))
        self.states_ = dict(zip(ids, self.ends, strict=True))
        for folder, end in zip(run_dirs, self.ends):
            if end == "failed":
                (folder / "log.txt").write_text("run\\nmmctl: the loss is not finite since step 3.\\n\\n")
            if end != "running" and not self.empty:
                journal.append(folder, State(state=end, step=1))
        return ids

    def states(self, ids):
        self.asked += 1
        if self.asked == 1:
            return dict.fromkeys(ids, JobState("queued"))
        if self.terms:
            self.terms -= 1
            os.kill(self.command, signal.SIGTERM)
        if "raise" in self.says:
            raise OSError("the queue does not answer")
        said = dict(zip(self.states_, self.says))
        return {i: JobState(said.get(i, self.states_[i])) for i in ids if said.get(i) != "none"}

    def cancel(self, ids):
        (next(iter(self.folders.values())) / "cancelled").write_text(" ".join(ids))
        for i in () if self.deaf else ids:
            if self.states_[i] == "running":
                journal.append(self.folders[i], State(state="interrupted", step=1))
            self.states_[i] = "interrupted"

    def limits(self):
        return Limits(self.slots)
'''
