"""Learning rate, loss weights and averaging share: each is a formula of the step number, so that nothing is saved."""

from __future__ import annotations

import math


def steps_of(amount: int | float, total: int) -> int:
    """A length of the recipe in steps: an integer is a number of steps, a float is a fraction of the run."""
    return amount if isinstance(amount, int) else round(amount * total)


def length_of(amount: int | float | None, total: int) -> int:
    """The same, but at least one step; None = one step."""
    return max(1, steps_of(amount or 1, total))


def exact_length(amount: int | float | None, total: int) -> float:
    """The same without rounding, for a length at which no step begins."""
    return amount * total if isinstance(amount, float) else length_of(amount, total)


def learning_rate(
    step: int,
    total: int,
    peak: float,
    name: str,
    warmup: int | float,
    final: float,
    cycles: tuple[int | float | None, ...] = (),
) -> float:
    """The learning rate of step `step` (from 0): linear warm-up, then the schedule `name`.

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
        horizon, start, cycle = cycles
        return cyclic(step, peak, exact_length(horizon, total), length_of(start, total), length_of(cycle, total))
    return peak


def cyclic(step: int, peak: float, horizon: float, start: int, cycle: int) -> float:
    """Fast-SWA's learning rate: a cosine that would reach 0 at `horizon`; from `start` on, its last part repeats.

    The part that repeats is the `cycle` steps before `start`. Steps are counted from the start of the run (warm-up
    included), so that the average knows where cycles end.
    """
    at = step if step < start else start - cycle + (step - start) % cycle
    return peak * 0.5 * (1 + math.cos(math.pi * at / horizon))


def ramp(step: int, total: int, weight: float, rampup: int | float, form: str) -> float:
    """The weight of a loss term at step `step` (from 0): it grows from 0 over `rampup`, then stays constant."""
    length = steps_of(rampup, total)
    if step >= length:
        return weight
    t = step / length
    return weight * (t if form == "linear" else math.exp(-5 * (1 - t) ** 2))


def average_share(step: int, kind: str, decay: float, warmup: bool, start: int = 0, every: int = 1) -> float:
    """The share of the live weights in the average after step `step` (from 0): average += share * (live - average).

    ema: 1 - decay. With warm-up the decay is min(decay, (1 + t) / (10 + t)), so that the random initial weights do
    not stay in the average. swa: the n-th network, taken after `start` steps and then every `every` steps, has the
    share 1/n, so that all have the same weight; before `start` the average is the live network.
    """
    if kind == "none":
        return 1.0
    if kind == "swa":
        n, between = divmod(step + 1 - start, every)
        return 1.0 if n < 0 else 0.0 if between else 1.0 / (n + 1)
    return 1.0 - (min(decay, (1 + step) / (10 + step)) if warmup else decay)
