"""Split files: which images keep their labels and which are held out, stratified by class, whole groups together.

A split file is JSON with lists of image ids, which `split.rule = "file"` reads: those that keep their labels, those
that are held out, and those that are left out. Every training image that is in none is used without its label.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mmctl.data.draws import generator
from mmctl.data.images import class_of
from mmctl.data.split import make_split, natural
from mmctl.errors import DataError, UserError
from mmctl.plugin import Images
from mmctl.recipe.settings import Split as SplitSettings
from mmctl.text import to_json

PARTS = ("labeled", "val", "left_out")
COLUMNS = ("id", "part")


@dataclass(frozen=True)
class SplitFile:
    """Training images that keep their labels, those that are held out, and those not used: ids, or row numbers."""

    labeled: Sequence[str | int]
    val: Sequence[str | int]
    made: Mapping[str, object]  # how: seed, groups, fold
    left_out: Sequence[str | int] = ()  # such as unlabelled images of a held-out group

    def counts(self) -> str:
        """The sizes of its lists in words."""
        left = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"{len(self.labeled)} labelled, {len(self.val)} held out for validation{left}"


def make_splits(
    part: Images, *, labels: int | None, val: float, seed: int, groups: Mapping[str, str] | None = None, folds: int = 0
) -> list[SplitFile]:
    """One split, or one for each fold, in which every labelled image is held out once.

    labels: number of labelled images, class-proportional, at least one of each class; None = all that are left. val:
    share of the labelled images that is held out, or their number. groups: id -> group; images of one group are on
    the same side, and those without a label are left out where their group is held out. UserError for numbers that
    the data does not allow.
    """
    label_N = class_of(part)
    rows = np.flatnonzero(label_N >= 0)
    if not len(rows):
        raise UserError("no training image has a label, so there is nothing to split.")
    group_N = np.array([(groups or {}).get(id, f"\0{id}") for id in part.ids])
    held = _folds(rows, label_N, group_N, folds, seed, bool(groups)) if folds else [
        _held_out(rows, label_N, group_N, val, seed, bool(groups))
    ]  # fmt: skip
    made: list[SplitFile] = []
    for fold, out in enumerate(held):
        left = np.setdiff1d(rows, out)
        kept = _labelled(left, label_N, labels, seed, len(part.classes))
        how: dict[str, object] = {"seed": seed, "by_groups": bool(groups)}
        how |= {"fold": fold, "folds": folds} if folds else {}
        left_out = np.flatnonzero((label_N < 0) & np.isin(group_N, group_N[out])) if groups else rows[:0]
        ids = [[part.ids[row] for row in chosen.tolist()] for chosen in (kept, out, left_out)]
        made.append(SplitFile(ids[0], ids[1], how, ids[2]))
    return made


def _held_out(
    rows: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, val: float, seed: int, by_groups: bool
) -> np.ndarray:
    n = round(val * len(rows)) if val < 1 else int(val)
    if n <= 0:
        return rows[:0]
    if n >= len(rows):
        raise UserError(f"--val {val:g}: only {len(rows)} training images have a label. Lower it.")
    if by_groups:
        return _held_out_groups(rows, label_N, group_N, n, seed)
    rng, classes = generator(seed, "split file/val"), np.unique(label_N[rows])
    pools = [rng.permutation(rows[label_N[rows] == k]) for k in classes]
    counts = natural(n, np.array([len(pool) for pool in pools]), np.arange(len(pools)), each=False)
    return np.sort(np.concatenate([pool[:k] for pool, k in zip(pools, counts.tolist(), strict=True)]))


def _held_out_groups(rows: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Whole groups in random order: each that brings the numbers of all classes nearer to their share of n."""
    names, group_M = np.unique(group_N[rows], return_inverse=True)
    if len(names) < 2:
        raise UserError("all labelled images are of one group, so none can be held out. Set --val 0.")
    count_GK = np.zeros((len(names), int(label_N.max()) + 1))
    np.add.at(count_GK, (group_M, label_N[rows]), 1)
    missing_K = count_GK.sum(0) * n / len(rows)
    taken: list[int] = []
    for group in generator(seed, "split file/val groups").permutation(len(names)).tolist():
        after_K = missing_K - count_GK[group]
        if (after_K**2).sum() < (missing_K**2).sum() and len(taken) < len(names) - 1:
            taken.append(group)
            missing_K = after_K
    return rows[np.isin(group_M, taken or [int(count_GK.sum(1).argmin())])]


