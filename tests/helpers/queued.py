"""Runs that wait in the queue of a folder of runs."""

from __future__ import annotations

from pathlib import Path

from mmctl.run_folder import queue

TABLE = {"name": "mmctl:local", "slots": 2}


def enqueue(*folders: Path, lasting: bool = False, job: str = "", sweep: str = "") -> None:
    """Put run folders in the queue, in this order; job: their id in the engine of a launcher that is lasting."""
    name = queue.new_name()
    for order, folder in enumerate(folders):
        queue.put(folder, queue.Entry(name, order, job))
    queue.new_group(folders[0].parent, TABLE, folders, name, sweep=sweep, lasting=lasting)
