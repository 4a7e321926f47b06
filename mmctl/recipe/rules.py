"""Checks combinations of values from several tables; a problem names both values and their origins."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping

from mmctl.errors import suggest
from mmctl.recipe.problems import Problems
from mmctl.recipe.resolved import Part, Resolved
from mmctl.recipe.settings import Average, Centroids, Eval, Optimizer, Schedule, Split, Train
from mmctl.registry.messages import semicolon


def check_rules(resolved: Resolved, problems: Problems) -> None:
    """Add a problem for each combination of values that is not allowed; tables with problems are skipped."""
    method, by_table = resolved.parts.get(("method", None)), resolved.tables

    def ref(table: str, key: str) -> str:
        return problems.quote((table, key), getattr(by_table[table], key))

    split, optimizer, schedule = by_table.get("split"), by_table.get("optimizer"), by_table.get("schedule")
    average, train, eval_, centroids = (by_table.get(name) for name in ("average", "train", "eval", "centroids"))
    if isinstance(split, Split):
        if split.rule == "file" and split.file is None:
            problems.add(("split", "file"), f"is required with {ref('split', 'rule')}")
        if split.rule != "file" and split.file is not None:
            problems.add(("split", "file"), f'needs rule = "file"; {ref("split", "rule")}')
        if split.rule != "official" and split.fold is not None:
            problems.add(("split", "fold"), f'needs rule = "official"; {ref("split", "rule")}')
    if isinstance(optimizer, Optimizer) and optimizer.name == "sgd" and optimizer.nesterov and not optimizer.momentum:
        problems.add(("optimizer", "momentum"), f"must be greater than 0 with {ref('optimizer', 'nesterov')}")
    if isinstance(schedule, Schedule) and isinstance(train, Train):
        if isinstance(schedule.warmup, int) and schedule.warmup > train.steps:
            problems.add(("schedule", "warmup"), f"{schedule.warmup} steps is more than {ref('train', 'steps')}")
        if isinstance(optimizer, Optimizer) and schedule.name == "cosine" and schedule.final > optimizer.lr:
            problems.add(("schedule", "final"), f"{schedule.final} is greater than {ref('optimizer', 'lr')}")
        if schedule.name == "cyclic" and has_all(resolved, problems, "schedule", ("horizon", "start", "cycle")):
            horizon, start, cycle = (_length(n, train) for n in (schedule.horizon, schedule.start, schedule.cycle))
            if start > horizon:
                problems.add(("schedule", "start"), f"must not be after {ref('schedule', 'horizon')}")
            if cycle > start:
                problems.add(("schedule", "cycle"), f"must not be longer than {ref('schedule', 'start')}")
    if (
        isinstance(average, Average)
        and average.kind == "swa"
        and has_all(resolved, problems, "average", ("start", "every"))
    ):
        if isinstance(train, Train) and _length(average.start, train) > train.steps:
            problems.add(("average", "start"), f"must not be after {ref('train', 'steps')}")
        if method and "ema" in method.shape.supplied and not _optional(method, "ema"):
            text = f"method {method.entry.name} trains with an EMA teacher, which SWA cannot replace"
            problems.add(("average", "kind"), f"{text}; {ref('average', 'kind')}")
    if isinstance(eval_, Eval):
        chosen = [(("eval", "primary"), eval_.primary)]
        if isinstance(train, Train) and train.keep_best is not None:
            chosen.append((("train", "keep_best"), train.keep_best))
        for path, metric in chosen:
            first, *weights = metric.split("/")
            if first not in eval_.splits:
                hint = semicolon(suggest(first, eval_.splits))
                problems.add(path, f'"{first}" is not evaluated: add it to {ref("eval", "splits")}{hint}')
            if isinstance(average, Average) and average.kind == "none" and "ema" in weights[:-1]:
                problems.add(path, f"needs averaged weights; {ref('average', 'kind')}")
    if isinstance(centroids, Centroids) and centroids.estimator == "learned" and not centroids.normalize_centroids:
        problems.add(("centroids", "normalize_centroids"), f"must be true with {ref('centroids', 'estimator')}")
    if isinstance(average, Average) and average.kind == "none":
        none = ref("average", "kind")
        if isinstance(centroids, Centroids) and centroids.network == "ema":
            problems.add(("centroids", "network"), f'"ema" needs averaged weights; {none}')
        if method and "ema" in method.shape.supplied and not _optional(method, "ema"):
            problems.add(("average", "kind"), f"method {method.entry.name} needs averaged weights; {none}")
    if method:
        labeler = resolved.parts.get(("labeler", None))
        if labeler and getattr(method.component, "mixes", False) and getattr(labeler.component, "masks", False):
            text = f"{method.entry.name} mixes all pseudo-labels and cannot use a labeler that masks"
            problems.add(("labeler", "name"), f"{text}: use softmax, aligned, fuzzy, nearest_centroid or product")
        views = getattr(method.component, "views", {})
        check_views(views, resolved.after, str(method.entry.name), problems)


def has_all(resolved: Resolved, problems: Problems, table: str, keys: tuple[str, ...]) -> bool:
    """Whether a table has all keys that its `kind` or `name` requires; each missing one is added as a problem."""
    choice = "name" if table == "schedule" else "kind"
    chosen = problems.quote((table, choice), getattr(resolved.tables[table], choice))
    missing = [key for key in keys if getattr(resolved.tables[table], key) is None]
    for key in missing:
        problems.add((table, key), f"is required with {chosen}")
    return not missing


def _length(amount: int | float | None, train: Train) -> float:
    return amount * train.steps if isinstance(amount, float) else amount or 1


def _optional(part: Part, name: str) -> bool:
    """Whether a supplied argument of a component has a default."""
    return inspect.signature(part.component).parameters[name].default is not inspect.Parameter.empty


def check_views(views: Mapping[str, Iterable[str]], policies: Collection[str], method: str, problems: Problems) -> None:
    """Add a problem for each augmentation policy that the views of a method use and the recipe does not have."""
    used = dict.fromkeys(policy for names in views.values() for policy in names)
    for name in (policy for policy in used if policy != "clean" and policy not in policies):
        text = f"method {method} uses this policy: add a table [augment.{name}] with a name"
        problems.add(("augment", name), text, ("method", "name"))
