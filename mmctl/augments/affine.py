"""Augmentation with one random affine warp and noise: for digits, and (in faces.py) for faces."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from mmctl import ops
from mmctl.plugin import augment

NotNegative = Annotated[float, Field(ge=0)]
Padding = Literal["border", "reflection", "zeros"]


@augment("affine")
class Affine:
    """Rotation, zoom, shear, shift and flip in one bilinear warp, then Gaussian noise.

    Args:
        rotate: Largest rotation in degrees, in both directions.
        zoom: Largest zoom, as a logarithm, drawn for each axis: .1 is 0.905 to 1.105 times.
        shift: Largest shift in pixels along each axis.
        shear: Largest shear: pixels sideways per pixel down.
        flip: Probability of a horizontal flip.
        noise: Standard deviation of the noise, where black is 0 and white is 1.
        padding: Pixels outside the image: repeat the "border", "reflection", or black "zeros".
    """

    def __init__(
        self,
        *,
        rotate: Annotated[float, Field(ge=0, le=180)] = 10.0,
        zoom: Annotated[float, Field(ge=0, le=2)] = 0.1,
        shift: NotNegative = 1.0,
        shear: NotNegative = 0.1,
        flip: Annotated[float, Field(ge=0, le=1)] = 0.0,
        noise: NotNegative = 0.04,
        padding: Padding = "border",
    ) -> None:
        self.rotate, self.zoom, self.shift, self.shear = rotate, zoom, shift, shear
        self.flip, self.noise, self.padding = flip, noise, padding

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """The parameters of the warp, uniformly distributed, and a seed for the noise, for each image."""
        turn, zoom_down, zoom_right, shear, down, right = rng.uniform(-1, 1, (6, n)).astype(np.float32)
        return {
            "turn": turn * np.float32(np.deg2rad(self.rotate)),
            "zoom_down": zoom_down * np.float32(self.zoom),
            "zoom_right": zoom_right * np.float32(self.zoom),
            "shear": shear * np.float32(self.shear),
            "down": down * np.float32(self.shift),
            "right": right * np.float32(self.shift),
            "flip": (rng.random(n) < self.flip).astype(np.int64),
            "noise": rng.integers(0, 2**62, n),
        }

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """Warp in float32, add noise, round to uint8."""
        warped = torch.nn.functional.grid_sample(
            x_BCHW.float(),
            self.sources(x_BCHW.shape[2], x_BCHW.shape[3], draws),
            mode="bilinear",
            padding_mode=self.padding,
            align_corners=False,
        )
        if self.noise:
            warped = warped + 255 * self.noise * ops.hashed_normal(draws["noise"], x_BCHW.shape[1:])
        return warped.round().clamp(0, 255).to(torch.uint8)

    def sources(self, height: int, width: int, draws: dict[str, Tensor]) -> Tensor:
        """The position that each pixel comes from, BHW2 in grid_sample's coordinates (x first, -1..1 edge to edge).

        Computed in pixels from the centre (x right, y down): the inverse of shift, rotation, zoom, shear, then flip.
        """
        device = draws["turn"].device
        x_1W = torch.arange(width, device=device)[None, None] - (width - 1) / 2
        y_H1 = torch.arange(height, device=device)[None, :, None] - (height - 1) / 2
        turn, zoom_x, zoom_y, shear, right, down = (
            draws[name][:, None, None] for name in ("turn", "zoom_right", "zoom_down", "shear", "right", "down")
        )
        x, y = x_1W - right, y_H1 - down
        x, y = turn.cos() * x + turn.sin() * y, turn.cos() * y - turn.sin() * x
        x, y = x * (-zoom_x).exp(), y * (-zoom_y).exp()
        x = (x - shear * y) * (1 - 2 * draws["flip"][:, None, None])
        return torch.stack((x * (2 / width), y * (2 / height)), -1)
