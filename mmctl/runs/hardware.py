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
    """The hardware settings of a run."""

    device: torch.device
    precision: str  # fp32 or bf16
    threads: int

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype for autocast; None = float32 without autocast."""
        return DTYPES[self.precision]

    @property
    def device_name(self) -> str:
        """The GPU's name, or cpu."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def use_hardware(wanted: Train, recorded: Mapping[str, Any] | None = None) -> Hardware:
    """Choose device, precision and threads, and set torch's number of threads in this process.

    recorded: precision and threads of the run's first attempt. A resumed run keeps them, since results depend on them.
    """
    recorded = recorded or {}
    threads = recorded.get("threads") or threads_of(wanted.threads)
    torch.set_num_threads(threads)
    device = device_of(wanted.device)
    return Hardware(device, recorded.get("precision") or precision_of(wanted.precision, device), threads)


def device_of(wanted: str) -> torch.device:
    """The device for `train.device`; auto = CUDA if available. UserError if CUDA is required and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError('train.device = "cuda": torch finds no CUDA device on this machine; use "cpu" or "auto".')
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def precision_of(wanted: str, device: torch.device) -> str:
    """fp32 or bf16; auto = bf16 if the GPU supports it, or if a measurement on the CPU shows that it is faster."""
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
                start = time.process_time()  # not wall clock time, which other processes change
                conv(x)
                times[half] = min(times.get(half, 1e9), time.process_time() - start)
    return "bf16" if times[True] < 0.8 * times[False] else "fp32"


def threads_of(wanted: int | None) -> int:
    """CPU threads of a run: the recipe's number; else all cores, or 1 if the machine is busy.

    On a busy machine threads wait for each other, which makes several threads slower than one.
    """
    cores = available_cores()
    return wanted or (1 if os.getloadavg()[0] > cores / 2 else cores)
