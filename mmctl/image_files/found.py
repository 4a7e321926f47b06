"""Finds the images and labels of a folder: looks which of the usual layouts it has, and says which.

In this order: label files (labels.csv, metadata.jsonl, exports of other programs) in the folder, or one in each of
train/, val/ and test/; tar shards and Parquet files, if no image lies beside them; class folders; images alone.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmctl.errors import DataError
from mmctl.image_files import exports
from mmctl.image_files.discover import LabelFile, label_files
from mmctl.image_files.files import ImageFile
from mmctl.image_files.folders import class_folders
from mmctl.image_files.joined import Joined
from mmctl.image_files.label_files import Asked, rows_of
from mmctl.image_files.tree import Tree, walk
from mmctl.image_files.words import images, natural, quoted
from mmctl.text import display_path

ORDER = ("train", "val", "test", "unlabeled")


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    files: list[ImageFile]  # sorted by part, then id
    classes: tuple[str, ...]  # in the order of their numbers
    kind: str  # the layout: "class folders", "labels.csv", "COCO" ...
    ignored: Counter[str]  # what was left out: reason -> number of files
    notes: tuple[str, ...] = ()  # what the user should know, one sentence each

    def said(self) -> list[str]:
        """The notes, and one about all files that were left out."""
        left = ", ".join(f"{count} {why}" for why, count in self.ignored.most_common())
        return [*self.notes, *([f"left out: {left}"] if left else [])]


def find_images(
    root: Path,
    *,
    labels: Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    delimiter: str | None = None,
    classes: Sequence[str] | None = None,
) -> Found:
    """The images below `root` with what folders or label files say about them; none is opened.

    Class names are sorted naturally (class2 before class10) unless `classes` gives their order. Images without a label
    have the part "unlabeled"; an image of that part with a label has one that training must not see.
    DataError: where, what, what to do.
    """
    with _without_collection():
        return _find(root, labels, Asked(path_column, label_column, split_column, group_column), delimiter, classes)


@contextmanager
def _without_collection() -> Iterator[None]:
    """A million images have no cycles, but looking for some takes most of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _find(root: Path, labels: Path | None, asked: Asked, delimiter: str | None, classes: Sequence[str] | None) -> Found:
    if classes is not None and (len(set(classes)) < len(classes) or not classes):
        raise DataError(f"classes: needs names that are all different (got {', '.join(map(quoted, classes))}).")
    tree = walk(root)
    given, notes = label_files(tree, labels, asked, delimiter)
    if given:
        files, kind, more = _labelled(tree, given, asked, classes)
    else:
        _check_asked(tree, asked, delimiter)
        files, kind, more = _without_labels(tree, asked, classes)
    tree.used.update(one.id for one in given)
    tree.count_others()
    tree.problems.check()
    if not files:
        left = ", ".join(f"{n} {what}" for what, n in tree.ignored.most_common(5))
        raise DataError(
            f"{display_path(root)}: there are no images in it{f' (left out: {left})' if left else ''}. mmctl reads "
            "jpg, png, webp, bmp, gif and tiff files, tar shards and Parquet files."
        )
    names = _classes(tree, files, classes, kind)
    tree.problems.check()
    files.sort(key=lambda one: (ORDER.index(one.part), one.id))
    return Found(files, names, kind, +tree.ignored, (*notes, *more))


def _labelled(
    tree: Tree, given: list[LabelFile], asked: Asked, classes: Sequence[str] | None
) -> tuple[list[ImageFile], str, list[str]]:
    joined = Joined(tree, classes and frozenset(classes))
    for one in given:
        if one.path.suffix.lower() == ".json":  # whose value may be null
            rows = exports.json_rows(one.json, one.name, asked, tree.problems)
        elif one.table is not None:
            rows = rows_of(one.table, one.name, asked, tree.problems)
        else:
            rows = exports.list_rows(one.path, one.name, tree.problems)
        joined.add(rows, one.name, one.path, one.part)
    if not joined.files and not joined.left_out and not tree.problems.count:
        raise DataError(f"{given[0].name}:2: has a header, but no rows. Write a line for each image that has a label.")
    names = " and ".join(dict.fromkeys(one.name for one in given[:2])) + ", ..." * (len(given) > 2)
    rest = joined.rest(names)
    notes = [f"unlabelled, since {names} has no row for them: {images(rest)}"] if rest else []
    return list(joined.files.values()), given[0].kind, notes


