"""Rules that join two tables of a recipe; a fault names both values and where each was written."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mmctl.settings import Average, Centroids, Eval, Optimizer, Schedule, Split, Train

if TYPE_CHECKING:
    from mmctl.resolve import Part, Resolver


def cross(work: Resolver, method: Part | None) -> None:
    """Note every pair of values that cannot go together; tables that are wrong in themselves are passed over."""
    by_table = work.made.settings
    split, optimizer, schedule = by_table.get("split"), by_table.get("optimizer"), by_table.get("schedule")
    average, train, eval_, centroids = (by_table.get(name) for name in ("average", "train", "eval", "centroids"))
    if isinstance(split, Split):
        if split.rule == "file" and split.file is None:
            work.say(("split", "file"), f"is required with {work.ref('split', 'rule')}")
        if split.rule != "file" and split.file is not None:
            work.say(("split", "file"), f'is read with rule = "file" only; {work.ref("split", "rule")}')
    if isinstance(optimizer, Optimizer) and optimizer.name == "sgd" and optimizer.nesterov and not optimizer.momentum:
        work.say(("optimizer", "momentum"), f"must be above 0 with {work.ref('optimizer', 'nesterov')}")
    if isinstance(schedule, Schedule) and isinstance(train, Train):
        if isinstance(schedule.warmup, int) and schedule.warmup > train.steps:
            work.say(("schedule", "warmup"), f"{schedule.warmup} steps are more than {work.ref('train', 'steps')}")
        if isinstance(optimizer, Optimizer) and schedule.name == "cosine" and schedule.final > optimizer.lr:
            work.say(("schedule", "final"), f"{schedule.final} is above {work.ref('optimizer', 'lr')}")
        if schedule.name == "cyclic" and needs(work, "schedule", ("horizon", "start", "cycle")):
            horizon, start, cycle = (_length(n, train) for n in (schedule.horizon, schedule.start, schedule.cycle))
            if start > horizon:
                work.say(("schedule", "start"), f"lies beyond the cosine's end; {work.ref('schedule', 'horizon')}")
            if cycle > start:
                work.say(("schedule", "cycle"), f"is longer than what it repeats; {work.ref('schedule', 'start')}")
    if isinstance(average, Average) and average.kind == "swa" and needs(work, "average", ("start", "every")):
        if isinstance(train, Train) and _length(average.start, train) > train.steps:
            work.say(("average", "start"), f"comes after the run's end; {work.ref('train', 'steps')}")
        if method and "ema" in method.shape.supplied and not _optional(method, "ema"):
            text = f"method {method.entry.name} is taught by an average that follows each step"
            work.say(("average", "kind"), f"{text}; {work.ref('average', 'kind')}")
    if isinstance(eval_, Eval):
        first, *weights = eval_.primary.split("/")
        if first not in eval_.splits:
            work.say(("eval", "primary"), f'"{first}" is not evaluated; {work.ref("eval", "splits")}')
        if isinstance(average, Average) and average.kind == "none" and "ema" in weights[:-1]:
            work.say(("eval", "primary"), f"there are no averaged weights; {work.ref('average', 'kind')}")
    if isinstance(centroids, Centroids) and centroids.estimator == "learned" and centroids.norm == "raw":
        work.say(("centroids", "norm"), f'must be "unit" with {work.ref("centroids", "estimator")}')
    if isinstance(average, Average) and average.kind == "none":
        none = work.ref("average", "kind")
        if isinstance(centroids, Centroids) and centroids.network == "ema":
            work.say(("centroids", "network"), f'"ema" needs an average; {none}')
        if method and "ema" in method.shape.supplied and not _optional(method, "ema"):
            work.say(("average", "kind"), f"method {method.entry.name} needs an average; {none}")
    if method:
        views(work, method)


def needs(work: Resolver, table: str, keys: tuple[str, ...]) -> bool:
    """Whether all keys are there that the kind chosen in a table cannot do without; each that is not is noted."""
    chosen = work.ref(table, "name" if table == "schedule" else "kind")
    lacking = [key for key in keys if getattr(work.made.settings[table], key) is None]
    for key in lacking:
        work.say((table, key), f"is required with {chosen}")
    return not lacking


def _length(amount: int | float | None, train: Train) -> float:
    return amount * train.steps if isinstance(amount, float) else amount or 1


def _optional(part: Part, name: str) -> bool:
    """Whether a component asks for something and can do without."""
    return inspect.signature(part.component).parameters[name].default is not inspect.Parameter.empty


def views(work: Resolver, method: Part) -> None:
    """The policies that the method shows its pictures through exist."""
    for name in missing(getattr(method.component, "views", {}), work.made.after):
        text = f"method {method.entry.name} shows pictures through it; add [augment.{name}] with a name"
        work.say(("augment", name), text, ("method", "name"))


def missing(views: Mapping[str, Iterable[str]], policies: Iterable[str]) -> list[str]:
    """The policies that views name and a recipe does not have."""
    named = dict.fromkeys(policy for policies_ in views.values() for policy in policies_)
    return [policy for policy in named if policy != "clean" and policy not in policies]


def policies(after: Mapping[str, str | None]) -> tuple[str, ...]:
    """The policies in the order in which they can be built."""
    order: list[str] = []
    for name in after:
        way = [name]
        while (parent := after[way[-1]]) is not None:
            way.append(parent)
        order += [policy for policy in reversed(way) if policy not in order]
    return tuple(order)
