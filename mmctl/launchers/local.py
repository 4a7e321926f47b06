"""The launcher for this machine: it runs several processes at a time."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from mmctl.plugin import JobState, Limits, available_cores, launcher

PACK = 8
"""One run leaves most of a large GPU idle. More than eight gain little speed and cost memory."""
_STOPPED = (75, 130, -signal.SIGTERM)
"""Exit codes of a run that was stopped and can be continued."""


@launcher("local")
class Local:
    """Runs several processes at a time on this machine; runs on the same GPU can share a process.

    Args:
        slots: Number of parallel runs. By default, one for each core, or `pack` for each GPU.
        pack: Largest number of runs that share a process and take turns step by step. By default, 8 on a GPU, because
            one run does not fill it, and 1 on a CPU. If a process is killed, all its runs stop.
    """

    def __init__(
        self,
        *,
        slots: Annotated[int, Field(ge=1, le=10**4)] | None = None,
        pack: Annotated[int, Field(ge=1, le=1000)] | None = None,
    ) -> None:
        gpus = len(_gpus())
        self.pack = pack or (PACK if gpus else 1)
        self.slots = slots or self.pack * (gpus or available_cores())
        self._waiting: list[str] = []
        self._folders: dict[str, Path] = {}
        self._running: list[_Process] = []
        self._ended: dict[str, JobState] = {}

    def start(self, run_dirs: list[Path], name: str) -> list[str]:
        """Put the runs in the queue, also those that have ended. The id of a run is the name of its folder."""
        ids = [folder.name for folder in run_dirs]
        self._folders |= dict(zip(ids, run_dirs, strict=True))
        for one in ids:
            self._ended.pop(one, None)
        self._waiting += ids
        self._fill()
        return ids

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """The state of each run, from the exit code of its process. This call also starts the next runs."""
        for process in list(self._running):
            if (code := process.popen.poll()) is not None:
                self._ended |= dict.fromkeys(process.names, _end(code))
                self._running.remove(process)
        self._fill()
        now = {name: JobState("running") for process in self._running for name in process.names}
        known = self._ended | now | dict.fromkeys(self._waiting, JobState("queued"))
        return {i: known.get(i, JobState("gone")) for i in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the runs at a checkpoint, with the other runs of their processes; waiting runs are never started."""
        for name in ids:
            if name in self._waiting:
                self._waiting.remove(name)
                self._ended[name] = JobState("interrupted", "cancelled before its start")
        for process in self._running:
            if set(ids) & set(process.names):
                process.popen.terminate()

    def limits(self) -> Limits:
        """Number of parallel runs."""
        return Limits(self.slots)

    def _fill(self) -> None:
        gpus = _gpus()
        most = max(min(len(gpus), self.slots), math.ceil(self.slots / self.pack))
        while self._waiting and (free := most - len(self._running)) > 0:
            room = self.slots - sum(len(process.names) for process in self._running)
            n = min(self.pack, room, math.ceil(len(self._waiting) / free))
            if n < 1:
                return
            names, self._waiting = self._waiting[:n], self._waiting[n:]
            env, gpu = dict(os.environ), ""
            if gpus:
                used = [process.gpu for process in self._running]
                gpu = env["CUDA_VISIBLE_DEVICES"] = min(gpus, key=used.count)
            # Each run of a shared process writes its own log; other output of the process goes to the first folder.
            with (self._folders[names[0]] / ("log.txt" if n == 1 else "pack.txt")).open("ab") as log:
                popen = subprocess.Popen(
                    [sys.executable, "-m", "mmctl", "exec", *(str(self._folders[name]) for name in names)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,  # Ctrl-C reaches only mmctl, which then stops the runs
                )
            self._running.append(_Process(popen, names, gpu))


class _Process(NamedTuple):
    """A training process: the names of its runs, and the GPU that it uses."""

    popen: subprocess.Popen[bytes]
    names: list[str]
    gpu: str


def _end(code: int) -> JobState:
    """The state of the runs of a process that ended with this exit code, or by the signal -code."""
    if code == 0:
        return JobState("completed")
    if code in _STOPPED:
        return JobState("interrupted")
    return JobState("failed", f"killed by signal {-code}" if code < 0 else f"exit code {code}")


def _gpus() -> list[str]:
    """GPU numbers in the form of CUDA_VISIBLE_DEVICES, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
