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

from mmctl.plugin import Limits, available_cores, launcher

PACK = 8
"""One run leaves most of a large GPU idle. More than eight gain little speed and cost memory."""
_STATES = {0: "completed", 75: "interrupted", 130: "interrupted", -signal.SIGTERM: "interrupted"}


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
        self._ended: dict[str, str] = {}

    def start(self, run_dirs: list[Path]) -> list[str]:
        """Put the runs in the queue. The id of a run is the name of its folder."""
        for folder in run_dirs:
            self._folders[folder.name] = folder
            self._waiting.append(folder.name)
        self._fill()
        return [folder.name for folder in run_dirs]

    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The state of each run, from the exit code of its process. This call also starts the next runs."""
        for process in list(self._running):
            if (code := process.popen.poll()) is not None:
                self._ended |= dict.fromkeys(process.names, _STATES.get(code, "failed"))
                self._running.remove(process)
        self._fill()
        running = {name for process in self._running for name in process.names}
        return {i: "running" if i in running else self._ended.get(i, "queued") for i in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the runs at a checkpoint, with the other runs of their processes; waiting runs are never started."""
        for name in ids:
            if name in self._waiting:
                self._waiting.remove(name)
                self._ended[name] = "interrupted"
        for process in self._running:
            if set(ids) & set(process.names):
                process.popen.terminate()

    def requeue(self, ids: Sequence[str]) -> None:
        """Put stopped runs in the queue again; they continue from their checkpoints."""
        for name in ids:
            self._ended.pop(name, None)
            self._waiting.append(name)
        self._fill()

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


def _gpus() -> list[str]:
    """GPU numbers in the form of CUDA_VISIBLE_DEVICES, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
