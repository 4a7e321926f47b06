"""Runs on this machine: a process for each, a few at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mmctl.plugin import Limits, launcher

_STATES = {0: "completed", 75: "interrupted", 130: "interrupted", -signal.SIGTERM: "interrupted"}


@launcher("local")
class Local:
    """Here, in processes of their own, several side by side.

    Args:
        slots: Runs at a time; absent = one for each GPU, or one for each core.
    """

    def __init__(self, *, slots: Annotated[int, Field(ge=1)] | None = None) -> None:
        self.slots = slots
        self._waiting: list[str] = []
        self._folders: dict[str, Path] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, str] = {}

    def start(self, run_dirs: list[Path]) -> list[str]:
        """Queue the runs; the folder's name is the id."""
        for folder in run_dirs:
            self._folders[folder.name] = folder
            self._waiting.append(folder.name)
        self._fill()
        return [folder.name for folder in run_dirs]

    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """How each run stands; asking is what starts the next one."""
        for name, process in list(self._running.items()):
            if (code := process.poll()) is not None:
                self._ended[name] = _STATES.get(code, "failed")
                del self._running[name]
        self._fill()
        return {i: "running" if i in self._running else self._ended.get(i, "queued") for i in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop at a checkpoint; runs that have not begun do not begin."""
        for name in ids:
            if name in self._waiting:
                self._waiting.remove(name)
                self._ended[name] = "interrupted"
            elif name in self._running:
                self._running[name].terminate()

    def requeue(self, ids: Sequence[str]) -> None:
        """Start stopped runs again, from their checkpoints."""
        for name in ids:
            self._ended.pop(name, None)
            self._waiting.append(name)
        self._fill()

    def limits(self) -> Limits:
        """One run for each GPU or core, unless the recipe says otherwise."""
        if self.slots:
            return Limits(self.slots)
        if gpus := len(_gpus()):
            return Limits(gpus)
        return Limits(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    def _fill(self) -> None:
        gpus = _gpus()
        while self._waiting and len(self._running) < self.limits().slots:
            name = self._waiting.pop(0)
            env = dict(os.environ)
            if gpus:
                used = [p.env_gpu for p in self._running.values()]  # type: ignore[attr-defined]
                free = min(gpus, key=used.count)
                env["CUDA_VISIBLE_DEVICES"] = free
            with (self._folders[name] / "log.txt").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "mmctl", "exec", str(self._folders[name])],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,  # Ctrl-C reaches mmctl alone, which then stops each run in order
                )
            process.env_gpu = free if gpus else ""  # type: ignore[attr-defined]
            self._running[name] = process


def _gpus() -> list[str]:
    """Device numbers as CUDA_VISIBLE_DEVICES wants them, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
