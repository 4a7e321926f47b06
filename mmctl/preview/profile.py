"""`mmctl run --profile N`: the time of each part of a training step, FLOP/s against this machine's peak, and a trace.

The parts are timed by replacing the methods that the training loop calls, so that ordinary runs have no overhead.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function
from torch.utils.flop_counter import FlopCounterMode

from mmctl.errors import EnvironmentFault
from mmctl.recipe.recipe import Recipe
from mmctl.report import console
from mmctl.report.console import Column
from mmctl.runs.build import build_training, read_data
from mmctl.runs.hardware import use_hardware
from mmctl.text import hardware_line
from mmctl.training.loop import device_step
from mmctl.training.state import Training

WARM = 3
TRACED = 3
"""Steps in the trace file: a trace of more steps is too large for a browser."""
PARTS = (
    "plan on the host", "data", "forward, no gradient", "forward, gradient", "backward", "optimizer",
    "EMA update", "training metrics", "centroids", "rest: pseudo-labels, losses",
)  # fmt: skip
CONV = (12, 512, 16)
"""Images, channels and image size of the convolution that measures peak FLOP/s, as in benchmarks/step.py."""


class PartTimer:
    """Adds up the seconds of each part, without the time of the parts inside it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def now(self) -> float:
        """Seconds: wall clock on a GPU; on a CPU the time of this process, which other processes do not change."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside this context as time of part `name`."""
        start = self.now()
        if self._open:
            outer, since = self._open[-1]
            self.seconds[outer] += start - since
        self._open.append((name, start))
        try:
            with record_function(f"mmctl: {name}"):
                yield
        finally:
            _, since = self._open.pop()
            end = self.now()
            self.seconds[name] += end - since
            if self._open:
                self._open[-1] = (self._open[-1][0], end)


@contextmanager
def time_parts(run: Training, timer: PartTimer) -> Iterator[None]:
    """Replace the methods that a training step calls by timed ones, and put them back at the end."""
    undo: list[Callable[[], None]] = []

    def replace(owner: Any, name: str, part: str | Callable[[], str]) -> None:
        real = getattr(owner, name)
        own = name in vars(owner)

        def timed(*args: Any, **keys: Any) -> Any:
            with timer.part(part if isinstance(part, str) else part()):
                return real(*args, **keys)

        # nn.Module.__setattr__ refuses to replace an attribute that is a module or parameter.
        object.__setattr__(owner, name, timed) if isinstance(owner, nn.Module) else setattr(owner, name, timed)
        undo.append(lambda: setattr(owner, name, real) if own else delattr(owner, name))

    def forward() -> str:
        return "forward, gradient" if torch.is_grad_enabled() else "forward, no gradient"

    replace(run, "plan", "plan on the host")
    replace(run, "transfer", "plan on the host")
    replace(run.loader, "batch", "data")
    for net in run.nets.values():
        replace(net, "forward", forward)
    replace(torch.autograd, "backward", "backward")
    replace(torch.autograd, "grad", "backward")
    replace(run.optimizer, "step", "optimizer")
    if run.ema is not None:
        replace(run.ema, "update_average", "EMA update")
    replace(run.metrics, "add", "training metrics")
    replace(run, "refit", "centroids")
    try:
        yield
    finally:
        for restore in reversed(undo):
            restore()


def profile_steps(recipe: Recipe, steps: int, folder: Path) -> Path:
    """Print the time of each part over `steps` steps, write a trace into `folder` and return its path."""
    hardware = use_hardware(recipe.settings.train)
    device = hardware.device
    run = build_training(recipe, read_data(recipe), device, hardware.dtype)
    timer = PartTimer(device)
    run_steps(run, WARM)
    with time_parts(run, timer):
        start = timer.now()
        run_steps(run, steps, timer)
        step_seconds = (timer.now() - start) / steps
    with FlopCounterMode(display=False) as counter:
        run_steps(run, 1)
    flops = counter.get_total_flops()
    kind = "GPU ms" if device.type == "cuda" else "CPU ms"
    rows = [(name, timer.seconds[name] / steps) for name in PARTS if name in timer.seconds]
    out = console.console()
    console.print_line(out, f"{recipe.name}: {steps} steps on {hardware_line(hardware.facts())}")
    console.print_table(
        [
            Column("part", cells=[name for name, _ in rows] + ["total per step"]),
            Column(kind, right=True, cells=[f"{1e3 * s:.2f}" for _, s in rows] + [f"{1e3 * step_seconds:.2f}"]),
            Column("share %", right=True, cells=[f"{100 * s / step_seconds:.1f}" for _, s in rows] + ["100.0"]),
        ],
        out,
    )
    peak = peak_conv_flops(device, hardware.dtype)
    network_seconds = sum(s for name, s in rows if name.startswith(("forward", "backward")))
    console.print_line(
        out,
        f"{flops / 1e9:.2f} GFLOP per step: {flops / max(network_seconds, 1e-12) / 1e9:.1f} GFLOP/s in forward and "
        f"backward passes, {flops / step_seconds / 1e9:.1f} GFLOP/s over the whole step; a single 3x3 convolution "
        f"reaches {peak / 1e9:.1f} GFLOP/s on this machine (the step takes {step_seconds * peak / max(flops, 1):.2f} "
        "times as long as at that speed)",
    )
    if device.type == "cuda" and (run.settings.train.capture == "auto"):
        console.print_line(
            out,
            "measured without CUDA graphs and with a synchronisation after each part; a run with CUDA graphs is faster",
        )
    path = write_trace(run, timer, folder / f"profile-{recipe.name}.json")
    console.print_line(out, f"trace of {TRACED} steps: {path}  (open it in chrome://tracing or ui.perfetto.dev)")
    return path


def run_steps(run: Training, steps: int, timer: PartTimer | None = None) -> None:
    """Train for `steps` steps; after the recipe's last step the plan of its first one is used again."""
    for _ in range(steps):
        with timer.part(PARTS[-1]) if timer else nullcontext():
            run.refit()
            device_step(run, run.staged(run.step % run.steps))
            run.step += 1


def write_trace(run: Training, timer: PartTimer, path: Path) -> Path:
    """Write a Chrome trace of some steps, with the parts above the operations; EnvironmentFault if it cannot."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no log lines of the profiler itself
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if run.device.type == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as profiler, time_parts(run, timer):
        run_steps(run, TRACED, timer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError if it cannot write
        raise EnvironmentFault(f"{path}: cannot write the trace ({error}).") from error
    return path


def peak_conv_flops(device: torch.device, precision: torch.dtype | None, seconds: float = 0.5) -> float:
    """Measured FLOP/s of the forward pass of one wide 3x3 convolution: the peak in docs/performance.md."""
    n, channels, side = CONV
    kind: Any = {"device": device, "dtype": precision or torch.float32}
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, **kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(n, channels, side, side, **kind).to(memory_format=torch.channels_last)
    flops = 2 * n * channels**2 * 9 * side**2
    timer, best = PartTimer(device), 0.0
    began = time.perf_counter()
    with torch.no_grad():
        conv(x)  # the first call selects the kernel
        while not best or time.perf_counter() - began < seconds:
            start = timer.now()
            conv(x)
            best = max(best, flops / max(timer.now() - start, 1e-9))
    return best
