"""One training step: mmctl compared with published programs, and with the speed of the machine's convolutions.

WRN-28-2, 32 px, 64 labelled and 64 unlabelled images per step, including loading and augmentation. Last line: one JSON
object: mixmatch_*, fixmatch_* = time of the published program / ours; floor_* = our MixMatch step / the time that its
FLOPs take at the best speed of a convolution in the same round; marginmix_fp32 = our MarginMix / our MixMatch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import product
import reference
import torch
from common import Times, arguments, cpu_timed, finish, gpu_timed, machine, ratio, rounds, spread, table, tell
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmctl.runs.hardware import DTYPES, device_of, precision_of
from mmctl.training.loop import device_step

BATCH = 64
ROUNDS, QUICK = 12, 1
MIXMATCH, FIXMATCH = "MixMatch-pytorch", "USB FixMatch"


class Clock:
    """Measures the seconds of a step, and how many of them are outside forward and backward."""

    def __init__(self, device: torch.device) -> None:
        self.timed = gpu_timed if device.type == "cuda" else cpu_timed
        self.outside: Times = {}
        self._inside = 0.0

    def forward(self, network: nn.Module) -> None:
        """Measure the forward passes of this network."""
        if self.timed is gpu_timed:
            return  # CPU time does not measure the GPU, and a replayed CUDA graph calls no Python
        began: list[float] = []
        network.register_forward_pre_hook(lambda *_: began.append(time.process_time()))
        network.register_forward_hook(lambda *_: self._add(began.pop()))

    def backward(self) -> None:
        """Measure all backward passes."""
        plain = torch.Tensor.backward

        def timed(*args: Any, **kwargs: Any) -> None:
            start = time.process_time()
            plain(*args, **kwargs)
            self._add(start)

        torch.Tensor.backward = timed  # type: ignore[assignment]

    def _add(self, began: float) -> None:
        self._inside += time.process_time() - began

    def of(self, name: str, step: Callable[[], object]) -> Callable[[], float]:
        """The step, timed, as `rounds` needs it."""

        def run() -> float:
            self._inside = 0.0
            seconds = self.timed(step)
            self.outside.setdefault(name, []).append(seconds - self._inside)
            return seconds

        return run


BEST = "512 ch 16 px"
SHAPES = ((512, 16, 12, False), (512, 16, 12, True), (128, 8, 192, False), (128, 8, 192, True))
"""Channels, pixels, images, and whether with backward. The first shape is the reference for the highest speed: it is
large and regular, and not one of the network's, so that it does not depend on optimisations for one of those."""


def convolutions(device: torch.device, precisions: Sequence[str]) -> dict[str, tuple[Callable[[], object], float]]:
    """3 x 3 convolutions, channels last: name -> the function, and its GFLOP by torch's counter."""
    made: dict[str, tuple[Callable[[], object], float]] = {}
    larger = 16 if device.type == "cuda" else 1
    for p in precisions:
        kind: Any = {"device": device, "dtype": DTYPES[p] or torch.float32}
        for channels, side, n, back in SHAPES:
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, **kind)
            conv = conv.to(memory_format=torch.channels_last)
            x = torch.randn(n * larger, channels, side, side, **kind).contiguous(memory_format=torch.channels_last)
            work = partial(convolve, conv, x.requires_grad_(back), torch.randn_like(x))
            with FlopCounterMode(display=False) as counter:
                work()
            name = f"conv {p} {channels} ch {side} px {'forward + backward' if back else 'forward'}"
            made[name] = work, counter.get_total_flops() / 1e9
    return made


def convolve(conv: nn.Module, x: Tensor, grad: Tensor) -> None:
    """Forward; and backward to input and weight if x requires a gradient."""
    with torch.set_grad_enabled(x.requires_grad):
        y = conv(x)
    if x.requires_grad:
        y.backward(grad)
        x.grad = conv.weight.grad = None


def ceiling(times: Times, gflop: dict[str, float], precision: str) -> list[float]:
    """GFLOP per second in each round: the reference convolution, forward or with backward, the faster one."""
    speeds = [[gflop[k] / t for t in ts] for k, ts in times.items() if k.startswith(f"conv {precision} {BEST}")]
    return max(speeds, key=median, default=[])


