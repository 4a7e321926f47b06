"""Augmentation with a flip and a shifted crop: the weak augmentation of nearly every paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from mmctl.augments import _geometry
from mmctl.plugin import DataError, augment


def reflect(far: Tensor, last: int) -> Tensor:
    """Positions last - far, mirrored into 0..last if outside (at most `last` px); the edge is not repeated."""
    return (last - far.abs()).abs()


@augment("flip_crop")
class FlipCrop:
    """Horizontal flip, and a crop shifted by up to `pad` pixels from the image padded by reflection.

    Args:
        flip: Probability of the flip; use 0 for digits and other images that change their meaning when mirrored.
        pad: Largest shift in pixels along each axis; all shifts from -pad to pad are equally likely.
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        *,
        flip: Annotated[float, Field(ge=0, le=1)] = 0.5,
        pad: Annotated[int, Field(ge=0, le=10**5)] = 4,
    ) -> None:
        side = min(_geometry.sides(image_size))
        if pad >= side:
            raise DataError(f"flip_crop: pad = {pad} needs images larger than {pad} px, but a side is {side} px")
        self.flip, self.pad = flip, pad

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Whether each image is flipped, and its shifts."""
        return {
            "flip": (rng.random(n) < self.flip).astype(np.int64),
            "down": rng.integers(-self.pad, self.pad + 1, n),
            "right": rng.integers(-self.pad, self.pad + 1, n),
        }

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """One gather: pixel (i, j) comes from (i + down, j + right), j counted from the other side if flipped."""
        _, channels, height, width = x_BCHW.shape
        # Positions are counted from the far edge: so mirroring takes the fewest operations.
        down_B1, right_B1, flip_B1 = (draws[name][:, None] for name in ("down", "right", "flip"))
        below_H = torch.arange(height - 1, -1, -1, device=x_BCHW.device)
        beyond_W = torch.arange(width - 1, -1, -1, device=x_BCHW.device)
        rows_BH = reflect(below_H - down_B1, height - 1)
        columns_BW = reflect(torch.sub(beyond_W, flip_B1, alpha=width - 1).abs() - right_B1, width - 1)
        at_BHW = torch.add(columns_BW[:, None, :], rows_BH[:, :, None], alpha=width)
        at_BCN = at_BHW.flatten(1)[:, None].expand(-1, channels, -1)
        return x_BCHW.flatten(2).gather(2, at_BCN).view(x_BCHW.shape)
