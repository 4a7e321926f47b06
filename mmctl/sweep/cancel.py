"""Takes runs out of the queue: those that wait never start, those that train stop at a checkpoint."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mmctl.run_folder import lease, queue, supervisor
from mmctl.run_folder.queue import Ended
from mmctl.store.rows import RunRow
from mmctl.sweep.background import ensure_supervisor
from mmctl.sweep.ending import NOT_BEGUN, note_ending
from mmctl.sweep.engines import cancel_jobs

PAUSE = 0.1
"""Seconds between two looks at the queue."""
OVER = ("completed", "nc")


class ToStop(NamedTuple):
    """Runs to stop: by the queue, and by a signal to their process."""

    queued: list[RunRow]
    training: list[RunRow]


def sort_out(runs: Path, rows: Sequence[RunRow], only_waiting: bool = False) -> ToStop:
    """The runs among these that wait or train; those that an engine keeps are stopped by the queue in both cases."""
    queued, training = list[RunRow](), list[RunRow]()
    for row in rows:
        found = queue.group_of(runs / row["uid"]) if row["state"] not in OVER else None
        running = row["state"] == "running"
        if found and (not running or (found[0].lasting and not only_waiting)):
            queued.append(row)
        elif running and not only_waiting:
            training.append(row)
    return ToStop(queued, training)


def take_out(runs: Path, folders: Sequence[Path], seconds: float) -> list[Path]:
    """Take runs out of the queue and wait for their ends, at most so long; returns those that have not ended."""
    groups = {folder: found for folder in folders if (found := queue.group_of(folder))}
    jobs = [folder for folder, (group, entry) in groups.items() if group.lasting]
    cancel_jobs(runs, jobs)
    mine = [folder for folder in groups if folder not in jobs]
    if supervisor.pid(runs) is None:
        for folder in mine:
            note_ending(folder, Ended("interrupted", NOT_BEGUN))
            queue.leave(folder)
        return []
    ask_to_stop(runs, mine)
    end = time.monotonic() + seconds
    while (left := [folder for folder in mine if queue.read(folder) is not None]) and time.monotonic() < end:
        time.sleep(PAUSE)
    return left


def ask_to_stop(runs: Path, folders: Sequence[Path]) -> None:
    """Ask for the end of these runs of the queue of this machine; they have ended when their entries are gone."""
    for folder in folders:
        if entry := queue.read(folder):
            queue.put(folder, entry._replace(stop=True))
        if pid := lease.process(folder):  # perhaps of an earlier supervisor, which cannot cancel it
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
    if folders:
        ensure_supervisor(runs)
