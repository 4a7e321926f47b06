"""Helpers of the benchmarks: interleaved rounds, ratios within a round, a description of the machine, tables, JSON.

Variants are timed round by round in one process (A B C A B C ...), so that a busy machine slows all of them equally. A
ratio is taken within each round, and its median over rounds is reported. On a CPU the clock is the process's CPU time
with one torch thread: on a shared machine, wall time depends on other processes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # so that `python benchmarks/step.py` measures this checkout, installed or not

Times = dict[str, list[float]]
"""Variant -> seconds, one for each round."""


def arguments(text: str, **more: Any) -> argparse.Namespace:
    """Parse the options that all benchmarks have; `more` are options of one benchmark, as for add_argument."""
    parser = argparse.ArgumentParser(description=text.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: a test of the benchmark, not a result to quote"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds, instead of the default")
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    return parser.parse_args()


def rounds(variants: Mapping[str, Callable[[], float]], count: int, warm: int = 1) -> Times:
    """Run every variant once per round; each returns its seconds. The first `warm` rounds are not counted."""
    times: Times = {name: [] for name in variants}
    for n in range(warm + count):
        tell(f"round {n + 1} of {warm + count}" + (" (warm-up)" if n < warm else ""))
        for name, run in variants.items():
            seconds = run()
            if n >= warm:
                times[name].append(seconds)
    return times


def ratio(times: Times, above: str, below: str) -> float | None:
    """Median over rounds of time(above) / time(below); None if one of them did not run."""
    if above not in times or below not in times:
        return None
    return median(a / b for a, b in zip(times[above], times[below], strict=True))


def spread(values: Sequence[float]) -> str:
    """Half the interquartile range, as a percentage of the median."""
    if len(values) < 3:
        return ""
    low, _, high = quantiles(values, n=4)
    return f"{50 * (high - low) / median(values):.1f}"


def cpu_timed(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def gpu_timed(work: Callable[[], object]) -> float:
    """Seconds between two CUDA events around one call, including times when the GPU waits for the CPU."""
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def machine(device: str = "cpu") -> str:
    """Processor, versions and load: the line above every table."""
    name = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [f"{name}, {cores} cores", f"Python {platform.python_version()}"]
    torch = sys.modules.get("torch")
    if torch:
        words.append(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
        words.append(torch.backends.cpu.get_cpu_capability())
        if device == "cuda":
            words.append(torch.cuda.get_device_name())
    return f"{', '.join(words)}; load {os.getloadavg()[0]:.1f}; {date.today():%Y-%m-%d}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def tell(text: str) -> None:
    """Print progress to standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table with aligned columns, as in docs/performance.md."""
    cells = [[*map(str, row)] for row in (columns, *rows)]
    width = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}\n")
    for n, row in enumerate(cells):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in width) + "|")


def finish(values: Mapping[str, object]) -> None:
    """Print the last line: the figures as one JSON object; null = not measurable on this machine."""

    def plain(value: object) -> object:
        if not isinstance(value, float):
            return value
        return None if math.isnan(value) else round(value, 4)

    print()
    print(json.dumps({key: plain(value) for key, value in values.items()}))
