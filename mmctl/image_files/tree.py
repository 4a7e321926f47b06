"""Walks a folder once: its image files by their ids, files that may hold labels or images, and what is left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmctl.errors import DataError
from mmctl.image_files.files import InFolder, kind_of
from mmctl.image_files.words import Problems, file_id, quoted
from mmctl.text import display_path

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
PACKED = frozenset({".tar", ".tgz", ".gz", ".zip"})
OTHERS = PACKED | {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt", ".parquet"}
"""Files that may hold labels, or images inside."""
SYSTEM = frozenset({
    "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "__pycache__", "$recycle.bin",
    "system volume information", "@eadir", "lost+found", "icon\r",
})  # fmt: skip
HIDDEN, OF_SYSTEM = "hidden (the name begins with a dot)", "of the operating system"


@dataclass
class Tree:
    """What a folder holds. Ids are paths below the root, with "/", in normal form C."""

    root: Path
    problems: Problems
    files: dict[str, str] = field(default_factory=dict)  # images: id -> path below the root as the system spells it
    others: dict[str, str] = field(default_factory=dict)  # the same of files that may hold labels, or images inside
    folders: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    used: set[str] = field(default_factory=set)  # those of `others` that say something about images, or hold some

    def __post_init__(self) -> None:
        self.root_text = str(self.root)

    def path(self, path: str) -> Path:
        """The whole path of a value of `others`."""
        return self.root / path

    def source(self, id_: str) -> InFolder:
        """Where the bytes of an image are."""
        return InFolder(self.root_text, self.files[id_])

    def count_others(self) -> None:
        """Count the files that turned out to hold nothing as ignored."""
        for one in self.others.keys() - self.used:
            self.ignored[_by_suffix(one)] += 1


def is_left_out(path: str) -> str:
    """Why a path is left out: one of its names is hidden, or of the operating system. Empty if it is not."""
    names = path.lower().removeprefix("./").split("/")
    if any(name.startswith(".") for name in names):
        return HIDDEN
    return OF_SYSTEM if any(name in SYSTEM for name in names) else ""


def _by_suffix(name: str) -> str:
    return f"no image: {os.path.splitext(name)[1].lower() or 'no suffix'}"  # noqa: PTH122


@dataclass
class _Folder:
    id: str  # with "/" at its end, "" = the root
    path: str
    behind: tuple[str, ...] = ()  # real paths of the folders with the links that lead here


def walk(root: Path) -> Tree:
    """All files below a folder. DataError if there is none; what cannot be used is in `problems`.

    Links are followed inside of the folder alone. Only their names and kinds are looked at, no file is opened.
    """
    try:
        real = os.path.realpath(root, strict=True)
        if not Path(real).is_dir():
            what = "a file, not a folder. Unpack archives first" if root.is_file() else "not a folder"
            raise DataError(f"{display_path(root)}: is {what}.")
    except OSError as error:
        said = "there is no such folder" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
        more = "Give the folder with the images (in a recipe: dataset.root)."
        raise DataError(f"{display_path(root)}: {said}. {more}") from None
    tree = Tree(Path(real), Problems(root))
    walker = _Walker(tree, real)
    waiting = [_Folder("", "")]
    while waiting:  # real folders first, so that an image has the same id whatever links there are
        waiting += walker.read(waiting.pop())
    while walker.links:
        waiting = list(walker.follow(walker.links.pop(0)))
        while waiting:
            folder = waiting.pop()
            if walker.first_time(folder):
                waiting += walker.read(folder)
    return tree


class _Walker:
    def __init__(self, tree: Tree, real: str) -> None:
        self.tree, self.real = tree, real
        self.links = list[_Folder]()
        self.linked = dict[tuple[int, int], str]()

    def read(self, folder: _Folder) -> Iterator[_Folder]:
        """Take in the files of a folder; yields its folders."""
        tree, files, ignored = self.tree, self.tree.files, self.tree.ignored
        try:
            with os.scandir(os.path.join(self.real, folder.path)) as found:  # noqa: PTH118
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            tree.problems.add(f"{quoted(folder.id)}: the folder cannot be read ({error.strerror}). Change its rights.")
            return
        for entry in entries:
            name = entry.name
            dot = name.rfind(".")
            suffix = name[dot:].lower() if dot > 0 else ""
            if dot == 0 or name[0] == ".":
                ignored[HIDDEN] += 1
                continue
            if suffix not in IMAGES and name.lower() in SYSTEM:
                ignored[OF_SYSTEM] += 1
                continue
            id_, path = file_id(folder.id + name), folder.path + name
            if entry.is_symlink():
                kind = self._kind_of_link(id_, path, suffix)
            elif entry.is_file(follow_symlinks=False):
                kind = "file"
            elif entry.is_dir(follow_symlinks=False):
                kind = "folder"
            else:
                kind = self._special(id_, entry.stat(follow_symlinks=False).st_mode, suffix)
            if kind == "file":
                if suffix in IMAGES:
                    self._take(files, id_, path)
                elif suffix in OTHERS:
                    self._take(tree.others, id_, path)
                else:
                    ignored[_by_suffix(name)] += 1
            elif kind == "folder" and self._take(tree.folders, id_, path):
                yield _Folder(id_ + "/", path + "/", folder.behind)
            elif kind == "link" and self._take(tree.folders, id_, path):
                above = os.path.realpath(os.path.join(self.real, folder.path))  # noqa: PTH118
                self.links.append(_Folder(id_ + "/", path + "/", (*folder.behind, above)))
            elif kind == "left":
                ignored[_by_suffix(name)] += 1

    def _take(self, into: dict[str, str], id_: str, path: str) -> bool:
        if (other := into.setdefault(id_, path)) is path:
            return True
        self.tree.problems.add(
            f"{quoted(id_)}: two files have this name in different Unicode forms "
            f"({os.path.basename(other)!a} and {os.path.basename(path)!a}). Rename one."  # noqa: PTH119
        )
        return False

    def _special(self, id_: str, mode: int, suffix: str) -> str:
        if suffix and suffix not in IMAGES:
            return "left"
        self.tree.problems.add(f"{quoted(id_)}: is {kind_of(mode)}, not an image. Remove it.")
        return ""

    def _kind_of_link(self, id_: str, path: str, suffix: str) -> str:
        """What a link leads to: "file", "link" (a folder), "left", or "" after a problem."""
        whole = os.path.join(self.real, path)  # noqa: PTH118
        try:
            mode = os.stat(whole).st_mode  # noqa: PTH116
        except OSError as error:
            if suffix and suffix not in IMAGES:
                return "left"
            why = "to itself" if not isinstance(error, FileNotFoundError) else "to nothing"
            self.tree.problems.add(f"{quoted(id_)}: is a link that leads {why}. Remove it, or restore its target.")
            return ""
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            return self._special(id_, mode, suffix)
        if stat.S_ISREG(mode) and suffix not in IMAGES and suffix not in OTHERS:
            return "left"
        target = os.path.realpath(whole)
        if target != self.real and not target.startswith(self.real.rstrip("/") + "/"):
            self.tree.problems.add(
                f"{quoted(id_)}: is a link that leads out of the folder, to {quoted(target)}. Copy the files, or give "
                "a folder that holds both."
            )
            return ""
        return "link" if stat.S_ISDIR(mode) else "file"

    def follow(self, link: _Folder) -> Iterator[_Folder]:
        """The folder that a link leads to, if that is not one in which the link is."""
        target = os.path.realpath(os.path.join(self.real, link.path))  # noqa: PTH118
        for above in link.behind:
            if (above + "/").startswith(target.rstrip("/") + "/"):
                shown = file_id(os.path.relpath(target, self.real))
                self.tree.problems.add(
                    f"{quoted(link.id)}: a loop: this link leads back to "
                    f"{'the folder itself' if shown == '.' else quoted(shown)}, in which it is. Remove it."
                )
                return
        yield link

    def first_time(self, folder: _Folder) -> bool:
        """Whether no other link led to this folder, so that links to links cannot make a tree without end."""
        info = os.stat(os.path.join(self.real, folder.path))  # noqa: PTH116, PTH118
        other = self.linked.setdefault((info.st_dev, info.st_ino), folder.id)
        if other != folder.id:
            self.tree.problems.add(
                f"{quoted(folder.id)}: leads to the same folder as the link {quoted(other)}. Remove one of them."
            )
        return other == folder.id