class Bench:
    """The variants of this benchmark, in the order of a round."""

    def __init__(self, device: torch.device, precisions: Sequence[str], quick: bool) -> None:
        self.device, self.precisions, self.quick = device, precisions, quick
        self.clock = Clock(device)
        self.pixels, self.targets = product.pictures(product.TRAIN, 1)
        self.parts = {
            "train": product.images(self.pixels, self.targets, "train"),
            "test": product.images(*product.pictures(product.TEST, 2), "test"),
        }
        self.variants: dict[str, Callable[[], float]] = {}
        self.gflop: dict[str, float] = {}  # of each convolution
        self.step_gflop = 0.0  # of our MixMatch step

    def ours(self, name: str, recipe: str, precision: str, *sets: str) -> product.Training:
        """Add one of mmctl's recipes."""
        run = product.training(self.parts, product.shipped(recipe), precision, self.device, BATCH, *sets)
        for net in run.nets.values():
            self.clock.forward(net)
        self.variants[name] = self.clock.of(name, product.stepper(run))
        return run

    def theirs(self, name: str, loop: reference.MixMatchPytorch | reference.UsbFixMatch) -> None:
        """Add a published program."""
        self.clock.forward(loop.model)
        self.variants[name] = self.clock.of(name, loop.step)

    def mixmatch(self) -> None:
        """Add MixMatch-pytorch, our MixMatch, and its variants."""
        split = product.split(self.parts["train"])
        # It keeps 5,000 of the images for validation.
        rest = split.unlabeled[:-5000]
        loop = reference.MixMatchPytorch(self.pixels, self.targets, split.labeled, rest, BATCH, self.device)
        self.theirs(MIXMATCH, loop)
        for p in self.precisions:
            run = self.ours(f"MixMatch {p}", "mixmatch", p)
            if not self.step_gflop:
                with FlopCounterMode(display=False) as counter:
                    device_step(run, run.staged(0))
                self.step_gflop = counter.get_total_flops() / 1e9
            if self.quick:
                continue
            self.ours(f"MixMatch {p}, joint", "mixmatch", p, "method.bn_groups=joint")
            if self.device.type == "cuda":
                self.ours(f"MixMatch {p}, no graph", "mixmatch", p, "train.capture=off")
                self.ours(f"MixMatch {p}, compiled", "mixmatch", p, "train.compile=true")

    def marginmix(self) -> None:
        """Add MarginMix with a forward of clean images in each step; as shipped; and as in the paper."""
        self.ours("MarginMix fp32", "marginmix", "fp32", "centroids.estimator=running")
        if not self.quick:
            self.ours("MarginMix fp32, exact centroids", "marginmix", "fp32")
            self.ours("MarginMix fp32, paper", "marginmix_paper", "fp32")

    def fixmatch(self) -> None:
        """Add USB's FixMatch, and ours without and with a gradient through the weak view."""
        ready = product.fixmatch()
        if not ready and self.quick:
            return
        split = product.split(self.parts["train"])
        every = np.arange(len(self.targets))
        self.theirs(
            FIXMATCH,
            reference.UsbFixMatch(self.pixels, self.targets, split.labeled, every, BATCH, BATCH, self.device),
        )
        for p in self.precisions if ready else []:
            sets = (*product.STRONG, "split.unlabeled=all")
            self.ours(f"FixMatch {p}", "fixmatch", p, "method.bn_groups=each", *sets)
            if not self.quick:
                self.ours(f"FixMatch {p}, joint", "fixmatch", p, "method.bn_groups=joint", *sets)

    def ceiling(self) -> None:
        """Add the convolutions."""
        for name, (work, gflop) in convolutions(self.device, self.precisions).items():
            self.gflop[name] = gflop
            self.variants[name] = partial(self.clock.timed, work)


def main() -> None:
    """Build all variants, time them in turn, print tables."""
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    device = device_of("auto")
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as both programs set it
    precisions = ["fp32", "bf16"] if precision_of("auto", device) == "bf16" else ["fp32"]
    if len(precisions) == 1:
        tell("this machine has no instructions for bf16: its rows are omitted")
    tell("making images and runs")
    bench = Bench(device, precisions, args.quick)
    bench.mixmatch()
    bench.marginmix()
    bench.fixmatch()
    bench.ceiling()
    bench.clock.backward()
    report(bench, rounds(bench.variants, args.rounds or (QUICK if args.quick else ROUNDS)))


def report(bench: Bench, times: Times) -> None:
    """Print the tables, then the JSON line."""
    gflop, gpu = bench.gflop, bench.device.type == "cuda"
    count = len(times[MIXMATCH])
    print(f"{machine(bench.device.type)}; {count} rounds")
    unit = "ms" if gpu else "CPU ms"
    rows = []
    for name, seconds in times.items():
        if name in gflop:
            continue
        theirs = FIXMATCH if "Fix" in name else MIXMATCH
        gain = None if name.startswith("MarginMix") else ratio(times, theirs, name)  # there is no published program
        rest = "" if gpu else f"{1000 * median(bench.clock.outside[name][-count:]):.1f}"
        rows.append((
            name, f"{1000 * median(seconds):.0f}", spread(seconds), rest, "" if gain is None else f"{gain:.2f}"
        ))  # fmt: skip
    columns = ("step", unit, "+- %", "outside forward and backward", "times its published program")
    table("One training step, medians", columns, rows)
    speeds = [(k, f"{gflop[k] / median(times[k]):.0f}", spread(times[k])) for k in gflop]
    table("Convolutions, channels last, medians", ("convolution", f"GFLOP per {unit[:-2]}s", "+- %"), speeds)
    floors: dict[str, float | None] = {"fp32": None, "bf16": None}
    for p in floors:
        if f"MixMatch {p}" in times:
            best = ceiling(times, gflop, p)
            floors[p] = median(t * v / bench.step_gflop for t, v in zip(times[f"MixMatch {p}"], best, strict=True))
            print(f"\n{p}: {bench.step_gflop:.1f} GFLOP a MixMatch step at {median(best):.0f} GFLOP a second", end="")
            print(f" = {1000 * bench.step_gflop / median(best):.0f} ms at least; ours takes {floors[p]:.2f} times that")
    finish({
        "mixmatch_fp32": ratio(times, MIXMATCH, "MixMatch fp32"),
        "mixmatch_bf16": ratio(times, MIXMATCH, "MixMatch bf16"),
        "fixmatch_fp32": ratio(times, FIXMATCH, "FixMatch fp32"),
        "fixmatch_bf16": ratio(times, FIXMATCH, "FixMatch bf16"),
        "floor_fp32": floors["fp32"],
        "floor_bf16": floors["bf16"],
        "marginmix_fp32": ratio(times, "MarginMix fp32", "MixMatch fp32"),
    })  # fmt: skip


if __name__ == "__main__":
    main()
