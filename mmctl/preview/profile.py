"""`mmctl run --profile N`: where the time of N steps goes, how near the convolutions are to the machine, and a trace.

Nothing in the training code knows of it: the parts of a step are timed by standing in for the calls between them, so
that a step that is not profiled pays nothing.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from mmctl.training.loop import device_step
from mmctl.training.state import Training

WARM = 3
TRACED = 3
"""Steps in the trace: enough to see what repeats, and a file that a browser opens."""
ORDER = (
    "plan on the host", "data", "forward, no gradient", "forward, gradient", "backward", "optimizer",
    "average (EMA)",    "training metrics", "centroids", "rest: labels, mixing, losses",
)  # fmt: skip
CONV = (12, 512, 16)
"""Images, channels and side of the convolution whose speed is the ceiling, as in benchmarks/step.py."""


class Clock:
    """Seconds of each part, without those of the parts inside it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def now(self) -> float:
        """On a CPU the seconds of all threads of this process, which other work does not lengthen."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time spent here is `name`'s."""
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
def timed_parts(run: Training, clock: Clock) -> Iterator[None]:
    """Stand in for the calls between the parts of a step."""
    undo: list[Callable[[], None]] = []

    def stand_in(owner: Any, name: str, part: str | Callable[[], str]) -> None:
        real = getattr(owner, name)
        own = name in vars(owner)

        def timed(*args: Any, **keys: Any) -> Any:
            with clock.part(part if isinstance(part, str) else part()):
                return real(*args, **keys)

        # A module refuses attributes that hide its own only where they are modules or parameters.
        object.__setattr__(owner, name, timed) if isinstance(owner, nn.Module) else setattr(owner, name, timed)
        undo.append(lambda: setattr(owner, name, real) if own else delattr(owner, name))

    def forward() -> str:
        return "forward, gradient" if torch.is_grad_enabled() else "forward, no gradient"

    stand_in(run, "plan", "plan on the host")
    stand_in(run, "transfer", "plan on the host")
    stand_in(run.loader, "batch", "data")
    for net in run.nets.values():
        stand_in(net, "forward", forward)
    stand_in(torch.autograd, "backward", "backward")
    stand_in(torch.autograd, "grad", "backward")
    stand_in(run.optimizer, "step", "optimizer")
    if run.ema is not None:
        stand_in(run.ema, "follow", "average (EMA)")
    stand_in(run.metrics, "add", "training metrics")
    stand_in(run, "refit", "centroids")
    try:
        yield
    finally:
        for back in reversed(undo):
            back()


def profile_steps(recipe: Recipe, steps: int, folder: Path) -> Path:
    """Print where the time of so many steps goes; gives the trace file, written into `folder`."""
    hardware = use_hardware(recipe.settings.train)
    device, threads = hardware.device, hardware.threads
    run = build_training(recipe, read_data(recipe), device, hardware.dtype)
    clock = Clock(device)
    take(run, WARM)
    with timed_parts(run, clock):
        start = clock.now()
        take(run, steps, clock)
        total = clock.now() - start
    with FlopCounterMode(display=False) as counter:
        take(run, 1)
    flops = counter.get_total_flops()
    kind = "GPU ms" if device.type == "cuda" else "CPU ms"
    rows = [(name, clock.seconds[name] / steps) for name in ORDER if name in clock.seconds]
    out = console.console()
    each = total / steps
    lines = f"{threads} thread{'s' * (threads > 1)}"
    console.print_line(out, f"{recipe.name}: {steps} steps on {hardware.device_name}, {hardware.precision}, {lines}")
    console.print_table(
        [
            Column("part", cells=[name for name, _ in rows] + ["a step"]),
            Column(kind, right=True, cells=[f"{1e3 * s:.2f}" for _, s in rows] + [f"{1e3 * each:.2f}"]),
            Column("share", right=True, cells=[f"{s / each:.1%}" for _, s in rows] + ["100.0%"]),
        ],
        out,
    )
    top = ceiling(device, hardware.dtype)
    inside = sum(s for name, s in rows if name.startswith(("forward", "backward")))
    console.print_line(
        out,
        f"{flops / 1e9:.2f} GFLOP a step: {flops / max(inside, 1e-12) / 1e9:.1f} GFLOP/s in forwards and backward, "
        f"{flops / each / 1e9:.1f} over all; a 3x3 convolution alone reaches {top / 1e9:.1f} here "
        f"(step / floor {each * top / max(flops, 1):.2f})",
    )
    if device.type == "cuda" and (run.settings.train.capture == "auto"):
        console.print_line(
            out, "taken one operation at a time, with a wait after each part; a captured graph is faster"
        )
    path = trace(run, clock, folder / f"profile-{recipe.name}.json")
    console.print_line(out, f"trace of {TRACED} steps: {path}  (open it in chrome://tracing or ui.perfetto.dev)")
    return path


def take(run: Training, steps: int, clock: Clock | None = None) -> None:
    """So many steps of training; more than the recipe has begin again with the numbers of its first."""
    for _ in range(steps):
        run.refit()
        step = run.step % run.steps
        if clock is None:
            device_step(run, run.staged(step))
        else:
            staged = run.transfer(run.plan(step))
            with clock.part(ORDER[-1]):
                device_step(run, staged)
        run.step += 1


def trace(run: Training, clock: Clock, path: Path) -> Path:
    """A file for a browser's trace viewer, with the parts above the operations."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its words are of itself
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if run.device.type == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as profiler, timed_parts(run, clock):
        take(run, TRACED, clock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:  # RuntimeError is how torch says that it cannot write
        raise EnvironmentFault(f"{path}: cannot write the trace ({error}).") from error
    return path


def ceiling(device: torch.device, precision: torch.dtype | None, seconds: float = 0.5) -> float:
    """FLOP/s of one wide 3x3 convolution, forward: the ceiling of docs/performance.md, measured here and now."""
    n, channels, side = CONV
    kind: Any = {"device": device, "dtype": precision or torch.float32}
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, **kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(n, channels, side, side, **kind).to(memory_format=torch.channels_last)
    flops = 2 * n * channels**2 * 9 * side**2
    clock, best = Clock(device), 0.0
    began = time.perf_counter()
    with torch.no_grad():
        conv(x)  # the first one chooses its kernel
        while not best or time.perf_counter() - began < seconds:
            start = clock.now()
            conv(x)
            best = max(best, flops / max(clock.now() - start, 1e-9))
    return best
