"""A small set of images whose last two have no label."""

from __future__ import annotations

import numpy as np
import torch

from mmctl.plugin import Images


def images(n: int = 40, channels: int = 2) -> Images:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (n, channels, 4, 4)).astype(np.uint8))
    targets = np.arange(n) % 3
    targets[-2:] = -1
    return Images(pixels, targets, ("a", "b", "c"), [str(i) for i in range(n)], "f")
