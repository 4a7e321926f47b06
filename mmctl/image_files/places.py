"""Finds the image that a label file means: its paths may be relative to several folders, uploads, or lack a suffix."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmctl.image_files.files import Part
from mmctl.image_files.tree import IMAGES, Tree
from mmctl.image_files.words import file_id, part_of, quoted
from mmctl.text import display_path

UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)
"""Label Studio puts eight digits before the name of an uploaded file."""
ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]|\\\\")


class Unplaced(Exception):
    """No image, or more than one, for a path; the text says which and what to do."""


class Places:
    """Finds images by what label files say."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.files = tree, tree.files
        self._by_name: dict[str, list[str]] | None = None
        self._by_stem: dict[str, list[str]] | None = None
        self._by_upload: dict[str, list[str]] | None = None

    def base(self, label_file: Path) -> tuple[str, str]:
        """What to put before the paths of a label file, and what to take away, to have them relative to its folder."""
        folder = label_file.resolve().parent
        if folder.is_relative_to(self.tree.root):
            inside = folder.relative_to(self.tree.root).as_posix()
            return ("" if inside == "." else file_id(inside) + "/"), ""
        if self.tree.root.is_relative_to(folder):
            return "", file_id(self.tree.root.relative_to(folder).as_posix()) + "/"
        return "", ""

    def find(self, text: str, base: tuple[str, str] = ("", ""), part: Part | None = None) -> str:
        """The id of the image; base: what `base` gave; part: decides between images with the same end of the path.

        Unplaced if there is none, or several.
        """
        if exported := _exported(text):
            return self._at_the_end(text, exported, part)
        if ABSOLUTE.match(text):
            return self._absolute(text)
        before, without = base
        path = file_id(text)
        outside = 0
        for one in dict.fromkeys((path, path.strip(), path.strip().replace("\\", "/"))):
            starts = (before + one, one, one.removeprefix(without)) if one else ()
            tries = dict.fromkeys(map(posixpath.normpath, starts))
            outside += all(name == ".." or name.startswith("../") for name in tries) and bool(one)
            if found := [name for name in tries if name in self.files]:
                return self._only(text, found, part)
        if outside:
            raise Unplaced(
                f"{quoted(text)} leads out of {display_path(self.tree.root)}. Write paths inside of the folder."
            )
        if found := self._ends(posixpath.normpath(path.strip().replace("\\", "/"))):
            return self._only(text, found, part)
        known = posixpath.normpath(before + path)
        other = " (a file, but its suffix is none of an image)" if known in self.tree.others else ""
        raise Unplaced(
            f"there is no image {quoted(text)} in {display_path(self.tree.root)}{other}. Correct the path, or delete "
            "the line."
        )

    def _only(self, text: str, found: list[str], part: Part | None) -> str:
        if len(found) > 1 and part is not None:
            found = [one for one in found if part_of(one.partition("/")[0]) == part] or found
        if len(found) == 1:
            return found[0]
        raise Unplaced(
            f"{quoted(text)} may be {quoted(found[0])} or {quoted(found[1])}. Write the path from "
            f"{display_path(self.tree.root)} on."
        )

    def _ends(self, tail: str) -> list[str]:
        """Images whose path ends so, then those that do with a suffix of images."""
        if self._by_name is None:
            self._by_name = _index(self.files, posixpath.basename)
        name = posixpath.basename(tail)
        if found := [one for one in self._by_name.get(name, ()) if one == tail or one.endswith("/" + tail)]:
            return found
        if posixpath.splitext(name)[1].lower() in IMAGES:
            return []
        if self._by_stem is None:
            self._by_stem = _index(self.files, lambda one: posixpath.splitext(posixpath.basename(one))[0])
        stems = ((one, posixpath.splitext(one)[0]) for one in self._by_stem.get(name, ()))
        return [one for one, stem in stems if stem == tail or stem.endswith("/" + tail)]

    def _absolute(self, text: str) -> str:
        path = file_id(text.strip())
        for root in dict.fromkeys((self.tree.root, self.tree.problems.root.absolute())):
            start = file_id(str(root)).rstrip("/") + "/"
            inside = posixpath.normpath(path)
            if inside.startswith(start) and inside[len(start) :] in self.files:
                return inside[len(start) :]
            if inside.startswith(start):
                raise Unplaced(f"there is no image {quoted(text)}. Correct the path, or delete the line.")
        raise Unplaced(
            f"{quoted(text)} is outside of {display_path(self.tree.root)}. Write paths relative to the folder of the "
            "label file."
        )

    def _at_the_end(self, text: str, path: str, part: Part | None) -> str:
        """The image with the longest end of a path of another machine."""
        pieces = [piece for piece in file_id(path).split("/") if piece not in ("", ".", "..")]
        for i in range(len(pieces)):
            if found := self._ends("/".join(pieces[i:])):
                return self._only(text, found, part)
        if pieces and (upload := UPLOAD.fullmatch(pieces[-1])):
            if found := self._ends(upload[1]):
                return self._only(text, found, part)
            if self._by_upload is None:
                self._by_upload = _index(self.files, lambda one: _upload_name(posixpath.basename(one)))
            if found := self._by_upload.get(_upload_name(upload[1]), []):
                return self._only(text, found, part)
        raise Unplaced(
            f"there is no image in {display_path(self.tree.root)} for {quoted(text)}. Copy it there, or give the "
            "folder that holds the images."
        )


def _index(files: dict[str, str], key: object) -> dict[str, list[str]]:
    found = defaultdict(list)
    for one in files:
        found[key(one)].append(one)  # type: ignore[operator]
    return found


def _upload_name(name: str) -> str:
    """A name as servers keep it: spaces are underscores, and signs are left out."""
    return re.sub(r"[^\w.-]", "", name.replace(" ", "_"))


def _exported(text: str) -> str | None:
    """The path inside of a URL or of what Label Studio writes; None for an ordinary path."""
    if "local-files/?d=" in text:
        return unquote(text.partition("?d=")[2].partition("&")[0])
    if "://" in text:
        try:
            return unquote(urlsplit(text).path)
        except ValueError:
            return unquote(text.partition("://")[2])
    if text.startswith(("/data/upload/", "upload/")):
        return unquote(text)
    return None
