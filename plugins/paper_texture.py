"""An augmentation of one's own, made to be copied: images as if printed on rough paper.

    [augment.weak]
    name = "flip_crop"

    [augment.paper]
    name = "plugins:paper_texture"
    after = "weak"                     # printed after flip and crop
    strength = 0.1

A file in plugins/ is found by its mark, `@augment("paper_texture")`, and imported when a recipe names it:
there is nothing to register and nothing to install. `mmctl plugins show paper_texture` prints what stands here.

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
    """Paper grain laid over the image, each sample with a sheet and a strength of its own.

    Args:
        strength: Largest strength of the grain; a sample's own is drawn between 0 and this.
        grain: Width of the paper's fibres, in pixels.
        share: Share of the samples that are printed; the others stay as they are.
    """

    # Before the * would stand what mmctl supplies (in_channels, image_size, augments): this one needs none of it.
    # After the * stand the recipe's parameters: their types, bounds and defaults are checked by mmctl.
    def __init__(
        self,
        *,
        strength: Annotated[float, Field(ge=0, le=1)] = 0.1,
        grain: Annotated[int, Field(ge=1, le=16)] = 2,
        share: Annotated[float, Field(ge=0, le=1)] = 1.0,
    ) -> None:
        self.strength, self.grain, self.share = strength, grain, share

    def draw(self, rng: Generator, n: int) -> dict[str, Any]:
        """All chance, drawn here from the generator of this step: a number per sample, so that resuming is exact.

        A number per pixel would be too many to draw: draw a seed per sample, and let `apply` hash the rest from it.
        """
        strength = rng.uniform(0, self.strength, n) * (rng.random(n) < self.share)
        return {"strength": strength.astype(np.float32), "sheet": rng.integers(-(2**63), 2**63, size=n)}

    def apply(self, x_BCHW: Tensor, *, strength: Tensor, sheet: Tensor) -> Tensor:
        """All arithmetic, on the device, on the whole batch, without a look at any value: uint8 in, uint8 out."""
        H, W = x_BCHW.shape[-2:]
        height, width = -(-H // self.grain), -(-W // self.grain)
        relief = ops.hashed_normal(sheet, (1, height, width))
        if self.grain > 1:
            relief = F.interpolate(relief, scale_factor=self.grain, mode="bilinear", align_corners=False)
        relief = relief[..., :H, :W]
        # Light falls from one side: a slope that faces it is brighter, one that turns away is darker.
        light = 1 + strength.view(-1, 1, 1, 1) * (relief - relief.roll((1, 1), (-2, -1)))
        return (x_BCHW.to(torch.float32) * light).round().clamp(0, 255).to(torch.uint8)
