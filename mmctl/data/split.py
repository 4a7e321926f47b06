"""Splits the training images: which keep their labels, which are used without, and which are held out."""

from __future__ import annotations

import json
import stat
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mmctl import project
from mmctl.data.draws import generator
from mmctl.data.images import class_of
from mmctl.errors import DataError, EnvironmentFault
from mmctl.filesystem import write_atomic
from mmctl.plugin import Images, Split
from mmctl.recipe.settings import Split as SplitSettings


def make_split(images: Images, settings: SplitSettings, seed: int) -> Split:
    """Split the training images by the recipe's rule; `seed` is used if the recipe does not set split.seed.

    Each class is shuffled once. Validation images come from the end of each class, in proportion to its size, and
    labelled images from the beginning: with the same seed, a split with more labels contains each one with fewer.
    """
    seed = seed if settings.seed is None else settings.seed
    rng = generator(seed, "split")
    label_N = class_of(images)
    first = rng.permutation(len(images.classes))  # random order in which classes get the remainder of a division
    pools = [rng.permutation(np.flatnonzero(label_N == k)) for k in range(len(images.classes))]

    chosen = settings.rule in ("file", "official")
    labeled = left_out = np.empty(0, np.int64)
    val = None
    if settings.rule == "file":
        labeled, val, left_out = _from_file(images, settings, label_N)
    elif settings.rule == "official":
        labeled = _official(images, settings, seed)
    pools = [pool[~np.isin(pool, np.concatenate([labeled, left_out]))] for pool in pools]
    if val is None:
        val, pools = _take_validation(settings.val, pools, first)
    if not chosen:
        sizes = np.array([len(pool) for pool in pools])
        counts = _counts(settings, sizes, first, images.classes)
        labeled = np.sort(np.concatenate([pool[:n] for pool, n in zip(pools, counts, strict=True)]))

    unlabeled = np.ones(len(label_N), bool)
    unlabeled[val] = False
    unlabeled[left_out] = False
    if settings.unlabeled == "rest":
        unlabeled[labeled] = False
    elif settings.unlabeled == "without_label":
        unlabeled[label_N >= 0] = False
    return _split(labeled, np.flatnonzero(unlabeled), val, settings.rule, seed, label_N, len(images.classes))


def balanced(labels: int, sizes: np.ndarray, first: np.ndarray, fill: bool) -> np.ndarray:
    """Equal numbers of labels per class; with `fill`, other classes give more where a class is too small.

    Labels are given out one by one, class after class in the order `first`. A class without images left is skipped
    (with `fill`) or loses its label (without), so that more labels never take a label away from a class.
    """
    level = _level(labels, sizes) if fill else labels // len(sizes)
    counts: np.ndarray = np.minimum(sizes, level)
    left = labels - int(counts.sum()) if fill else labels % len(sizes)
    turn = [k for k in first if sizes[k] > level or not fill][:left]
    counts[turn] = np.minimum(sizes, level + 1)[turn]
    return counts


def natural(labels: int, sizes: np.ndarray, first: np.ndarray, each: bool = True) -> np.ndarray:
    """Class-proportional numbers that sum to `labels`; with `each`, at least one for every class that has images.

    Webster's rule: the i-th image of a class of n has position (i + 1/2) / n, and the images with the smallest
    positions are taken. Each number is within one of the exact share and, unlike with largest remainders, more
    labels never take a label away from a class.
    """
    class_M = np.concatenate([np.full(sizes[k], k) for k in first])
    position = np.concatenate([(np.arange(sizes[k]) + (0.5 if sizes[k] else 0)) / max(sizes[k], 1) for k in first])
    if each:
        first_of_class = np.r_[True, class_M[1:] != class_M[:-1]]
        position[first_of_class] = -1.0
    taken = class_M[np.argsort(position, kind="stable")[:labels]]
    return np.bincount(taken, minlength=len(sizes))


def save_split(path: Path, split: Split) -> None:
    """Write the split as JSON, atomically."""
    body: dict[str, Any] = {
        "format": 1,
        "rule": split.rule,
        "seed": split.seed,
        "counts": list(split.counts),
        "sha256": split.sha256,
        "labeled": split.labeled.tolist(),
        "val": split.val.tolist(),
        "unlabeled": split.unlabeled.tolist(),
    }
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in body.items())
    try:
        write_atomic(path, ("{\n" + lines + "\n}\n").encode())
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot write the split ({error.strerror}).") from error


def load_split(path: Path) -> Split:
    """Read a split that save_split wrote; raise DataError if the file was changed or damaged."""
    body = _read(path)
    try:
        labeled, unlabeled, val = (np.array(body[name], np.int64) for name in ("labeled", "unlabeled", "val"))
        split = Split(labeled, unlabeled, val, body["rule"], body["seed"], tuple(body["counts"]), body["sha256"])
        good = _digest(split.rule, split.seed, labeled, unlabeled, val) == split.sha256
        good = good and sum(split.counts) == len(labeled)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: not a split that mmctl wrote ({error}). {_AGAIN}") from None
    if not good:
        raise DataError(f"{path}: the SHA-256 does not match the rows: the file was changed or damaged. {_AGAIN}")
    return split


_AGAIN = "Restore the file, or start a new run: the same recipe and seed draw the same split again."


def _split(
    labeled: np.ndarray, unlabeled: np.ndarray, val: np.ndarray, rule: str, seed: int, label_N: np.ndarray, classes: int
) -> Split:
    counts = np.bincount(label_N[labeled], minlength=classes)
    digest = _digest(rule, seed, labeled, unlabeled, val)
    return Split(labeled, unlabeled, val, rule, seed, tuple(counts.tolist()), digest)


