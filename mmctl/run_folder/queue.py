"""Who will start a waiting run: a command with several runs writes this into the folder of each of them.

So no other command starts such a run too. When the process has gone, however it ended, the entry does not count.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from mmctl.run_folder.lease import boot

FILE = "queue.json"


def enter(folder: Path) -> None:
    """Say that this process will start the run."""
    with suppress(OSError):  # a full disk: two commands may then start the run, and the lease lets one of them train
        (folder / FILE).write_text(json.dumps({"boot": boot(), "pid": os.getpid(), "started": _started(os.getpid())}))


def leave(folder: Path) -> None:
    """Say that this process will not start the run any more."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def waits_for(folder: Path) -> int | None:
    """The process id of the living process on this machine that will start the run, or None."""
    try:
        said = json.loads((folder / FILE).read_bytes()[:1000])
        pid = said["pid"]
        alive = isinstance(pid, int) and said["boot"] == boot() and _started(pid) == said["started"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return pid if alive else None


def _started(pid: int) -> str:
    """When a process started, in clock ticks: a process id alone may be used again."""
    # The second field is the program's name, which may contain blanks and brackets.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
