"""Stops runs of this machine: SIGTERM, upon which a run saves a checkpoint after its step, or SIGKILL."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from mmctl.errors import UserError
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import State
from mmctl.store.rows import RunRow

PAUSE = 0.1
"""Seconds between two looks at the leases."""
ENDED = ("completed", "nc", "failed")


def processes(runs: Path, chosen: Sequence[RunRow], every: Sequence[RunRow]) -> dict[int, list[Path]]:
    """Process id -> the chosen runs that it trains; UserError for one that is not trained on this machine.

    Several runs may share a process, which stops as a whole: UserError unless all of them are chosen.
    """
    found: dict[int, list[Path]] = {}
    for run in chosen:
        folder = runs / run["uid"]
        if (pid := lease.process(folder)) is None:
            raise UserError(_elsewhere(run, folder))
        found.setdefault(pid, []).append(folder)
    others = {run["uid"] for run in every if run["state"] == "running"} - {run["uid"] for run in chosen}
    for uid in sorted(others):
        if (pid := lease.process(runs / uid)) in found:
            uids = " ".join(folder.name for folder in found[pid])
            raise UserError(
                f"{uid}: is trained by the same process ({pid}), which stops as a whole. To stop all: mmctl stop "
                f"{uids} {uid}"
            )
    return found


def stop(found: dict[int, list[Path]], at_once: bool, seconds: float) -> list[Path]:
    """Signal processes, wait until their runs have ended, at most `seconds`; returns the runs that have not.

    at_once: end them without saving; the journal of a run that has not ended by itself then says that it was
    interrupted. UserError, before any signal, if a process belongs to another user.
    """
    for pid, folders in found.items():
        _signal(pid, folders, 0)
    sent = {
        pid for pid, folders in found.items() if _signal(pid, folders, signal.SIGKILL if at_once else signal.SIGTERM)
    }
    left = [folder for folders in found.values() for folder in folders]
    end = time.monotonic() + seconds
    while left := [folder for folder in left if lease.holder(folder) is not None]:
        if time.monotonic() > end:
            break
        time.sleep(PAUSE)
    for folder in [folder for pid in sent for folder in found[pid] if at_once and folder not in left]:
        states = [event.state for event in journal.read_events(folder, State)]
        if states and states[-1] in ENDED:
            continue  # it wrote its end, and held its lease a moment longer
        step = (lease.read(folder) or {}).get("step")
        reason = "ended at once by `mmctl stop --now`"
        journal.append(
            folder, State(state="interrupted", reason=reason, code=75, step=step if isinstance(step, int) else None)
        )
    return left


def _signal(pid: int, folders: Sequence[Path], number: int) -> bool:
    """Signal a process; False if it has ended. Number 0 only asks whether that is allowed."""
    try:
        if lease.process(folders[0]) != pid:  # since replaced by another one
            return False
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        uids = ", ".join(folder.name for folder in folders)
        raise UserError(f"{uids}: process {pid} belongs to another user. Stop it as that user.") from None
    return True


def _elsewhere(run: RunRow, folder: Path) -> str:
    """Why a run cannot be stopped from here."""
    if run["state"] != "running":
        return f"{run['uid']}: is not running ({run['state']})."
    left = lease.read(folder) or {}
    where = left.get("host", run["host"]) or "another machine"
    return (
        f"{run['uid']}: is trained by process {left.get('pid', '?')} on {where}, or in another container, not here. "
        f"Stop it there: mmctl stop {run['uid']}"
    )