def _digest(rule: str, seed: int, *rows: np.ndarray) -> str:
    digest = sha256(f"{rule} {seed}".encode())
    for part in rows:
        digest.update(f" {len(part)} ".encode())
        digest.update(part.astype("<i8").tobytes())
    return digest.hexdigest()


def _take_validation(
    val: int | float, pools: list[np.ndarray], first: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The validation images, and the images that are left of each class."""
    sizes = np.array([len(pool) for pool in pools])
    n = int(val) if isinstance(val, int) or val >= 1 else round(val * int(sizes.sum()))
    if n >= sizes.sum() and n > 0:
        raise DataError(f"split.val = {n}, but only {sizes.sum()} training images have a label; lower it")
    counts = natural(n, sizes, first, each=False)
    taken = [pool[len(pool) - k :] for pool, k in zip(pools, counts, strict=True)]
    return np.sort(np.concatenate(taken)), [pool[: len(pool) - k] for pool, k in zip(pools, counts, strict=True)]


def _counts(settings: SplitSettings, sizes: np.ndarray, first: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """How many labels each class gets."""
    have, labels = int(sizes.sum()), settings.labels
    if labels == "all":
        return sizes
    if labels > have:
        raise DataError(
            f"split.labels = {labels}, but only {have} training images have a label and are not used for validation; "
            'lower split.labels or split.val, or set split.labels = "all"'
        )
    if labels < len(classes):
        raise DataError(f"split.labels = {labels} is less than one label for each of {len(classes)} classes; raise it")
    if settings.rule == "natural":
        return natural(labels, sizes, first)
    fair = balanced(labels, np.full_like(sizes, labels), first, fill=False)
    if settings.on_shortage == "error" and (fair > sizes).any():
        short = ", ".join(f"{classes[k]} has {sizes[k]} of {fair[k]}" for k in np.flatnonzero(fair > sizes))
        raise DataError(
            f"split.labels = {labels} needs equal numbers per class, but {short}. Lower split.labels, or set "
            'split.on_shortage to "redistribute" (other classes give more) or "cap" (fewer labels in total)'
        )
    return balanced(labels, sizes, first, fill=settings.on_shortage != "cap")


def _level(labels: int, sizes: np.ndarray) -> int:
    """The largest number n for which the sum of min(n, class size) over all classes is at most `labels`."""
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= labels else (low, middle - 1)
    return low


def _read(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would make mmctl wait
            raise DataError(f"{path}: not a file")
        body = json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: there is no such split file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(body, dict):
        raise DataError(f'{path}: a split is a JSON object with "labeled", not a {type(body).__name__}')
    return body


def _official(images: Images, settings: SplitSettings, seed: int) -> np.ndarray:
    """Rows of a published choice of labelled images: the one of split.fold, or of the seed."""
    n = len(images.official)
    if not n:
        raise DataError('split.rule = "official", but this data set has no published choices of labelled images')
    fold = seed % n if settings.fold is None else settings.fold
    if fold >= n:
        raise DataError(f"split.fold = {fold}, but the data set has {n} published choices: use 0 to {n - 1}")
    rows = np.sort(np.asarray(images.official[fold], np.int64))
    if settings.labels not in ("all", len(rows)):
        raise DataError(
            f"split.labels = {settings.labels}, but the published choice has {len(rows)} images; set it to {len(rows)}"
        )
    return rows


def _from_file(
    images: Images, settings: SplitSettings, label_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Rows of the file's "labeled", of its "val" if it has one, and of "left_out": images that are not used at all."""
    if settings.file is None:
        raise DataError('split.rule = "file" needs split.file, a JSON file with "labeled": row numbers or image ids')
    path = project.root() / settings.file
    body = _read(path)
    rows = {name: _rows(path, name, body[name], images) for name in ("labeled", "val", "left_out") if body.get(name)}
    if "labeled" not in rows:
        raise DataError(f'{path}: "labeled" is missing or empty; it lists row numbers or ids of training images')
    labeled = rows["labeled"]
    if settings.labels not in ("all", len(labeled)):
        raise DataError(f"{path} labels {len(labeled)} images, split.labels says {settings.labels}; make them equal")
    for name in ("labeled", "val"):
        no_label = [row for row in rows.get(name, ()) if label_N[row] < 0]
        if n := len(no_label):
            raise DataError(f'{path}: "{name}" has {n} images without a label, first {images.ids[no_label[0]]!r}')
    for (one, some), (other, more) in combinations(rows.items(), 2):
        if len(both := np.intersect1d(some, more)):
            raise DataError(
                f'{path}: {len(both)} images are in "{one}" and in "{other}", first {images.ids[both[0]]!r}'
            )
    return labeled, rows.get("val"), rows.get("left_out", np.empty(0, np.int64))


def _rows(path: Path, name: str, entries: Any, images: Images) -> np.ndarray:
    if not isinstance(entries, list):
        raise DataError(f'{path}: "{name}" must be a list of row numbers or image ids')
    known = {key: row for row, key in enumerate(images.ids)}
    rows: list[int] = []
    for place, entry in enumerate(entries, 1):
        row = known.get(entry, -1) if isinstance(entry, str) else entry
        if row == -1 and entry in images.skipped:
            continue  # a damaged image, which the run names: the others are split as they were before
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(images.ids):
            raise DataError(
                f'{path}: entry {place} of "{name}" is {entry!r}: no training image has that id or row '
                f"(0 to {len(images.ids) - 1}, ids like {images.ids[0]!r})"
            )
        rows.append(row)
    unique = np.unique(np.array(rows, np.int64))
    if len(unique) < len(rows):
        raise DataError(f'{path}: "{name}" names {len(rows) - len(unique)} images more than once')
    return unique
