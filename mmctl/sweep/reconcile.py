"""What the engine says of a job, and what the run folder says: what follows from both."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmctl.plugin import JobState
from mmctl.run_folder import journal, queue
from mmctl.run_folder.events import State
from mmctl.run_folder.queue import Ended
from mmctl.run_folder.restart import WAITS, to_resubmit
from mmctl.sweep.ending import NOT_BEGUN, last_line, note_ending

Folder = Literal["new", "begun", "stopped", "asks", "over"]
"""No attempt since the submission; one that has not ended; one that was stopped; one that asks for another job;
completed, nc or failed."""
Action = Literal["wait", "leave", "cancel", "fail", "interrupt", "again", "go on"]
"""Wait; take it out of the queue; that, and cancel the job; note in the journal how it ended, and take it out; hand it
over again, since it never began; hand it over again, to continue."""
TRIES = 3
"""How often a run is handed over that the engine loses before it starts."""

TABLE: dict[str, dict[Folder, Action]] = {
    "queued": {"new": "wait", "begun": "wait", "stopped": "wait", "asks": "wait", "over": "cancel"},
    "held": {"new": "wait", "begun": "wait", "stopped": "wait", "asks": "wait", "over": "cancel"},
    "running": {"new": "wait", "begun": "wait", "stopped": "wait", "asks": "wait", "over": "wait"},
    "completed": {"new": "fail", "begun": "leave", "stopped": "leave", "asks": "go on", "over": "leave"},
    "failed": {"new": "fail", "begun": "leave", "stopped": "leave", "asks": "go on", "over": "leave"},
    "interrupted": {"new": "interrupt", "begun": "leave", "stopped": "leave", "asks": "go on", "over": "leave"},
    "gone": {"new": "again", "begun": "leave", "stopped": "leave", "asks": "go on", "over": "leave"},
}
"""Word of the launcher -> state of the folder -> what to do.

A run that has begun and whose job is over is listed as crashed, since nobody holds its lease: it can be resumed.
"""


def settle(folder: Path, said: JobState, who: str, since: int) -> Action:
    """Do what follows for a run; returns what its caller does with the queue.

    who: the launcher, for messages; since: when it was submitted, in milliseconds since 1970.
    """
    action = TABLE[said.word][folder_state(folder, since)]
    entry = queue.read(folder)
    if action == "again" and entry and entry.tries >= TRIES:
        action, said = "fail", JobState("gone", f"{TRIES + 1} times")
    if action == "fail":
        why = f": {said.reason}" if said.reason else ""
        ended = {"completed": "ended without a result", "gone": "was lost"}.get(said.word, "failed before it began")
        log = last_line(folder / "log.txt")
        note_ending(folder, Ended("failed", f"{who}: its job {ended}{why}{f'; log: {log}' if log else ''}"))
    elif action == "interrupt":
        note_ending(folder, Ended("interrupted", said.reason or NOT_BEGUN))
    elif action == "leave" and (last := last_event(folder)) and last.reason == WAITS:
        reason = f"its job did not start again: {said.reason or said.word}"
        journal.append(folder, State(state="interrupted", reason=reason, code=last.code, step=last.step))
    return action


def last_event(folder: Path) -> State | None:
    """The last state in the journals, by their clocks: those of the jobs and of commands stand in several files."""
    events = sorted(journal.read_events(folder, State), key=lambda event: event.t or 0)
    return events[-1] if events else None


def folder_state(folder: Path, since: int) -> Folder:
    """What the folder says of the time since the run was submitted; "over" counts whenever it was."""
    last = last_event(folder)
    if last is None:
        return "new"
    if last.state in ("completed", "nc"):
        return "over"
    if (last.t or 0) < since:
        return "new"
    if last.state == "interrupted":
        return "asks" if to_resubmit(last.reason) else "stopped"
    return "begun" if last.state == "running" else "over"
