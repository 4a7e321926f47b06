"""The parts of a data set, train, val and test, from its image files and their pixels.

N images, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mmctl.component_types import Images
from mmctl.image_files.cache import Decoded
from mmctl.image_files.files import ImageFile
from mmctl.image_files.words import images as count_of

PLACE = {"train": 0, "unlabeled": 0, "val": 1, "test": 2}
"""Order of the parts. Labelled and unlabelled images stand together, by name: an image that gets a label keeps its
place, and so its row of the memory map."""
PARTS = ("train", "val", "test")
"""By place."""


def in_rows(files: Iterable[ImageFile]) -> list[ImageFile]:
    """The files in the order of the rows of a data set."""
    return sorted(files, key=lambda file: (PLACE[file.part], file.id))


def targets_of(files: Iterable[ImageFile], classes: Sequence[str]) -> np.ndarray:
    """The number of the class of each file, int64 N; -1 where it has none or is of the unlabelled part."""
    number = {name: k for k, name in enumerate(classes)}
    known = [number.get(file.label or "", -1) if file.part != "unlabeled" else -1 for file in files]
    return np.array(known, np.int64)


def images_of(
    files: Sequence[ImageFile], classes: Sequence[str], decoded: Decoded, notes: Sequence[str] = ()
) -> dict[str, Images]:
    """The parts of a data set from its decoded files. The files of a part stand together, in the order of the rows.

    The unlabelled images are rows of train, without a label. notes: about the files; with those about their pixels,
    which hold for all parts, they go to the first part.
    """
    kept = [files[row] for row in decoded.kept]
    place_N = np.array([PLACE[file.part] for file in kept])
    target_N = targets_of(kept, classes)
    bad = dict(decoded.bad)
    parts: dict[str, Images] = {}
    for place, part in enumerate(PARTS):
        rows = np.flatnonzero(place_N == place)
        if not len(rows):
            continue
        first, last = int(rows[0]), int(rows[-1]) + 1
        if last - first != len(rows):
            raise ValueError(f"the files of {part} do not stand together")
        ids = [file.id for file in kept[first:last]]
        digest = hashlib.sha256(f"{list(classes)}".encode())
        for one, target, content in zip(ids, target_N[first:last].tolist(), decoded.content[first:last], strict=True):
            digest.update(f"{one}\0{target}\0".encode("utf-8", "surrogateescape"))
            digest.update(content)
        skipped = {file.id: bad[file.id] for file in files if file.id in bad and PLACE[file.part] == place}
        if skipped:  # another list is another data set, also if the images that are left are the same
            said = (f"{name}: {why}" for name, why in skipped.items())
            digest.update("\0".join(("skipped", *said)).encode("utf-8", "surrogateescape"))
        parts[part] = Images(
            decoded.pixels[first:last], target_N[first:last], tuple(classes), ids, digest.hexdigest(), skipped=skipped
        )
    about_pixels = [f"{count_of(n)}: {what}" for what, n in decoded.notes.most_common()]
    part = next(iter(parts))
    return {**parts, part: replace(parts[part], notes=(*notes, *about_pixels))}