def _folds(
    rows: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, folds: int, seed: int, by_groups: bool
) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    have = len(set(group_N[rows].tolist()))
    if folds > have:
        raise UserError(f"{folds} folds need as many {'groups' if by_groups else 'labelled images'}: there are {have}.")
    counts = np.bincount(label_N[rows])
    smallest = int(counts[counts > 0].min())
    if smallest < folds and not by_groups:
        raise UserError(f"{folds} folds need {folds} labelled images of each class: one has {smallest}. Use fewer.")
    if counts.max() < folds:
        raise UserError(
            f"{folds} folds need {folds} labelled images of a class: the most are {counts.max()}. Use fewer."
        )
    kind = StratifiedGroupKFold if by_groups else StratifiedKFold
    state = int(generator(seed, "split file/folds").integers(2**31))
    with warnings.catch_warnings():  # of a class that is not in each fold, which groups cannot always prevent
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        pairs = kind(folds, shuffle=True, random_state=state).split(
            rows, label_N[rows], group_N[rows] if by_groups else None
        )
        return [rows[out] for _, out in pairs]


def _labelled(left: np.ndarray, label_N: np.ndarray, labels: int | None, seed: int, classes: int) -> np.ndarray:
    if labels is None:
        return left
    if labels > len(left):
        raise UserError(f"--labels {labels}: only {len(left)} labelled images are left for training. Lower it.")
    rng = generator(seed, "split file/labels")
    pools = [rng.permutation(left[label_N[left] == k]) for k in range(classes)]
    sizes = np.array([len(pool) for pool in pools])
    if labels < int((sizes > 0).sum()):
        raise UserError(f"--labels {labels}: is less than one for each of {int((sizes > 0).sum())} classes. Raise it.")
    counts = natural(labels, sizes, np.arange(classes))
    return np.sort(np.concatenate([pool[:n] for pool, n in zip(pools, counts.tolist(), strict=True)]))


def split_bytes(split: SplitFile, path: Path) -> bytes:
    """What the split file `path` contains: JSON or, if its name ends in .csv, a table; UserError if it cannot."""
    lists = {part: list(getattr(split, part)) for part in PARTS if part != "left_out" or split.left_out}
    if path.suffix != ".csv":
        text = to_json({"made": dict(split.made)} | lists, indent=1) + "\n"
    elif any(isinstance(id, int) for ids in lists.values() for id in ids):
        raise UserError(f"{path}: not written: the split has row numbers, and a table has image ids alone.")
    else:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(
            [COLUMNS, *((id, part) for part, ids in lists.items() for id in ids)]
        )
        text = out.getvalue()
    return text.encode("utf-8", "surrogateescape")


def read_split(path: Path) -> SplitFile:
    """A split file: JSON as mmctl writes and reads it, or a CSV table with the columns id and part; DataError else."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".csv":
            body = json.loads(text)
            lists = {part: body.get(part) or [] for part in PARTS}
            made = body.get("made")
        else:
            lists, made = _from_csv(path, text), {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a split file: {error}") from None
    for part, ids in lists.items():
        if not isinstance(ids, list) or not all(isinstance(id, str | int) for id in ids):
            raise DataError(f'{path}: "{part}" must be a list of image ids or row numbers.')
    return SplitFile(lists["labeled"], lists["val"], made if isinstance(made, dict) else {}, lists["left_out"])


def _from_csv(path: Path, text: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {part: [] for part in PARTS}
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if tuple(header) != COLUMNS:
            raise DataError(f"{path}:1: the header must be {','.join(COLUMNS)}.")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(COLUMNS) or cells[1].strip() not in PARTS:
                raise DataError(f"{path}:{reader.line_num}: a row is an image id, and labeled, val or left_out.")
            lists[cells[1].strip()].append(cells[0])
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a CSV file ({error}).") from None
    return lists


def describe(part: Images, split: SplitFile, path: Path) -> dict[str, list[int]]:
    """How many images of each class have a label and are held out; DataError if a recipe could not use the split.

    path: where it was read, for messages.
    """
    with TemporaryDirectory() as folder:  # checked as training does, which reads a JSON file
        file = Path(folder) / "split.json"
        file.write_bytes(split_bytes(split, file))
        try:
            rows = make_split(part, SplitSettings.model_validate({"rule": "file", "file": str(file)}), 0)
        except DataError as error:
            raise DataError(str(error).replace(str(file), str(path))) from None
    label_N, classes = class_of(part), len(part.classes)
    parts = {"labeled": rows.labeled, "val": rows.val}
    return {name: np.bincount(label_N[chosen], minlength=classes).tolist() for name, chosen in parts.items()}


def groups_of(found: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """id -> group, of images that have one."""
    return {id: group for id, group in found if group}
