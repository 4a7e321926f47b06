"""Amounts of compute, in steps, images or seconds: the axis of plots, and `compare --x`, which compares at equal ones.

A method that takes twice as long for a step, or sees seven times as many images, is compared at equal cost this way.
Images: the labelled and unlabelled ones that are drawn in a step, whatever the number of views of each. Seconds: wall
clock of training, with evaluations and checkpoints, without steps that a later attempt trained again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mmctl.errors import UserError, suggest
from mmctl.report.comparison import Compute
from mmctl.run_folder.upgrade import Config
from mmctl.store.rows import RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store

X = ("steps", "images", "seconds")
ROUNDING = 1e-9
Clock: TypeAlias = list[tuple[float, float]]
"""(step, amount of compute up to it), both growing; straight lines between."""


def check_x(x: str | None, at: float | None) -> None:
    """UserError if --x or --at is wrong."""
    if x is not None and x not in X:
        raise UserError(f'--x "{x}": no such amount.{suggest(x, X)} Known: {", ".join(X)}')
    if at is not None and x is None:
        raise UserError("--at: is an amount of --x steps, --x images or --x seconds; give one of these too.")
    if at is not None and not 0 < at < math.inf:
        raise UserError(f"--at {at:g}: is not an amount greater than 0, such as 1000 or 2.5.")


def equal_compute(
    store: Store, runs: Sequence[RunRow], configs: Mapping[int, Config], x: str, at: float | None
) -> tuple[Compute, dict[int, int], list[str]]:
    """The amount, the last step of each run that is within it, by run id, and notes about runs that it leaves out.

    at: the amount; by default the least that one of these runs took in all.
    """
    clocks = {run["id"]: clock for run in runs if (clock := clock_of(store, run, configs[run["id"]], x))}
    totals = {id: clock[-1][1] for id, clock in clocks.items()}
    amount = at if at is not None else min(totals.values(), default=0.0)
    limits: dict[int, int] = {}
    notes: list[str] = []
    for run in runs:
        id = run["id"]
        if id not in clocks:
            notes.append(f"not counted: {run['uid']} does not say how many {x} its steps took")
        elif totals[id] < amount * (1 - ROUNDING):
            notes.append(f"not counted: {run['uid']} ended after {totals[id]:.6g} {x}")
        else:
            limits[id] = _step_at(clocks[id], amount)
    for id in store.parents(runs) if x == "seconds" else ():
        uid = next(run["uid"] for run in runs if run["id"] == id)
        notes.append(f"{uid} extends another run, whose seconds are not among its own")
    if x == "seconds" and len(devices := sorted({run["device"] or "unknown" for run in runs})) > 1:
        notes.append(f"seconds of different devices are compared: {', '.join(devices)}")
    return {"x": x, "amount": amount, "given": at is not None}, limits, notes


def clock_of(store: Store, run: RunRow, config: Config, x: str) -> Clock:
    """How much compute a run had taken by each step; empty if that is not known. x: one of X."""
    if x == "seconds":
        return _seconds(store, run)
    each: float = 1
    if x == "images":
        batch, unlabeled = (setting(config, f"train.{key}") for key in ("batch", "unlabeled_batch"))
        if not isinstance(batch, int):
            return []
        plain = run["method"].split(":")[-1] == "supervised"  # draws no unlabelled images
        each = batch + (unlabeled if isinstance(unlabeled, int) and not plain else 0)
    step = max(run["step"], 1)
    return [(0, 0), (step, each * step)]


def _seconds(store: Store, run: RunRow) -> Clock:
    paces: dict[int, Clock] = {}
    for attempt, step, seconds in store.pace(run):
        paces.setdefault(attempt, []).append((step, seconds))
    clock: Clock = [(0, 0)]
    for one in store.attempts(run):
        start = one["from_step"]
        # The first attempt of a run that extends another starts after step 0, with an amount of 0.
        taken = amount_at(clock, start) if len(clock) > 1 else 0.0
        clock = [*clock[: bisect_left(clock, (start,))], (start, taken)]
        clock += [(step, clock[-1][1] + seconds) for step, seconds in paces.get(one["n"], []) if step > start]
    return clock if len(clock) > 1 else []


def amount_at(clock: Clock, step: float) -> float:
    """The amount at a step: on the straight line between its neighbours, after the last one at its speed.

    NaN where nothing is known.
    """
    if len(clock) < 2:
        return clock[0][1] if clock and step <= clock[0][0] else math.nan
    at = min(max(bisect_left(clock, (step,)), 1), len(clock) - 1)
    (s0, a0), (s1, a1) = clock[at - 1], clock[at]
    return a1 if s1 == s0 else a0 + (a1 - a0) * (step - s0) / (s1 - s0)


def _step_at(clock: Clock, amount: float) -> int:
    """The last step that an amount is enough for."""
    amount *= 1 + ROUNDING
    before = [point for point in clock if point[1] <= amount]
    (s0, a0), after = before[-1], clock[len(before) :]
    if not after:
        return int(s0)
    s1, a1 = after[0]
    return int(s0 + (s1 - s0) * (amount - a0) / (a1 - a0))
