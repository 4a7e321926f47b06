"""A launcher: it starts runs and tells how they end. `mmctl run` uses it for several runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mmctl.plugin import JobState, Limits, launcher

ENDS = {0: "completed", 75: "interrupted", 130: "interrupted", -signal.SIGTERM: "interrupted"}
"""Exit code of `mmctl exec` -> state of the run; all other codes mean "failed"."""


@launcher("my_component")
class MyComponent:
    """Runs processes on this machine, each behind a command of your choice.

    Args:
        prefix: Words before the command of each run, for example ["nice", "-n", "10"] or ["srun", "--gres=gpu:1"].
        slots: Number of parallel runs.
    """

    # A launcher gets nothing from mmctl. Arguments after the * are parameters of the recipe.
    def __init__(self, *, prefix: tuple[str, ...] = (), slots: Annotated[int, Field(ge=1)] = 1) -> None:
        self.prefix, self.slots = prefix, slots
        self._folders: dict[str, Path] = {}
        self._waiting: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, JobState] = {}

    def start(self, run_dirs: list[Path], name: str) -> list[str]:
        """Put the runs in the queue, also those that have ended; returns one id for each."""
        ids = [folder.name for folder in run_dirs]
        for run in ids:
            self._ended.pop(run, None)
        self._folders |= dict(zip(ids, run_dirs, strict=True))
        self._waiting += ids
        self._fill()
        return ids

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """The state of each id; mmctl asks several times a second."""
        for name, process in list(self._running.items()):
            if (code := process.poll()) is not None:
                self._ended[name] = JobState(ENDS.get(code, "failed"), f"exit code {code}" if code else "")
                del self._running[name]
        self._fill()
        known = self._ended | dict.fromkeys(self._running, JobState("running"))
        known |= dict.fromkeys(self._waiting, JobState("queued"))
        return {name: known.get(name, JobState("gone")) for name in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the runs: at SIGTERM a run saves a checkpoint and ends with code 75."""
        for name in ids:
            if name in self._waiting:
                self._waiting.remove(name)
                self._ended[name] = JobState("interrupted")
            elif name in self._running:
                self._running[name].terminate()

    def limits(self) -> Limits:
        """The number of parallel runs."""
        return Limits(self.slots)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            name = self._waiting.pop(0)
            folder = self._folders[name]
            command = [*self.prefix, sys.executable, "-m", "mmctl", "exec", str(folder)]
            with (folder / "log.txt").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches only mmctl, which then stops the runs
                )
