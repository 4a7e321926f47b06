"""PIL's operations by their names and natural parameters, one picture at a time, and pictures to try them on."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
CURVES = {"autocontrast": ImageOps.autocontrast, "equalize": ImageOps.equalize, "invert": ImageOps.invert}
FILTERS = {"smooth": ImageFilter.SMOOTH, "blur": ImageFilter.BLUR}


def pil(name: str, image: Image.Image, value: float) -> Image.Image:
    """One operation. value: degrees, pixels for a pixel, pixels, factor, bits, threshold, or share of a change."""
    matrix = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value),
    }
    if name == "identity":
        return image
    if name == "rotate":
        return image.rotate(value)
    if name in matrix:
        return image.transform(image.size, Image.Transform.AFFINE, matrix[name])
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(value)
    if name == "posterize":
        return ImageOps.posterize(image, int(value))
    if name == "solarize":
        return ImageOps.solarize(image, value)  # type: ignore[arg-type]
    changed = CURVES[name](image) if name in CURVES else image.filter(FILTERS[name])
    return Image.blend(image, changed, value)


def to_pil(picture_CHW: Any) -> Image.Image:
    """A picture of 1 or 3 channels as L or RGB."""
    array = np.asarray(picture_CHW)
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))


def from_pil(image: Image.Image) -> np.ndarray:
    """CHW."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def each(name: str, x_BCHW: Tensor, value: float) -> Tensor:
    """The operation on every picture of a batch."""
    return torch.from_numpy(np.stack([from_pil(pil(name, to_pil(picture), value)) for picture in x_BCHW]))


@cache
def _photographs() -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return np.concatenate([load_sample_image("china.jpg"), load_sample_image("flower.jpg")])


def pictures(channels: int, height: int, width: int, n: int = 64, seed: int = 0) -> Tensor:
    """Cut-outs of photographs, noise of every contrast, and pictures on which curves are hard; n of them, BCHW."""
    rng = np.random.default_rng(seed)
    source = _photographs()
    found = []
    for k in range(n):
        i, j = rng.integers(source.shape[0] - height), rng.integers(source.shape[1] - width)
        picture = source[i : i + height, j : j + width]
        if k % 4 == 1:
            low, high = np.sort(rng.integers(0, 257, 2))
            picture = rng.integers(low, max(high, low + 1), picture.shape)
        elif k % 8 == 3:  # few values, or one: nothing to stretch, no step to equalize
            picture = rng.choice(rng.integers(0, 256, k // 8 + 1), picture.shape)
        elif k % 8 == 7:  # ends of the range
            picture = np.where(picture > rng.integers(256), 255, np.where(picture < 40, 0, picture))
        found.append(picture[..., :channels])
    return torch.from_numpy(np.stack(found).astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
