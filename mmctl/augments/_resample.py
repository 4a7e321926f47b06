"""Crop the centre of each image and resize it to full size, with the same integer arithmetic as PIL.

B batch, C channels, H height, W width, K margins, M methods, L length of an axis, T taps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

BITS = 22  # of PIL's whole-number weights
TAPS = 7  # of the widest filter

FILTERS: tuple[tuple[float, Callable[[np.ndarray], np.ndarray]], ...] = (
    (3.0, lambda t: np.sinc(t) * np.sinc(t / 3)),  # Lanczos
    (2.0, lambda t: np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2)),  # bicubic
    (1.0, lambda t: 1 - t),  # bilinear
    (0.5, np.ones_like),  # box
    (1.0, lambda t: np.sinc(t) * (0.54 + 0.46 * np.cos(np.pi * t))),  # Hamming
)
"""Radius of each of PIL's filters, and its weight as a function of distance; "nearest" is the sixth method."""


def taps(side: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels and weights for resizing an axis after a margin of 0..most pixels is cut off at both ends.

    For each margin, method and output pixel: the first source pixel, KML, and the weights of it and the pixels after
    it, KMLT.
    """
    first = np.zeros((most + 1, len(FILTERS) + 1, side), np.int64)
    weight = np.zeros((*first.shape, TAPS), np.int32)
    for margin in range(most + 1):
        inner = side - 2 * margin
        centre = (np.arange(side) + 0.5) * (inner / side)
        for method, (reach, shape) in enumerate(FILTERS):
            start = np.trunc(centre - reach + 0.5).clip(0)
            stop = np.trunc(centre + reach + 0.5).clip(0, inner)
            at = start[:, None] + np.arange(TAPS)
            distance = np.abs(at + 0.5 - centre[:, None])
            w = np.where((at < stop[:, None]) & (distance <= reach), shape(distance), 0.0)
            w = w / w.sum(1, keepdims=True) * (1 << BITS)
            first[margin, method] = margin + start
            weight[margin, method] = np.trunc(w + np.copysign(0.5, w))
        # For "nearest", PIL sums up its steps: the rounding errors must be the same.
        steps = np.full(side, inner / side)
        steps[0] /= 2
        first[margin, -1] = margin + np.trunc(np.cumsum(steps))
        weight[margin, -1, :, 0] = 1 << BITS
    return first, weight


def resampled(x_BCHW: Tensor, first_BL: Tensor, weight_BLT: Tensor, dim: int) -> Tensor:
    """Resize along the axis (2 or 3): each pixel is the weighted sum of its source pixels, rounded."""
    x, last = x_BCHW.int(), x_BCHW.shape[dim] - 1
    shape = [len(x), 1, 1, 1]
    shape[dim] = -1
    total = torch.full_like(x, 1 << (BITS - 1))
    for tap in range(TAPS):
        at = (first_BL + tap).clamp_max(last).view(shape).expand_as(x)
        total += x.gather(dim, at) * weight_BLT[..., tap].view(shape)
    return (total >> BITS).clamp_(0, 255).to(torch.uint8)
