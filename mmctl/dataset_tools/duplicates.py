"""Equal images: within a part, in two parts (which makes test figures too good), and with different labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from mmctl.data.images import class_of
from mmctl.plugin import Images

CHUNK = 1024


class Place(NamedTuple):
    """One image: where it is, and its class; -1 = no label."""

    part: str
    id: str
    label: int


def equal_images(images: Mapping[str, Images]) -> list[list[Place]]:
    """Groups of two or more images with the same pixels, in the order of the data set."""
    groups: dict[bytes, list[Place]] = {}
    for name, part in images.items():
        labels = class_of(part)
        for row, key in enumerate(_keys(part)):
            groups.setdefault(key, []).append(Place(name, part.ids[row], int(labels[row])))
    return [group for group in groups.values() if len(group) > 1]


def constant_images(part: Images) -> list[str]:
    """Ids of images in which every pixel of a channel has the same value: nothing can be learnt from them."""
    found: list[str] = []
    for start in range(0, len(part.ids), CHUNK):
        pixels = np.asarray(part.pixels[start : start + CHUNK])
        flat = (pixels == pixels[:, :, :1, :1]).all((1, 2, 3))
        found += [part.ids[start + row] for row in np.flatnonzero(flat).tolist()]
    return found


def grey(part: Images) -> bool:
    """Whether all images have three equal channels."""
    if part.pixels.shape[1] != 3:
        return False
    for start in range(0, len(part.ids), CHUNK):
        pixels = np.asarray(part.pixels[start : start + CHUNK])
        if (pixels[:, 0] != pixels[:, 1]).any() or (pixels[:, 0] != pixels[:, 2]).any():
            return False
    return True


def _keys(part: Images) -> Iterator[bytes]:
    for start in range(0, len(part.ids), CHUNK):  # of a memory map, only so much is in memory at once
        for row in np.asarray(part.pixels[start : start + CHUNK]):
            yield blake2b(row.tobytes(), digest_size=16).digest()
