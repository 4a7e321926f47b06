"""Who will start a waiting run: a command with several runs writes this into the folder of each of them.

So no other command starts such a run too. When the process has gone, however it ended, the entry does not count.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from mmctl.filesystem import read_file
from mmctl.run_folder.lease import boot, start_ticks
from mmctl.text import to_json

FILE = "queue.json"
SIZE = 1000
"""A larger file is not read, in bytes."""


def enter(folder: Path) -> None:
    """Say that this process will start the run."""
    with suppress(OSError):  # a full disk: two commands may then start the run, and the lease lets one of them train
        said = {"boot": boot(), "pid": os.getpid(), "started": start_ticks(os.getpid())}
        (folder / FILE).write_text(to_json(said))


def leave(folder: Path) -> None:
    """Say that this process will not start the run any more."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def waits_for(folder: Path) -> int | None:
    """The process id of the living process on this machine that will start the run, or None."""
    try:
        said = json.loads(read_file(folder / FILE, SIZE))
        pid = said["pid"]
        alive = isinstance(pid, int) and said["boot"] == boot() and start_ticks(pid) == said["started"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return pid if alive else None
