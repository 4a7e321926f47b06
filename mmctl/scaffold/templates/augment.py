"""An augmentation: it changes the images of a batch, each with its own random numbers.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from mmctl.plugin import augment


@augment("my_component")
class MyComponent:
    """Makes images brighter or darker; each image has its own factor.

    Args:
        strength: Largest change: factors lie between 1 - strength and 1 + strength.
    """

    # Arguments before the * are supplied by mmctl: an augmentation may ask for in_channels, image_size and augments.
    # Arguments after the * are parameters of the recipe; mmctl checks their types and bounds.
    def __init__(self, *, strength: Annotated[float, Field(ge=0, le=1)] = 0.3) -> None:
        self.strength = strength

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """All random numbers for n images, from the generator of the step: so a resumed run is exact."""
        return {"factor": rng.uniform(1 - self.strength, 1 + self.strength, n).astype(np.float32)}

    def apply(self, x_BCHW: Tensor, *, factor: Tensor) -> Tensor:
        """The whole batch at once, on the device: uint8 in, uint8 of the same shape out."""
        x_BCHW = x_BCHW.to(torch.float32) * factor.view(-1, 1, 1, 1)
        return x_BCHW.round().clamp(0, 255).to(torch.uint8)
