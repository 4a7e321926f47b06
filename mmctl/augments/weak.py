"""Augmentation by a flip and a shifted crop, the weak policy of nearly every paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from mmctl.plugin import DataError, augment


def reflect(at: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1 mirrored into it, the edge pixel not repeated; up to size - 1 beyond."""
    return (size - 1) - ((size - 1) - at.abs()).abs()


@augment("flip_crop")
class FlipCrop:
    """Horizontal flip, and a crop shifted by up to `pad` pixels within the reflected surroundings.

    Args:
        flip: Probability of the flip; 0 for digits and other pictures that have a left and a right.
        pad: Largest shift in pixels along each axis; all shifts from -pad to pad are equally likely.
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        *,
        flip: Annotated[float, Field(ge=0, le=1)] = 0.5,
        pad: Annotated[int, Field(ge=0)] = 4,
    ) -> None:
        side = image_size if isinstance(image_size, int) else min(image_size)
        if pad >= side:
            raise DataError(f"flip_crop: pad = {pad} needs pictures larger than {pad} px, and a side here is {side} px")
        self.flip, self.pad = flip, pad

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Whether each picture is flipped, and its shifts."""
        return {
            "flip": (rng.random(n) < self.flip).astype(np.int64),
            "down": rng.integers(-self.pad, self.pad + 1, n),
            "right": rng.integers(-self.pad, self.pad + 1, n),
        }

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """One gather: pixel (i, j) comes from (i + down, j + right), j counted from the other side if flipped."""
        _, channels, height, width = x_BCHW.shape
        rows_BH = torch.arange(height, device=x_BCHW.device) + draws["down"][:, None]
        across = torch.arange(width, device=x_BCHW.device)
        flip_B1 = draws["flip"][:, None]
        columns_BW = across + flip_B1 * (width - 1 - 2 * across) + draws["right"][:, None]
        at_BHW = reflect(rows_BH, height)[:, :, None] * width + reflect(columns_BW, width)[:, None, :]
        at_BCN = at_BHW.flatten(1)[:, None].expand(-1, channels, -1)
        return x_BCHW.flatten(2).gather(2, at_BCN).view(x_BCHW.shape)
