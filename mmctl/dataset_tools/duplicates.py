"""What only the pixels say: equal images, images of one colour, and colour images that are grey."""

from __future__ import annotations

from collections.abc import Mapping
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


class Pixels(NamedTuple):
    """What the pixels of a data set say."""

    equal: list[list[Place]]  # groups of two or more images with the same pixels, in the order of the data set
    constant: dict[str, list[str]]  # part -> ids of images of one colour: nothing can be learnt from them
    grey: bool  # all images have three equal channels


def look_at_pixels(images: Mapping[str, Images]) -> Pixels:
    """All of it in one pass: the pixels may be gigabytes on a disk."""
    groups: dict[bytes, list[Place]] = {}
    constant: dict[str, list[str]] = {name: [] for name in images}
    grey = all(part.pixels.shape[1] == 3 for part in images.values())
    for name, part in images.items():
        labels = class_of(part).tolist()
        for start in range(0, len(part.ids), CHUNK):  # of a memory map, only so much is in memory at once
            pixels = np.asarray(part.pixels[start : start + CHUNK])
            for row, image in enumerate(pixels, start):
                key = blake2b(image.tobytes(), digest_size=16).digest()
                groups.setdefault(key, []).append(Place(name, part.ids[row], labels[row]))
            flat = (pixels == pixels[:, :, :1, :1]).all((1, 2, 3))
            constant[name] += [part.ids[start + row] for row in np.flatnonzero(flat).tolist()]
            grey = grey and bool((pixels == pixels[:, :1]).all())
    return Pixels([group for group in groups.values() if len(group) > 1], constant, grey)
