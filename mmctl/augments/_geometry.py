"""Affine matrices and boxes for warps and patches, computed with numpy on the CPU exactly as PIL computes them.

n samples, S slots, H height, W width. A matrix is a, b, c, d, e, f in 1/65536 of a pixel: (row i, column j) comes
from row dj + ei + f, column aj + bi + c. A box is top, left, bottom, right; bottom and right are exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmctl.augments._pil_ops import NAMES
from mmctl.plugin import DataError

Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=0, le=10**5)] | Share
Value = Annotated[int, Field(ge=0, le=255)]
Fill = Value | tuple[Value, Value, Value]

ONE = 1 << 16
HALF = ONE // 2


def sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of an image size."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def colour(fill: Fill, channels: int, name: str) -> tuple[int, ...]:
    """The fill colour for this number of channels; an RGB colour becomes grey for grey images, as in PIL."""
    if channels not in (1, 3):
        raise DataError(f"{name} needs grey or RGB images, but these have {channels} channels")
    if isinstance(fill, int):
        return (fill,) * channels
    red, green, blue = fill
    return fill if channels == 3 else ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16,)


def codes(operations: Sequence[str], without: Sequence[str], name: str) -> list[int]:
    """The numbers of the operations, without those that the recipe excludes."""
    known = ", ".join(operations)
    if unknown := [word for word in without if word not in operations]:
        raise DataError(f'{name}: without has the unknown operation "{unknown[0]}"; its operations are {known}')
    if not (left := [word for word in operations if word not in without]):
        raise DataError(f"{name}: without excludes all operations; remove at least one from it: {known}")
    return [NAMES.index(word) for word in left]


def fixed(t: np.ndarray) -> np.ndarray:
    """Convert to 1/65536, rounded as PIL rounds."""
    return np.floor(t * ONE + 0.5).astype(np.int64)


def rotation(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """Matrices of Image.rotate: counter-clockwise about the centre. The result has one more axis, of 6."""
    turn = -np.deg2rad(degrees)
    cos, sin = np.cos(turn).round(15), np.sin(turn).round(15)
    c = cos * (-width / 2) + sin * (-height / 2) + width / 2
    f = -sin * (-width / 2) + cos * (-height / 2) + height / 2
    # PIL uses the centres of pixels.
    c, f = c + cos * 0.5 + sin * 0.5, f - sin * 0.5 + cos * 0.5
    return np.stack([fixed(t) for t in (cos, sin, c, -sin, cos, f)], -1)


def shear(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Matrices of a shear: columns from `right` px further per row, rows from `down` px further per column."""
    one, half = np.full(right.shape, ONE), np.full(right.shape, 0.5)
    return np.stack([one, fixed(right), fixed(half + 0.5 * right), fixed(down), one, fixed(half + 0.5 * down)], -1)


def translation(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Matrices of a shift: pixels come from `right` px further right and `down` px further down, rounded."""
    one, zero = np.full(right.shape, ONE), np.zeros(right.shape, np.int64)
    c, f = (np.floor(t + 0.5).astype(np.int64) * ONE + HALF for t in (right, down))
    return np.stack([one, zero, c, zero, one, f], -1)


def squares(row: np.ndarray, column: np.ndarray, side: int, height: int, width: int) -> np.ndarray:
    """Boxes of side // 2 pixels on each side of a centre, cut off at the edge: DeVries and Taylor's cutout."""
    half = side // 2
    top, bottom = np.maximum(row - half, 0), np.minimum(row + half, height)
    left, right = np.maximum(column - half, 0), np.minimum(column + half, width)
    return np.stack([top, left, bottom, right], -1)


def pixels(size: Size, height: int, width: int) -> int:
    """A size in whole pixels, from an integer (pixels) or a float (share of the shorter side)."""
    return size if isinstance(size, int) else int(size * min(height, width))
