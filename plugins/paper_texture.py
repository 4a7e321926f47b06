"""An example of your own augmentation, to copy: images look as if printed on rough paper.

    [augment.weak]
    name = "flip_crop"

    [augment.paper]
    name = "plugins:paper_texture"
    after = "weak"                     # applied after flip and crop
    strength = 0.1

mmctl finds a file in plugins/ by its decorator, `@augment("paper_texture")`, and imports it when a recipe names it:
you need not register or install anything. `mmctl plugins show paper_texture` prints these texts.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmctl import ops
from mmctl.plugin import augment


@augment("paper_texture")
class PaperTexture:
    """Adds paper grain to images; each image has its own random grain and strength.

    Args:
        strength: Largest strength of the grain; the strength of an image is drawn between 0 and this.
        grain: Width of the paper's fibres, in pixels.
        share: Share of the images that get grain; the others do not change.
    """

    # Arguments before the * are supplied by mmctl (in_channels, image_size, augments); this class needs none of them.
    # Arguments after the * are the recipe's parameters; mmctl checks their types and bounds.
    def __init__(
        self,
        *,
        strength: Annotated[float, Field(ge=0, le=1)] = 0.1,
        grain: Annotated[int, Field(ge=1, le=16)] = 2,
        share: Annotated[float, Field(ge=0, le=1)] = 1.0,
    ) -> None:
        self.strength, self.grain, self.share = strength, grain, share

    def draw(self, rng: Generator, n: int) -> dict[str, Any]:
        """Draw all random numbers here, from the generator of the step: so a resumed run is exact.

        A number per pixel would be too slow on the CPU: draw a seed per image, and `apply` hashes numbers from it.
        """
        strength = rng.uniform(0, self.strength, n) * (rng.random(n) < self.share)
        return {"strength": strength.astype(np.float32), "seed": rng.integers(-(2**63), 2**63, size=n)}

    def apply(self, x_BCHW: Tensor, *, strength: Tensor, seed: Tensor) -> Tensor:
        """Change the whole batch on the device: uint8 in, uint8 out, without reading values back (no .item())."""
        H, W = x_BCHW.shape[-2:]
        height, width = -(-H // self.grain), -(-W // self.grain)
        relief = ops.hashed_normal(seed, (1, height, width))
        if self.grain > 1:
            relief = F.interpolate(relief, scale_factor=self.grain, mode="bilinear", align_corners=False)
        relief = relief[..., :H, :W]
        # Light comes from one side: slopes that face it are brighter, the others are darker.
        light = 1 + strength.view(-1, 1, 1, 1) * (relief - relief.roll((1, 1), (-2, -1)))
        return (x_BCHW.to(torch.float32) * light).round().clamp(0, 255).to(torch.uint8)
