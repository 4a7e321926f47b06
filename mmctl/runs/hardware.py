"""The device, precision and number of CPU threads that a run trains with.

They follow from the recipe, the machine and the number of parallel runs, never from the load or a measurement: the
same command gives the same bits on the same machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmctl import ops
from mmctl.cores import available_cores
from mmctl.errors import UserError
from mmctl.recipe.settings import Train

DTYPES: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
CPU_BF16 = ("amx_bf16", "avx512_bf16")
"""Instructions that compute in bf16; without them bf16 is converted, up to ten times slower than fp32."""


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

    def facts(self) -> dict[str, Any]:
        """What journals and checkpoints keep of it."""
        return {
            "device": self.device_name, "isa": instruction_set(), "precision": self.precision, "threads": self.threads
        }  # fmt: skip


def use_hardware(wanted: Train, recorded: Mapping[str, Any] | None = None) -> Hardware:
    """Choose device, precision and threads, and set torch's number of threads in this process.

    recorded: precision and threads of the run's first attempt. A resumed run keeps them, since results depend on them.
    """
    recorded = recorded or {}
    # Processes that share a run share the cores of their machine.
    beside = int(os.environ["LOCAL_WORLD_SIZE"]) if ops.world_size() > 1 else 1
    threads = recorded.get("threads") or threads_of(wanted.threads, beside)
    torch.set_num_threads(threads)
    device = device_of(wanted.device)
    if device.type == "cuda" and ops.world_size() > 1:
        device = torch.device("cuda", torch.cuda.current_device())
    return Hardware(device, recorded.get("precision") or precision_of(wanted.precision, device), threads)


def device_of(wanted: str) -> torch.device:
    """The device for `train.device`; auto = CUDA if available. UserError if CUDA is required and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError('train.device = "cuda": torch finds no CUDA device on this machine; use "cpu" or "auto".')
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def precision_of(wanted: str, device: torch.device) -> str:
    """fp32 or bf16; auto = bf16 if the GPU or the CPU has instructions for it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_bf16() else "fp32"


def cpu_bf16() -> str:
    """The instructions of this CPU that compute in bf16, or an empty string (also with a torch that cannot tell)."""
    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return next((name for name in CPU_BF16 if known.get(name)), "")


def instruction_set() -> str:
    """The CPU instructions that torch uses, on which the last bits depend: "AVX2", or "AVX512, amx_bf16"."""
    return ", ".join(filter(None, (torch.backends.cpu.get_cpu_capability(), cpu_bf16())))


def threads_of(wanted: int | None, parallel: int = 1) -> int:
    """CPU threads of a run: the recipe's number; else an equal share of the cores for each of the parallel runs."""
    return wanted or max(1, available_cores() // parallel)


def torch_facts() -> dict[str, Any]:
    """The build of torch and what decides whether it computes the same bits again; starts nothing on a GPU."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "version": torch.__version__, "commit": torch.version.git_version, "cuda": torch.version.cuda,
        "cudnn": cudnn.version() if torch.version.cuda else None,  # type: ignore[no-untyped-call]
        "deterministic": torch.are_deterministic_algorithms_enabled(), "cudnn.deterministic": cudnn.deterministic,
        "cudnn.benchmark": cudnn.benchmark, "tf32": {"matmul": matmul.allow_tf32, "cudnn": cudnn.allow_tf32},
    }  # fmt: skip
