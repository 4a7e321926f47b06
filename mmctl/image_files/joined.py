"""Joins rows of label files with the images in the folder; images without a row are unlabelled."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmctl.image_files.files import ImageFile, InFolder, Part
from mmctl.image_files.folders import UNLABELED_TEST
from mmctl.image_files.label_files import Row
from mmctl.image_files.places import Places, Unplaced
from mmctl.image_files.tree import Tree
from mmctl.image_files.words import part_of, quoted

REPEATED = "rows that repeat an earlier one"


@dataclass
class Joined:
    """The images of some label files."""

    tree: Tree
    classes: Container[str] | None
    files: dict[str, ImageFile] = field(default_factory=dict)  # by id, of the rows; without those that are left out
    left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.places = Places(self.tree)
        self._folder_parts: dict[str, Part | None] = {}

    def add(self, rows: Iterable[Row], name: str, file: Path, part: Part | None = None) -> None:
        """Take in the rows of a label file; name: how messages call it; part: of rows that do not say one."""
        problems, on_disk, files = self.tree.problems, self.tree.files, self.files
        base = self.places.base(file)
        before, without = base
        root = self.tree.root_text
        for line, path, label, said, group in rows:
            where = f"{name}:{line}"
            id_ = path.removeprefix(without) if without else before + path
            if id_ not in on_disk or (id_ is not path and path in on_disk):
                try:
                    id_ = self.places.find(path, base, said or part)
                except Unplaced as error:
                    problems.add(f"{where}: {error}")
                    continue
            if label is not None and self.classes is not None and label not in self.classes:
                problems.add(
                    f"{where}: the class {quoted(label)} is none of the given `classes`. Correct it, or add it to them."
                )
                continue
            part_ = said or part or self._part_of_folder(id_, label)
            if label is None:
                if part_ in ("val", "test"):
                    self.left_out.add(id_)
                    self.tree.ignored[UNLABELED_TEST] += 1
                    continue
                part_ = "unlabeled"
            one = ImageFile(id_, InFolder(root, on_disk[id_]), part_, label, where, group)
            if (other := files.setdefault(id_, one)) is not one:
                self._again(other, one)

    def _part_of_folder(self, id_: str, label: str | None) -> Part:
        folder = id_.partition("/")[0]
        if folder not in self._folder_parts:
            self._folder_parts[folder] = part_of(folder) if len(folder) < len(id_) else None
        part = self._folder_parts[folder] or "train"
        return "train" if part == "unlabeled" and label is not None else part  # its row is its label

    def _again(self, first: ImageFile, second: ImageFile) -> None:
        for what, one, two in (
            ("class", first.label, second.label),
            ("part", first.part, second.part),
            ("group", first.group, second.group),
        ):
            if one != two:
                self.tree.problems.add(
                    f"{second.where}: {quoted(second.id)} has the {what} {quoted(two or '')} here and "
                    f"{quoted(one or '')} in {first.where}. Keep one of the lines."
                )
                return
        self.tree.ignored[REPEATED] += 1

    def rest(self, name: str) -> int:
        """Take in the images without a row as unlabelled, but not those for testing; returns how many."""
        count = 0
        for id_ in self.tree.files:
            if id_ in self.files or id_ in self.left_out:
                continue
            if self._part_of_folder(id_, None) in ("val", "test"):
                self.tree.ignored[UNLABELED_TEST] += 1
                continue
            self.files[id_] = ImageFile(id_, self.tree.source(id_), "unlabeled", None, f"no row in {name}")
            count += 1
        return count
