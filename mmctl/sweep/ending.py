"""How a run of the queue ended: its folder decides, whatever its launcher says."""

from __future__ import annotations

from pathlib import Path

from mmctl.errors import Stopped
from mmctl.plugin import JobState
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import State
from mmctl.run_folder.queue import Ended
from mmctl.run_folder.record import last_scores, last_state, states

NOT_BEGUN = "stopped before its first step"
KILLED = "killed"
"""Begins what a launcher says of a process that was killed."""


def how_it_ended(folder: Path, before: int, said: JobState, who: str) -> Ended | None:
    """How a run ended that its launcher calls ended; None if a process trains it still.

    before: the number of states in its journals when it was started; who: the launcher. A run that never began is said
    to be failed or interrupted in its journal, since it would be listed as queued without that.
    """
    if lease.holder(folder) is not None:
        return None
    new = states(folder)[before:]
    if new:
        return Ended({"nc": "completed", "running": "crashed"}.get(new[-1], new[-1]))
    if said.word == "interrupted":
        ended = Ended("interrupted", NOT_BEGUN)
    elif said.reason.startswith(KILLED):
        ended = Ended("crashed", said.reason)
    else:
        what = " ".join(part for part in (said.word, said.reason and f"({said.reason})") if part)
        ended = Ended("failed", last_line(folder / "log.txt") or f"{who} calls it {what}, but it did not start")
    return ended


def note_ending(folder: Path, ended: Ended) -> None:
    """Say in the journal of a run that never began how it ended."""
    if not states(folder):
        state = "failed" if ended.state == "failed" else "interrupted"
        code = 2 if state == "failed" else Stopped.exit_code
        journal.append(folder, State(state=state, reason=ended.reason or NOT_BEGUN, code=code, step=0))


def ending(folder: Path, ended: Ended) -> str:
    """How a run ended, for people. That it did not converge is in its journal, not in the exit code."""
    if ended.state == "completed":
        return "not converged (nc)" if last_state(folder) == "nc" else f"completed{last_scores(folder)}"
    if ended.state == "failed":
        return f"failed  {ended.reason or last_line(folder / 'log.txt') or '(see ' + str(folder / 'log.txt') + ')'}"
    return ended.state


def last_line(log: Path) -> str:
    """The last line of a log, which says why a process failed."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else ""
