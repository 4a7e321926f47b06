"""The process in the background that starts the runs that wait on this machine: one for each folder of runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import share
from mmctl.run_folder import lease, supervisor
from mmctl.sweep.ending import last_line


def log_file(runs: Path) -> Path:
    """What the supervisor of this machine printed, which is empty unless something is wrong."""
    return runs / supervisor.FOLDER / f"{lease.host()}.log"


def ensure_supervisor(runs: Path) -> bool:
    """Start the supervisor unless there is one, and say whether; EnvironmentFault if it cannot be started.

    To be called after the runs are in the queue: a supervisor looks at the queue again after it let go of its lock.
    """
    if supervisor.pid(runs) is not None:
        return False
    path = log_file(runs)
    try:
        with path.open("ab") as log:
            share(path)
            ended = subprocess.run(  # it returns when its child has the lock
                [sys.executable, "-m", "mmctl", "supervise", str(runs.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"MMCTL_RUNS": str(runs.resolve())},
                start_new_session=True,  # neither Ctrl-C nor the end of this terminal reaches it
                check=False,
            )
    except OSError as error:
        raise EnvironmentFault(f"{path}: the process that starts runs cannot be started ({error.strerror}).") from None
    if ended.returncode:
        raise EnvironmentFault(f"the process that starts runs cannot be started. It said in {path}: {last_line(path)}")
    return True


def detached() -> Callable[[], None]:
    """Go on in a child process, which no process has to wait for; returns what the child calls once it is ready.

    The process itself ends: with code 0 when the child is ready, with code 1 if that ends before.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)

    def ready() -> None:
        os.write(writing, b"1")
        os.close(writing)

    return ready
