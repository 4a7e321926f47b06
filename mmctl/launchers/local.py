"""Runs on this machine: a process for each, a few at a time."""

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

from mmctl.plugin import Limits, launcher

PACK = 8
"""A run leaves most of a large GPU idle; beyond eight, memory is what more of them cost."""
_STATES = {0: "completed", 75: "interrupted", 130: "interrupted", -signal.SIGTERM: "interrupted"}


@launcher("local")
class Local:
    """Here, in processes of their own, several side by side; several to a process where they share a GPU.

    Args:
        slots: Runs at a time; absent = one for each core, or `pack` for each GPU.
        pack: Runs that share a process at most, in which they take turns step by step; absent = 8 on a GPU, which one
            run does not fill, and 1 on a CPU. With 1, what kills a process ends one run alone.
    """

    def __init__(
        self, *, slots: Annotated[int, Field(ge=1)] | None = None, pack: Annotated[int, Field(ge=1)] | None = None
    ) -> None:
        gpus = len(_gpus())
        self.pack = pack or (PACK if gpus else 1)
        self.slots = slots or self.pack * (gpus or _cores())
        self._waiting: list[str] = []
        self._folders: dict[str, Path] = {}
        self._running: list[_Process] = []
        self._ended: dict[str, str] = {}

    def start(self, run_dirs: list[Path]) -> list[str]:
        """Queue the runs; the folder's name is the id."""
        for folder in run_dirs:
            self._folders[folder.name] = folder
            self._waiting.append(folder.name)
        self._fill()
        return [folder.name for folder in run_dirs]

    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """How each run stands, by what its process ended with; asking is what starts the next one."""
        for process in list(self._running):
            if (code := process.popen.poll()) is not None:
                self._ended |= dict.fromkeys(process.names, _STATES.get(code, "failed"))
                self._running.remove(process)
        self._fill()
        running = {name for process in self._running for name in process.names}
        return {i: "running" if i in running else self._ended.get(i, "queued") for i in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop at a checkpoint, with those of the same process; runs that have not begun do not begin."""
        for name in ids:
            if name in self._waiting:
                self._waiting.remove(name)
                self._ended[name] = "interrupted"
        for process in self._running:
            if set(ids) & set(process.names):
                process.popen.terminate()

    def requeue(self, ids: Sequence[str]) -> None:
        """Start stopped runs again, from their checkpoints."""
        for name in ids:
            self._ended.pop(name, None)
            self._waiting.append(name)
        self._fill()

    def limits(self) -> Limits:
        """Runs at a time."""
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
            # Runs that share a process write their own logs; what the process says beside goes with the first.
            with (self._folders[names[0]] / ("log.txt" if n == 1 else "pack.txt")).open("ab") as log:
                popen = subprocess.Popen(
                    [sys.executable, "-m", "mmctl", "exec", *(str(self._folders[name]) for name in names)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,  # Ctrl-C reaches mmctl alone, which then stops each run in order
                )
            self._running.append(_Process(popen, names, gpu))


class _Process(NamedTuple):
    """One that trains: the names of its runs, and the GPU that it sees."""

    popen: subprocess.Popen[bytes]
    names: list[str]
    gpu: str


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """Device numbers as CUDA_VISIBLE_DEVICES wants them, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
