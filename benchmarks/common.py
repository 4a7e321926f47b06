"""What the benchmarks share: interleaved rounds, ratios within a round, the machine in words, a table, one JSON line.

Variants are timed round by round in one process (A B C A B C ...), so that a busy machine slows them alike; a ratio is
taken within each round, and what is told is the median. On a CPU the clock is the process's own CPU time with one torch
thread: on a shared machine wall time measures the neighbours.
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
    """The command line that all benchmarks have; `more` are options of one of them, as add_argument takes them."""
    parser = argparse.ArgumentParser(description=text.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it works, not to quote")
    parser.add_argument("--rounds", type=int, help="rounds instead of the usual number")
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    return parser.parse_args()


def rounds(variants: Mapping[str, Callable[[], float]], count: int, warm: int = 1) -> Times:
    """Run every variant once a round; each gives its own seconds. The first `warm` rounds are not kept."""
    times: Times = {name: [] for name in variants}
    for n in range(warm + count):
        tell(f"round {n + 1} of {warm + count}" + (" (warm-up)" if n < warm else ""))
        for name, run in variants.items():
            seconds = run()
            if n >= warm:
                times[name].append(seconds)
    return times


def ratio(times: Times, above: str, below: str) -> float | None:
    """Median over the rounds of one variant's time in units of another's; None where one of them did not run."""
    if above not in times or below not in times:
        return None
    return median(a / b for a, b in zip(times[above], times[below], strict=True))


def spread(values: Sequence[float]) -> str:
    """Half the interquartile range, in percent of the median."""
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
    """Seconds between two events around one call on the device, gaps of a late host included."""
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def machine(device: str = "cpu") -> str:
    """Processor, versions and load, for the line above every table."""
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
    """A line for whoever waits; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table in Markdown's form, columns aligned: it goes into docs/performance.md as it is."""
    cells = [[*map(str, row)] for row in (columns, *rows)]
    width = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}\n")
    for n, row in enumerate(cells):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in width) + "|")


def finish(values: Mapping[str, float | None]) -> None:
    """The last line of standard output: the figures as one JSON object, null for what this machine cannot show."""
    print()
    print(json.dumps({k: None if v is None or math.isnan(v) else round(v, 4) for k, v in values.items()}))
