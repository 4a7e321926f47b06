"""Class folders: the folder of an image is its class, alone or below train/, val/, test/, beside unlabeled/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from difflib import get_close_matches

from mmctl.image_files.files import ImageFile, Part
from mmctl.image_files.tree import Tree
from mmctl.image_files.words import PARTS, part_of, quoted

UNLABELED_TEST = "in val or test, without a label"


@dataclass
class Parts:
    """Folders of the root by what they are."""

    parts: dict[str, Part] = field(default_factory=dict)  # train, val ...: folder -> part
    classes: list[str] = field(default_factory=list)  # class folders of the root itself
    stray: list[str] = field(default_factory=list)  # neither, beside train/


def parts_of(tree: Tree) -> Parts:
    """What the folders of the root are; two for one part are a problem."""
    found = Parts()
    seen: dict[Part, str] = {}
    for name in sorted(one for one in tree.folders if "/" not in one):
        if (part := part_of(name)) is None:
            found.classes.append(name)
            continue
        if (other := seen.setdefault(part, name)) != name:
            tree.problems.add(f"{quoted(other)} and {quoted(name)} are both folders for {part}. Join them.")
        found.parts[name] = part
    if "train" in seen:
        found.stray, found.classes = found.classes, []
    return found


@dataclass
class _Layout:
    """Takes in images one by one."""

    tree: Tree
    files: list[ImageFile] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # images of each class folder
    loose: int = 0  # without label beside class folders
    deep: list[str] = field(default_factory=list)  # class folders with folders inside

    def add(self, id_: str, part: Part, folder: str, label: str | None) -> None:
        """An image; without a label it is unlabelled, but not if it is for testing."""
        if label is None and part in ("val", "test"):
            self.tree.ignored[UNLABELED_TEST] += 1
            return
        source = self.tree.source(id_)
        self.files.append(ImageFile(id_, source, part if label is not None else "unlabeled", label, folder))

    def labelled(self, id_: str, part: Part, folder: str, label: str, deeper: bool) -> None:
        self.counts[folder] += 1
        if deeper and (not self.deep or self.deep[-1] != folder):
            self.deep.append(folder)
        self.add(id_, part, folder, label)


def class_folders(tree: Tree, classes: Container[str] | None) -> tuple[list[ImageFile], list[str]]:
    """All images of class folders and unlabelled ones, and notes; what is wrong is in `tree.problems`.

    classes: names of classes that may have no image in their folder; other folders without images are left out then.
    """
    found = parts_of(tree)
    layout = _Layout(tree)
    stray = Counter[str]()
    for id_ in tree.files:
        first, _, rest = id_.partition("/")
        if not rest:
            layout.loose += 1
            layout.add(id_, "train", ".", None)
        elif (part := found.parts.get(first)) is None:
            if first in found.stray:
                stray[first] += 1
            else:
                layout.labelled(id_, "train", first, first, "/" in rest)
        elif part == "unlabeled":
            layout.add(id_, part, first, None)
        else:
            second, _, deeper = rest.partition("/")
            if deeper and PARTS.get(second.lower()) != "unlabeled":
                layout.labelled(id_, part, f"{first}/{second}", second, "/" in deeper)
            else:
                layout.loose += not deeper and part == "train"
                layout.add(id_, part, first if not deeper else f"{first}/{second}", None)
    _check_stray(tree, found.stray, stray)
    if layout.counts:
        _check_empty(tree, found, layout.counts, classes)
    notes = []
    if layout.counts and layout.loose:
        notes.append(f"{layout.loose} images beside the class folders are unlabelled")
    if layout.deep:
        notes.append(f"images in folders inside of a class folder have its class: {quoted(layout.deep[0])}")
    return layout.files, notes


def _check_stray(tree: Tree, names: list[str], counts: Counter[str]) -> None:
    for name in names:
        if counts[name] and (meant := get_close_matches(name.lower(), PARTS, n=1, cutoff=0.75)):
            tree.problems.add(
                f"{quoted(name)}: a folder with {counts[name]} images beside train/, whose name is no part. Did "
                f"you mean {quoted(meant[0])}? Rename it, or move it away."
            )
        elif counts[name]:
            tree.ignored[f"in {quoted(name)}, which is no part beside train/"] += counts[name]


def _check_empty(tree: Tree, found: Parts, counts: Counter[str], classes: Container[str] | None) -> None:
    """Class folders for training without an image are a problem, unless the user named the classes."""
    train = [name for name, part in found.parts.items() if part == "train"]
    for folder in tree.folders:
        above, _, name = folder.rpartition("/")
        if counts[folder] or not (folder in found.classes or above in train) or PARTS.get(name.lower()):
            continue
        if classes is None:
            held = Counter(one.rpartition(".")[2] for one in tree.others if one.startswith(folder + "/"))
            inside = f" ({', '.join(f'{n} .{suffix} files' for suffix, n in held.items())})" if held else ""
            tree.problems.add(
                f"{quoted(folder)}: a class folder without an image{inside}. Put images into it, delete it, or give "
                "the names of all classes (`classes`)."
            )
