"""Rules that join two tables of a recipe; a problem names both values and where each was written."""

from __future__ import annotations

import inspect

from mmctl.recipe.problems import Problems
from mmctl.recipe.resolved import Part, Resolved, missing_policies
from mmctl.recipe.settings import Average, Centroids, Eval, Optimizer, Schedule, Split, Train


def check_rules(made: Resolved, problems: Problems) -> None:
    """Note every pair of values that cannot go together; tables that are wrong in themselves are passed over."""
    method, by_table = made.parts.get(("method", None)), made.tables

    def ref(table: str, key: str) -> str:
        return problems.quote((table, key), getattr(by_table[table], key))

    split, optimizer, schedule = by_table.get("split"), by_table.get("optimizer"), by_table.get("schedule")
    average, train, eval_, centroids = (by_table.get(name) for name in ("average", "train", "eval", "centroids"))
    if isinstance(split, Split):
        if split.rule == "file" and split.file is None:
            problems.add(("split", "file"), f"is required with {ref('split', 'rule')}")
        if split.rule != "file" and split.file is not None:
            problems.add(("split", "file"), f'is read with rule = "file" only; {ref("split", "rule")}')
    if isinstance(optimizer, Optimizer) and optimizer.name == "sgd" and optimizer.nesterov and not optimizer.momentum:
        problems.add(("optimizer", "momentum"), f"must be above 0 with {ref('optimizer', 'nesterov')}")
    if isinstance(schedule, Schedule) and isinstance(train, Train):
        if isinstance(schedule.warmup, int) and schedule.warmup > train.steps:
            problems.add(("schedule", "warmup"), f"{schedule.warmup} steps are more than {ref('train', 'steps')}")
        if isinstance(optimizer, Optimizer) and schedule.name == "cosine" and schedule.final > optimizer.lr:
            problems.add(("schedule", "final"), f"{schedule.final} is above {ref('optimizer', 'lr')}")
        if schedule.name == "cyclic" and has_all(made, problems, "schedule", ("horizon", "start", "cycle")):
            horizon, start, cycle = (_length(n, train) for n in (schedule.horizon, schedule.start, schedule.cycle))
            if start > horizon:
                problems.add(("schedule", "start"), f"lies beyond the cosine's end; {ref('schedule', 'horizon')}")
            if cycle > start:
                problems.add(("schedule", "cycle"), f"is longer than what it repeats; {ref('schedule', 'start')}")
    if (
        isinstance(average, Average)
        and average.kind == "swa"
        and has_all(made, problems, "average", ("start", "every"))
    ):
        if isinstance(train, Train) and _length(average.start, train) > train.steps:
            problems.add(("average", "start"), f"comes after the run's end; {ref('train', 'steps')}")
        if method and "ema" in method.shape.supplied and not _optional(method, "ema"):
            text = f"method {method.entry.name} is taught by an average that follows each step"
            problems.add(("average", "kind"), f"{text}; {ref('average', 'kind')}")
    if isinstance(eval_, Eval):
        first, *weights = eval_.primary.split("/")
        if first not in eval_.splits:
            problems.add(("eval", "primary"), f'"{first}" is not evaluated; {ref("eval", "splits")}')
        if isinstance(average, Average) and average.kind == "none" and "ema" in weights[:-1]:
            problems.add(("eval", "primary"), f"there are no averaged weights; {ref('average', 'kind')}")
    if isinstance(centroids, Centroids) and centroids.estimator == "learned" and not centroids.normalize_centroids:
        problems.add(("centroids", "normalize_centroids"), f"must be true with {ref('centroids', 'estimator')}")
    if isinstance(average, Average) and average.kind == "none":
        none = ref("average", "kind")
        if isinstance(centroids, Centroids) and centroids.network == "ema":
            problems.add(("centroids", "network"), f'"ema" needs an average; {none}')
        if method and "ema" in method.shape.supplied and not _optional(method, "ema"):
            problems.add(("average", "kind"), f"method {method.entry.name} needs an average; {none}")
    if method:
        check_views(made, problems, method)


def has_all(made: Resolved, problems: Problems, table: str, keys: tuple[str, ...]) -> bool:
    """Whether all keys are there that the kind chosen in a table cannot do without; each that is not is noted."""
    choice = "name" if table == "schedule" else "kind"
    chosen = problems.quote((table, choice), getattr(made.tables[table], choice))
    lacking = [key for key in keys if getattr(made.tables[table], key) is None]
    for key in lacking:
        problems.add((table, key), f"is required with {chosen}")
    return not lacking


def _length(amount: int | float | None, train: Train) -> float:
    return amount * train.steps if isinstance(amount, float) else amount or 1


def _optional(part: Part, name: str) -> bool:
    """Whether a component asks for something and can do without."""
    return inspect.signature(part.component).parameters[name].default is not inspect.Parameter.empty


def check_views(made: Resolved, problems: Problems, method: Part) -> None:
    """The policies that the method shows its pictures through exist."""
    for name in missing_policies(getattr(method.component, "views", {}), made.after):
        text = f"method {method.entry.name} shows pictures through it; add [augment.{name}] with a name"
        problems.add(("augment", name), text, ("method", "name"))
