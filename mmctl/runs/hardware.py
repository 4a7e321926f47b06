"""The device, precision and number of CPU threads that a run trains with."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmctl.errors import UserError
from mmctl.plugin import available_cores
from mmctl.recipe.settings import Train

DTYPES: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Hardware:
    """What was chosen."""

    device: torch.device
    precision: str  # fp32 or bf16
    threads: int

    @property
    def dtype(self) -> torch.dtype | None:
        """The type that autocast computes in; None = float32 throughout."""
        return DTYPES[self.precision]

    @property
    def device_name(self) -> str:
        """The GPU's name, or cpu."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def use_hardware(wanted: Train, recorded: Mapping[str, Any] | None = None) -> Hardware:
    """Choose for this process and set its number of threads.

    recorded: precision and threads of the run's first attempt, which a later one keeps: they decide bits.
    """
    before = recorded or {}
    threads = before.get("threads") or threads_of(wanted.threads)
    torch.set_num_threads(threads)
    device = device_of(wanted.device)
    return Hardware(device, before.get("precision") or precision_of(wanted.precision, device), threads)


def device_of(wanted: str) -> torch.device:
    """The device that the recipe asks for; auto = CUDA where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError('train.device = "cuda": this machine has no CUDA device that torch can use; try "cpu".')
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def precision_of(wanted: str, device: torch.device) -> str:
    """fp32 or bf16; auto = bf16 where a short probe shows that it is faster."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    x = torch.randn(16, 64, 24, 24).contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    times: dict[bool, float] = {}
    with torch.no_grad():
        for half in (True, False) * 5:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                start = time.process_time()  # not the wall clock: a busy machine would decide by chance
                conv(x)
                times[half] = min(times.get(half, 1e9), time.process_time() - start)
    return "bf16" if times[True] < 0.8 * times[False] else "fp32"


def threads_of(wanted: int | None) -> int:
    """CPU threads of a run: the recipe's number, else every core; one where the cores are busy already.

    Threads that wait for a descheduled partner make a shared machine several times slower than one thread each.
    """
    cores = available_cores()
    return wanted or (1 if os.getloadavg()[0] > cores / 2 else cores)
