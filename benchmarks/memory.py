"""Peak memory of training: mmctl and MixMatch-pytorch, each in a new process, a few steps on 50,000 images.

MiB of resident memory by getrusage, plus that of child processes. On the CPU, with one thread. Last line: one JSON
object: rss_fp32 and rss_bf16 = mmctl's peak / MixMatch-pytorch's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from common import arguments, finish, machine, ratio, table, tell

# The parent process imports nothing large: a child process inherits the peak of its parent.
BATCH = 64
ROUNDS, QUICK = 3, 1
STEPS, QUICK_STEPS = 4, 2
VARIANTS = {"theirs": "MixMatch-pytorch", "fp32": "MixMatch fp32", "bf16": "MixMatch bf16"}


def child(variant: str, steps: int) -> None:
    """Build a program, run a few steps, print the memory used."""
    import resource

    import product
    import torch

    from mmctl.runs.hardware import precision_of

    torch.set_num_threads(1)
    device = torch.device("cpu")
    found: dict[str, Any] = {"imports": resident()}
    if variant == "theirs":
        step = built(product, device).step
    elif variant == "bf16" and precision_of("auto", device) != "bf16":
        print(json.dumps(None))
        return
    else:
        parts = {
            "train": product.images(*product.pictures(product.TRAIN, 1), "train"),
            "test": product.images(*product.pictures(product.TEST, 2), "test"),
        }
        step = product.stepper(product.training(parts, product.shipped("mixmatch"), variant, device, BATCH))
    found["built"] = resident()
    for _ in range(steps):
        step()
    # Not RUSAGE_CHILDREN: it counts the memory that a child shares with its parent before exec.
    workers = [resident(child, "VmHWM") for child in children()]
    unit = 1024 ** (2 if sys.platform == "darwin" else 1)
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit + sum(workers)
    found["children"] = len(workers)
    print(json.dumps(found))


def built(product: Any, device: Any) -> Any:
    """MixMatch-pytorch with all its data: float32 copies of the labelled, unlabelled, validation and test sets."""
    import numpy as np
    import reference
    import torchvision  # noqa: F401  (its data set class is torchvision's)

    pixels, targets = product.pictures(product.TRAIN, 1)
    order = np.random.default_rng(0).permutation(product.TRAIN)
    labeled, validation, unlabeled = np.split(order, [product.LABELS, product.LABELS + 5000])
    theirs = reference.MixMatchPytorch(pixels, targets, labeled, unlabeled, BATCH, device)
    theirs.kept = (
        reference.NumpySet(pixels, targets, validation, 1),
        reference.NumpySet(*product.pictures(product.TEST, 2), np.arange(product.TEST), 1),
    )
    return theirs


def resident(process: str = "self", what: str = "VmRSS") -> float:
    """MiB of a process, now (VmRSS) or at most (VmHWM); 0 if the system does not report it."""
    status = Path("/proc", process, "status")
    if not status.exists():
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in status.read_text().splitlines() if x.startswith(what)), 0.0)


def children() -> list[str]:
    """The child processes that are alive."""
    me = str(os.getpid())
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # ended meanwhile
            if f"PPid:\t{me}\n" in status.read_text():
                found.append(status.parent.name)
    return found


def main() -> None:
    """Run one child process per variant and round, in turn, and print a table."""
    args = arguments(__doc__ or "", child={"choices": tuple(VARIANTS), "help": "used internally, for child processes"})
    steps = QUICK_STEPS if args.quick else STEPS
    if args.child:
        child(args.child, steps)
        return
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    count = args.rounds or (QUICK if args.quick else ROUNDS)
    for n in range(count):
        tell(f"round {n + 1} of {count}")
        for name in VARIANTS:
            command = [sys.executable, __file__, "--child", name, *(["--quick"] if args.quick else [])]
            out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if out is not None:
                seen[name].append(out)
    peaks = {name: [found["peak"] for found in all_] for name, all_ in seen.items() if all_}
    if "bf16" not in peaks:
        tell("bf16 is not faster than fp32 on this machine (measured by mmctl): its row is omitted")
    print(f"{machine()}; {count} rounds of {steps} steps")
    rows = []
    for name, values in peaks.items():
        middle = {key: median(found[key] for found in seen[name]) for key in ("imports", "built", "children")}
        share = ratio(peaks, name, "theirs")
        rows.append((
            VARIANTS[name], f"{middle['imports']:.0f}", f"{middle['built']:.0f}", f"{median(values):.0f}",
            f"{middle['children']:.0f}", f"{share:.2f}",
        ))  # fmt: skip
    columns = ("program", "after imports", "after build", "peak", "child processes", "of theirs")
    table("Resident memory, MiB, medians", columns, rows)
    finish({"rss_fp32": ratio(peaks, "fp32", "theirs"), "rss_bf16": ratio(peaks, "bf16", "theirs")})


if __name__ == "__main__":
    main()
