"""Closed forms of the step: learning rate, loss weights, and the share that an average takes."""

from __future__ import annotations

import math


def steps_of(amount: int | float, total: int) -> int:
    """A length as the recipe gives it: an integer is steps, a fraction is of the run."""
    return amount if isinstance(amount, int) else round(amount * total)


def length_of(amount: int | float | None, total: int) -> int:
    """The same where a length of 0 makes no sense: at least one step, also where none is given."""
    return max(1, steps_of(amount or 1, total))


def learning_rate(
    step: int,
    total: int,
    peak: float,
    name: str,
    warmup: int | float,
    final: float,
    cycles: tuple[int | float | None, ...] = (),
) -> float:
    """The learning rate of step `step` (from 0): linear warm-up, then the named form.

    cycles: horizon, start and cycle of "cyclic".
    """
    warm = steps_of(warmup, total)
    if step < warm:
        return peak * (step + 1) / warm
    t = (step - warm) / max(1, total - warm)
    if name == "cosine":
        return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * t))
    if name == "seven_sixteenths":  # FixMatch's
        return peak * math.cos(7 * math.pi * t / 16)
    if name == "cyclic":
        return cyclic(step, peak, *(length_of(length, total) for length in cycles))
    return peak


def cyclic(step: int, peak: float, horizon: int, start: int, cycle: int) -> float:
    """Fast-SWA's: a cosine towards 0 at `horizon`, whose last `cycle` steps before `start` repeat from there on.

    Counted from the run's first step, warm-up or not, so that an average can be told by step where cycles end.
    """
    at = step if step < start else start - cycle + (step - start) % cycle
    return peak * 0.5 * (1 + math.cos(math.pi * at / horizon))


def ramp(step: int, total: int, weight: float, rampup: int | float, form: str) -> float:
    """The weight of a loss term at step `step` (from 0): grows from 0 over `rampup`, then stays."""
    length = steps_of(rampup, total)
    if step >= length:
        return weight
    t = step / length
    return weight * (t if form == "linear" else math.exp(-5 * (1 - t) ** 2))


def average_share(step: int, kind: str, decay: float, warmup: bool, start: int = 0, every: int = 1) -> float:
    """The share of the live weights that the average takes after step `step` (from 0).

    With warm-up the decay is min(decay, (1 + t) / (10 + t)): a long horizon does not average in the random start.
    swa: after `start` steps and every `every` from there the n-th network joins with 1/n, so that all weigh the same;
    before that the average is the live network.
    """
    if kind == "none":
        return 1.0
    if kind == "swa":
        n, between = divmod(step + 1 - start, every)
        return 1.0 if n < 0 else 0.0 if between else 1.0 / (n + 1)
    return 1.0 - (min(decay, (1 + step) / (10 + step)) if warmup else decay)
