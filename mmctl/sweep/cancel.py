"""Takes runs out of the queue: those that wait never start, those that train stop at a checkpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mmctl.run_folder import lease, queue
from mmctl.sweep.background import ensure_supervisor


def ask_to_stop(runs: Path, folders: Sequence[Path]) -> None:
    """Ask for the end of these runs of the queue of this machine; they have ended when their entries are gone."""
    for folder in folders:
        if entry := queue.read(folder):
            queue.put(folder, entry._replace(stop=True))
        if pid := lease.process(folder):  # perhaps of an earlier supervisor, which cannot cancel it
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
    ensure_supervisor(runs)
