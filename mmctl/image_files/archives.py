"""Images inside of tar shards: read where they lie, by place and size, never unpacked."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import DataError
from mmctl.image_files import tables
from mmctl.image_files.files import LARGEST, ImageFile, Part, Stamp
from mmctl.image_files.folders import UNLABELED_TEST
from mmctl.image_files.label_files import LABELS, clean_label
from mmctl.image_files.tree import IMAGES, Tree, is_left_out
from mmctl.image_files.words import file_id, part_in, quoted

SIDE = (".cls", ".json", ".txt")
"""What says the class of an image with the same key, the first of them that does."""
LONGEST_SIDE = 2**20


class InArchive(NamedTuple):
    """An image inside of an archive that is not compressed."""

    path: Path
    place: int  # of its first byte
    size: int

    def read(self) -> bytes:
        """All bytes. OSError if the archive became shorter, or the image is larger than any."""
        if self.size > LARGEST:
            raise OSError(f"has {self.size:,} bytes, more than {LARGEST:,}")
        with self.path.open("rb") as file:
            file.seek(self.place)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.path} ends inside of the image")
        return data

    def stamp(self) -> Stamp:
        """Size and times of the archive, and the place in it."""
        stat = self.path.stat()
        return Stamp(str(self.path), stat.st_size, stat.st_mtime_ns, self.place, stat.st_ctime_ns)


def tar_files(tree: Tree, names: list[str]) -> list[ImageFile]:
    """The images of these shards, whose names or folders say the part (else train); what is wrong is in `problems`.

    The class of KEY.jpg is in KEY.cls, KEY.json (label, class ...) or KEY.txt, as webdataset writes them.
    """
    files: list[ImageFile] = []
    for name in sorted(names):
        files += _shard(tree, name, tree.path(tree.others[name]))
    return files


def _shard(tree: Tree, name: str, path: Path) -> Iterator[ImageFile]:
    part: Part = part_in(name) or "train"
    images: dict[str, tuple[str, InArchive]] = {}  # id -> key, place
    labels: dict[str, dict[str, str]] = {}  # key -> suffix -> text
    try:
        for member, content in _members(tree, name, path):
            key, suffix = posixpath.splitext(member.name.removeprefix("./"))
            if content is not None:
                labels.setdefault(key, {})[suffix.lower()] = content
            elif (id_ := f"{name}/{file_id(key + suffix)}") in images:
                tree.problems.add(f"{quoted(id_)}: is twice in the archive. Write it again.")
            else:
                images[id_] = key, InArchive(path, member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        tree.problems.add(
            f"{name}: is not a tar file that can be read ({' '.join(str(error).split())}). Copy it again."
        )
        return
    for id_, (key, source) in images.items():
        folder, base = posixpath.split(key)
        short = posixpath.join(folder, base.partition(".")[0])  # the key of webdataset ends at the first dot
        try:
            label = _label(labels.get(key) or labels.get(short, {}), name)
        except ValueError as error:
            tree.problems.add(f"{quoted(id_)}: {error}")
            continue
        if label is None and part in ("val", "test"):
            tree.ignored[UNLABELED_TEST] += 1
            continue
        tree.used.add(name)
        yield ImageFile(id_, source, "unlabeled" if label is None else part, label, name)


def _members(tree: Tree, name: str, path: Path) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
    """Images, and files that say a class with their text; the archive is read from its beginning to its end once."""
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", errorlevel=2) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it keeps all of them otherwise
            if member.isdir():
                continue
            suffix = posixpath.splitext(member.name)[1].lower()
            if reason := is_left_out(member.name):
                tree.ignored[reason] += 1
            elif suffix not in IMAGES and suffix not in SIDE:
                tree.ignored[f"no image: {suffix or 'no suffix'}"] += 1
            elif not member.isreg() or member.issparse():
                tree.problems.add(f"{name}: {quoted(member.name)}: is a link or no regular file. Write it as a file.")
            elif member.offset_data + member.size > os.fstat(file.fileno()).st_size:
                raise tarfile.ReadError("it is cut off")
            elif suffix in IMAGES:
                yield member, None
            elif member.size <= LONGEST_SIDE and (content := tar.extractfile(member)) is not None:
                yield member, content.read().decode("utf-8-sig", "replace")
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile itself takes a damaged header for the end
            raise tarfile.ReadError(f"it is damaged at byte {tar.offset}")


def _label(sides: dict[str, str], name: str) -> str | None:
    for suffix in SIDE:
        if (text := sides.get(suffix)) is None:
            continue
        if suffix != ".json":
            return clean_label(text)
        try:
            found = tables.parse_json(text, name)
        except DataError as error:
            raise ValueError(f"its .json: {error}") from None
        if isinstance(found, dict):
            lower = {key.lower(): value for key, value in found.items()}
            if (key := next((one for one in LABELS if one in lower), None)) is not None:
                return clean_label(tables.cell(lower[key]))
    return None
