"""Checkpoints: how long training waits for one, and how long the background thread takes to write it.

WRN-28-2 with EMA, Adam's moments and MixMatch's state. CPU time of the training thread for the checks and the copy,
wall time of the writing thread. Last line: {blocking_ms, saving_ms}.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import product
import torch
from common import arguments, finish, machine, spread, table, tell

from mmctl.training import checkpoint
from mmctl.training.async_save import AsyncSaver
from mmctl.training.loop import check_weights, device_step

ROUNDS, QUICK = 40, 8


def main() -> None:
    """Save repeatedly and print a table."""
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    tell("making a run")
    parts = {
        "train": product.images(*product.pictures(2000, 1), "train"),
        "test": product.images(*product.pictures(100, 2), "test"),
    }
    run = product.training(parts, product.shipped("mixmatch"), "fp32", torch.device("cpu"), 2)
    device_step(run, run.staged(0))
    writer = AsyncSaver(run.tensors())
    blocking: list[float] = []
    saving: list[float] = []
    size = sum(t.numel() * t.element_size() for t in run.tensors().values())
    with tempfile.TemporaryDirectory() as folder:
        for n in range(args.rounds or (QUICK if args.quick else ROUNDS)):
            device_step(run, run.staged(n + 1))
            start = time.thread_time()
            run.metrics.check()
            check_weights(run)
            writer.save(run.tensors(), lambda tensors, n=n: checkpoint.publish(Path(folder), n, tensors, {}))
            blocking.append(time.thread_time() - start)
            start = time.perf_counter()
            writer.join()
            saving.append(time.perf_counter() - start)
            checkpoint.retain(Path(folder), 2)
    print(f"{machine()}; {len(blocking)} rounds")
    rows = [
        ("training waits: checks and copy", f"{1000 * median(blocking):.1f}", spread(blocking)),
        ("in the background: hash, write, sync", f"{1000 * median(saving):.0f}", spread(saving)),
    ]
    table(f"A checkpoint of {size / 1e6:.1f} MB in {len(run.tensors())} tensors, medians", ("part", "ms", "+- %"), rows)
    finish({"blocking_ms": 1000 * median(blocking), "saving_ms": 1000 * median(saving)})


if __name__ == "__main__":
    main()
