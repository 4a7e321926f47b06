"""Two processes that share a run against one: what the exchange between them costs on a CPU (gloo).

Both train the same global batch with one torch thread for each process, so that at best the ratio is 1/2. They are
timed in turn, in wall time, since the processes wait for each other. Last line: {alone_ms, shared_ms, ratio}.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import product
import torch
import torch.distributed as dist
from common import arguments, finish, machine, ratio, rounds, spread, table

BATCH = 64
WARM = 2
ROUNDS, QUICK = 15, 3
STEPS, QUICK_STEPS = 10, 2


def seconds_per_step(steps: int) -> float:
    """Wall time of a step of MixMatch on a small network, after warm-up."""
    torch.set_num_threads(1)
    parts = {
        "train": product.images(*product.pictures(2000, 1), "train"),
        "test": product.images(*product.pictures(100, 2), "test"),
    }
    step = product.stepper(
        product.training(parts, product.shipped("mixmatch"), "fp32", torch.device("cpu"), BATCH, "backbone.name=small")
    )
    for _ in range(WARM):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def as_rank(rank: int, folder: str, steps: int) -> None:
    """The same as one of two processes; rank 0 writes its time into the folder."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(minutes=10)
    )
    seconds = seconds_per_step(steps)
    if rank == 0:
        (Path(folder) / "seconds").write_text(str(seconds))
    dist.barrier()
    dist.destroy_process_group()


def shared(steps: int) -> float:
    """Seconds of a step that two processes share."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(as_rank, (folder, steps), nprocs=2)  # type: ignore[attr-defined]
        return float((Path(folder) / "seconds").read_text())


def main() -> None:
    """Time pairs and print a table."""
    args = arguments(__doc__ or "")
    steps = QUICK_STEPS if args.quick else STEPS
    if "lo" in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    count = args.rounds or (QUICK if args.quick else ROUNDS)
    times = rounds({"alone": lambda: seconds_per_step(steps), "shared": lambda: shared(steps)}, count, warm=0)
    print(f"{machine()}; {count} rounds of {steps} steps")
    middle = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    rows = [(name, f"{1000 * middle[name]:.1f}", spread(values)) for name, values in times.items()]
    table("A step of MixMatch on two processes and on one, medians", ("processes", "ms", "+- %"), rows)
    found = {f"{name}_ms": 1000 * seconds for name, seconds in middle.items()}
    finish({**found, "ratio": ratio(times, "shared", "alone")})


if __name__ == "__main__":
    main()