def _without_labels(tree: Tree, asked: Asked, classes: Sequence[str] | None) -> tuple[list[ImageFile], str, list[str]]:
    if not tree.files:
        if tars := [one for one in tree.others if one.endswith(".tar")]:
            from mmctl.image_files.archives import tar_files

            return tar_files(tree, tars), "tar shards", []
        if found := [one for one in tree.others if one.endswith(".parquet")]:
            from mmctl.image_files.parquet import parquet_files

            return parquet_files(tree, found, asked), "Hugging Face Parquet", []
        if packed := next((one for one in tree.others if one.endswith((".tgz", ".gz", ".zip"))), None):
            tree.problems.add(f"{quoted(packed)}: is compressed, and there are no images beside it. Unpack it.")
    files, notes = class_folders(tree, classes)
    if any(one.label is not None for one in files):
        return files, "class folders", notes
    others = sorted(one for one in tree.others if one.endswith((".csv", ".tsv", ".jsonl", ".json")))
    if others:
        notes.append(f"no label was found; does {quoted(others[0])} hold them? Name it (`labels`)")
    return files, "images without labels", notes


def _check_asked(tree: Tree, asked: Asked, delimiter: str | None) -> None:
    """DataError if the user set what only a label file can have, and there is none."""
    columns = {
        "path_column": asked.path, "label_column": asked.label, "split_column": asked.split,
        "group_column": asked.group, "delimiter": delimiter,
    }  # fmt: skip
    kinds = {one.rpartition(".")[2] for one in tree.others}
    if not tree.files and "parquet" in kinds and "tar" not in kinds:
        columns = {name: columns[name] for name in ("split_column", "delimiter")}  # the other columns it may have
    wrong = [name for name, value in columns.items() if value is not None]
    if wrong:
        tables = sorted(one for one in tree.others if one.endswith((".csv", ".tsv", ".jsonl", ".json")))
        name = f"is {quoted(tables[0])} one? Name it" if tables else "add one (labels.csv), or name it"
        raise DataError(
            f"{display_path(tree.root)}: {' and '.join(f'`{one}`' for one in wrong)} set, but no label file was found; "
            f"{name} (`labels`), or leave the setting out."
        )


def _classes(tree: Tree, files: list[ImageFile], classes: Sequence[str] | None, kind: str) -> tuple[str, ...]:
    """All classes; those of val and test must be among those of train, and those given must be all."""
    first: dict[str, dict[str, ImageFile]] = {"train": {}, "val": {}, "test": {}, "unlabeled": {}}
    for one in files:
        if one.label is not None:
            first[one.part].setdefault(one.label, one)
    train = first["train"]
    known = set(classes) if classes is not None else set(train)
    if (train or classes is not None) and (other := first["unlabeled"].keys() - known):
        for i, one in enumerate(files):
            if one.part == "unlabeled" and one.label in other:
                files[i] = replace(one, label=None)  # a real pool holds other things, too
    for part in ORDER[:3]:
        more = sorted(first[part].keys() - known, key=natural)
        if not more or (classes is None and (not train or part == "train")):
            continue
        one = first[part][more[0]]
        if classes is not None:
            tree.problems.add(
                f"{one.where}: the class {quoted(more[0])} ({one.id}) is none of the given `classes`. Correct it, or "
                "add it to them."
            )
        else:
            theirs = sorted(train.keys() - first[part].keys(), key=natural)
            only = f"; only train has {_some(theirs)}" if theirs else ""
            tree.problems.add(
                f"{_some(more)} in {part} ({one.where}), but not in train{only}. Correct the names, or give the names "
                "of all classes (`classes`)."
            )
    if classes is not None:
        return tuple(classes)
    # A class that only the unlabelled images have is no output of the network.
    names = tuple(sorted(train or set().union(*first.values()), key=natural))
    if len(names) == 1:
        tree.problems.add(_single(tree, names[0], kind))
    return names


def _single(tree: Tree, name: str, kind: str) -> str:
    inside = sum(folder.startswith(name + "/") and folder.count("/") == 1 for folder in tree.folders)
    if kind == "class folders" and inside > 1:
        return (
            f"has one class folder, {quoted(name)}, with {inside} folders inside. If these are the classes, give "
            f"{quoted(name)} instead."
        )
    more = (
        " If its images have no labels yet, call the folder unlabeled, or give it itself."
        if kind == "class folders" and name in tree.folders else ""
    )  # fmt: skip
    return (
        f"all labels are {quoted(name)}: one class cannot be learned. Label images of a second class, or give the "
        f"names of all classes (`classes`).{more}"
    )


def _some(names: Sequence[str]) -> str:
    word = "class" if len(names) == 1 else "classes"
    return f"{word} {', '.join(map(quoted, names[:5]))}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
