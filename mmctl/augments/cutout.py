"""Cutout alone, to be chained after any other policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from torch import Tensor

from mmctl.augments import _pil_ops
from mmctl.augments._geometry import Fill, Size, colour, pixels, sides, squares
from mmctl.plugin import augment


@augment("cutout")
class Cutout:
    """Cover a square patch (DeVries and Taylor, 2017); its centre is any pixel, so part of it may be outside.

    Args:
        size: Side of the patch: an integer is pixels (16), a float is a share of the shorter side (0.5).
        fill: Colour of the patch: one grey value or [red, green, blue]; 127 is near the mean of most data sets.
    """

    def __init__(
        self, in_channels: int, image_size: int | Sequence[int], *, size: Size = 0.5, fill: Fill = 127
    ) -> None:
        self.height, self.width = sides(image_size)
        self.side, self.fill = pixels(size, self.height, self.width), colour(fill, in_channels, "cutout")

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """The patch of each image."""
        row, column = rng.integers(self.height, size=n), rng.integers(self.width, size=n)
        return {"box": squares(row, column, self.side, self.height, self.width)}

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """Paint the patch."""
        return _pil_ops.erased(x_BCHW, draws["box"], self.fill)
