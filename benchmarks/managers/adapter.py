"""What manager.py asks of every tool: one function for each word, called in a process of the tool's own interpreter.

A store is an empty folder. Every tool gets the same runs: PARAMS parameters, SERIES curves of POINTS points each, five
seeds of each configuration. Each function returns what is printed as JSON; what is slow at start is imported inside.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

PARAMS, SERIES, POINTS, SEEDS = 10, 20, 3, 5
NAMES = ["test/accuracy", *(f"train/m{n}" for n in range(SERIES - 1))]


def params(run: int) -> dict[str, Any]:
    """The parameters of a run; runs of one configuration differ in the seed alone."""
    config = run // SEEDS
    made: dict[str, Any] = {"seed": run % SEEDS, "lr": 0.001 * (config % 40 + 1), "labels": 40 + config // 40}
    return made | {f"p{n}": n for n in range(PARAMS - len(made))}


def value(run: int, point: int) -> float:
    """The accuracy of a run at a point; the other curves have it too."""
    return 0.5 + 0.1 * point + (run * 7919 % 97) / 400


def timed_calls(call: Callable[[int], object], number: int, finish: Callable[[], object]) -> dict[str, float]:
    """The times of `number` calls one by one, and until all is safe: `finish` returns then.

    CPU time and memory are those of this process alone: what W&B does in its process wandb-core is not in them.
    """
    taken, begun, cpu = [], time.perf_counter(), time.process_time()
    for n in range(number):
        at = time.perf_counter()
        call(n)
        taken.append(time.perf_counter() - at)
    finish()
    taken.sort()
    return {
        "p50_us": 1e6 * taken[len(taken) // 2], "p99_us": 1e6 * taken[len(taken) * 99 // 100],
        "seconds": time.perf_counter() - begun, "caller cpu": time.process_time() - cpu,
        "caller mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def endless(call: Callable[[int], object]) -> None:
    """Log until somebody kills the process; the number of calls that have returned is printed every 50."""
    for n in count():
        call(n)
        if n % 50 == 49:
            print(n + 1, flush=True)
        time.sleep(0.001)


def groups(rows: Iterator[tuple[dict[str, Any], float]]) -> int:
    """The number of configurations of which mean and standard deviation were computed, for tools without seeds."""
    from statistics import mean, stdev

    found: dict[str, list[float]] = {}
    for config, accuracy in rows:
        key = json.dumps({k: str(v) for k, v in config.items() if k != "seed"}, sort_keys=True)
        found.setdefault(key, []).append(accuracy)
    return len([(mean(one), stdev(one)) for one in found.values() if len(one) > 1])


def main(tool: ModuleType) -> None:
    """`python TOOL.py WORD STORE [NUMBER ...]`."""
    word, store, *numbers = sys.argv[1:]
    found = getattr(tool, word)(Path(store), *map(int, numbers))
    if found is not None:
        print(json.dumps(found))
