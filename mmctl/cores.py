"""The CPU cores of this process: how many runs or threads a machine can have at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where a container's limit of CPU time stands: microseconds of each period, and the period."""


def available_cores() -> int:
    """Number of CPU cores that this process may use, also by the limit of its container (`docker run --cpus 4`) or job.

    A launcher's default number of parallel runs on a CPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a limit: "max 100000"
        quota, period = map(int, CPU_LIMIT.read_text().split())
        cores = min(cores, max(1, -(-quota // period)))
    # Where Slurm does not bind its jobs to cores, only this says how many are theirs.
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if (allotted := os.environ.get(name, "")).isdigit():
            return min(cores, max(1, int(allotted)))
    return cores
