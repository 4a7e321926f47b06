"""What a recipe asks of its data and of this machine, checked before step 0 of a new run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from mmctl import redact
from mmctl.errors import DataError, UserError
from mmctl.plugin import KINDS, Images
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import Data
from mmctl.store.metrics import PEEKED
from mmctl.text import printable

THREADS_PER_CORE = 4
"""More threads than this per core only wait for each other."""
SMALL = 1024
"""A labelled batch may repeat images; one that is larger than this and than the training set is a mistake."""
NAMES = 5
"""Classes or images that a warning names."""
SKIPPED = 10_000
"""Damaged images that a run lists."""


def check_before_start(recipe: Recipe, data: Data) -> list[str]:
    """Warnings about data and settings; UserError or DataError for what the data or this machine does not have."""
    _check_secrets(recipe)
    _check_metric(recipe, data, "eval", "primary")
    _check_metric(recipe, data, "train", "keep_best")
    _check_threads(recipe)
    _check_batches(recipe, data)
    best = recipe.settings.train.keep_best or ""
    peeks = [f'train.keep_best = "{best}": the best checkpoint is {PEEKED}.'] if best.startswith("test/") else []
    return _skipped(data.images) + peeks + rare_classes(data)


def listed_skipped(images: Mapping[str, Images]) -> list[str]:
    """The images that a data set left out, each with the reason; a run keeps so many, and the number of the others."""
    lines = [f"{name}: {why}" for part in images.values() for name, why in part.skipped.items()]
    return lines[:SKIPPED] + ([f"and {len(lines) - SKIPPED} more"] if len(lines) > SKIPPED else [])


def notes_of(images: Mapping[str, Images]) -> list[str]:
    """What a user should know about the images of a data set, once each."""
    return [printable(line) for line in dict.fromkeys(line for part in images.values() for line in part.notes)]


def _skipped(images: Mapping[str, Images]) -> list[str]:
    lines = listed_skipped(images)
    if not lines:
        return []
    n, parts = sum(len(part.skipped) for part in images.values()), sum(len(part.ids) for part in images.values())
    more = "; `mmctl show RUN --json` lists all" if n > NAMES else ""
    return [f"{n} of {n + parts} images are damaged and were left out: {', '.join(lines[:NAMES])}{more}."]


def _check_secrets(recipe: Recipe) -> None:
    """A run folder keeps the whole recipe: it must stay possible to show it to others."""
    lines: dict[str, list[str]] = {}
    for key in redact.in_settings(recipe.data):
        of_component = key.partition(".")[0] in KINDS
        remedy = "Let the component read it from an environment variable, whose name the recipe may give."
        lines.setdefault(remedy if of_component else "Take it out of the recipe.", []).append(key)
    if lines:
        what = "looks like a password or token, and the recipe is kept in the run folder"
        raise UserError(*(f"{', '.join(keys)}: {what}. {remedy}" for remedy, keys in lines.items()))


def rare_classes(data: Data) -> list[str]:
    """Sentences about the classes that have no labelled image, or only one."""
    classes, counts = data.images["train"].classes, data.split.counts
    lines = []
    for n, words in ((0, "no labelled image"), (1, "only one labelled image")):
        if names := [name for name, count in zip(classes, counts, strict=True) if count == n]:
            which = ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
            advice = "the network cannot learn to predict them" if n == 0 else "results depend much on which it is"
            have = "has" if len(names) == 1 else "have"
            lines.append(f"{len(names)} of {len(classes)} classes {have} {words} ({which}): {advice}.")
    return lines


def _check_metric(recipe: Recipe, data: Data, table: str, key: str) -> None:
    metric = getattr(getattr(recipe.settings, table), key)
    if metric is None:
        return
    split = metric.partition("/")[0]
    have = [name for name in data.images if name != "train"] + (["val"] if len(data.split.val) else [])
    if split in have or (split == "train" and "train" in recipe.settings.eval.splits):
        return
    remedy = "set split.val = 0.1 to hold out validation images, or " if split == "val" else ""
    raise UserError(
        f'{table}.{key} = "{metric}" ({recipe.origin((table, key))}): {recipe.dataset_name} has no split '
        f'"{split}" (it has {", ".join(sorted(have))}); {remedy}choose "{sorted(have)[0]}{metric[len(split) :]}".'
    )


def _check_threads(recipe: Recipe) -> None:
    threads, cores = recipe.settings.train.threads, os.cpu_count() or 1
    if threads is not None and threads > THREADS_PER_CORE * cores:
        raise UserError(
            f"train.threads = {threads} ({recipe.origin(('train', 'threads'))}): this machine has {cores} cores; "
            f"use at most {THREADS_PER_CORE * cores}."
        )


def _check_batches(recipe: Recipe, data: Data) -> None:
    train, images = recipe.settings.train, data.images["train"]
    most = max(SMALL, len(images.ids))
    if train.batch > most:
        raise DataError(
            f"train.batch = {train.batch} ({recipe.origin(('train', 'batch'))}): the training set has "
            f"{len(images.ids)} images; use at most {most}."
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = 4 * math.prod(int(n) for n in images.pixels.shape[1:])  # bytes of an image as float32
    for key, batch in (("batch", train.batch), ("unlabeled_batch", train.unlabeled_batch)):
        if batch * size > memory:
            raise UserError(
                f"train.{key} = {batch} ({recipe.origin(('train', key))}): the images of one batch alone need "
                f"{batch * size / 2**30:.0f} GiB, and this machine has {memory / 2**30:.0f} GiB; use less than "
                f"{memory // size}."
            )
