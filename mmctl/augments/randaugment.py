"""RandAugment in the two forms of semi-supervised papers: random operations one after another, then cutout.

n samples, S slots (operations in a row), B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from mmctl.augments import _geometry, _pil_ops
from mmctl.augments._geometry import Fill, Share, Size
from mmctl.plugin import augment

OPERATIONS = (
    "autocontrast", "brightness", "color", "contrast", "equalize", "identity", "posterize", "rotate", "sharpness",
    "shear_x", "shear_y", "solarize", "translate_x", "translate_y",
)  # fmt: skip
Count = Annotated[int, Field(ge=0, le=100)]
Factor = Annotated[float, Field(ge=0)]
Bits = Annotated[int, Field(ge=0, le=8)]
Level = Annotated[int, Field(ge=0, le=256)]
Degrees = Annotated[float, Field(ge=0, le=180)]

FACTORS = (_pil_ops.BRIGHTNESS, _pil_ops.COLOR, _pil_ops.CONTRAST, _pil_ops.SHARPNESS)
OPAQUE = range(_pil_ops.AUTOCONTRAST, _pil_ops.SOLARIZE + 1)


class RandAugment:
    """What both forms of RandAugment share.

    Args:
        num_ops: Operations per image, drawn independently: the same one may be drawn twice.
        without: Operations to exclude, from autocontrast, brightness, color, contrast, equalize, identity,
            posterize, rotate, sharpness, shear_x, shear_y, solarize, translate_x, translate_y.
        enhance: Range of the factor of brightness, color, contrast and sharpness: 1 changes nothing; 0 makes the
            image black, grey, flat or blurred.
        posterize: Range of the number of bits that posterize keeps; at least one is kept.
        rotate: Largest rotation in degrees, in both directions.
        shear: Largest shear, in both directions: pixels sideways per pixel down, or down per pixel sideways.
        solarize: Range of the threshold of solarize: it inverts values from the threshold on.
        translate: Largest shift, in both directions: an integer is pixels, a float is a share of the side (0.3).
        fill: Colour of the patch: one grey value or [red, green, blue].
    """

    called = "RandAugment"

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        num_ops: Count,
        without: tuple[str, ...],
        enhance: tuple[Factor, Factor],
        posterize: tuple[Bits, Bits],
        rotate: Degrees,
        shear: Factor,
        solarize: tuple[Level, Level],
        translate: Size,
        fill: Fill,
        filled: bool = False,
    ) -> None:
        self.height, self.width = _geometry.sides(image_size)
        self.fill, self.filled = _geometry.colour(fill, in_channels, self.called), filled
        self.num_ops, self.ops = num_ops, np.array(_geometry.codes(OPERATIONS, without, self.called))
        self.possible = frozenset(self.ops.tolist())
        self.enhance, self.posterize, self.solarize = enhance, posterize, solarize
        self.rotate, self.shear, self.translate = rotate, shear, translate

    def changes(
        self, op: np.ndarray, along: np.ndarray, either: np.ndarray, of: int, whole: bool
    ) -> dict[str, np.ndarray]:
        """The parameters of the operations nS, as `apply` takes them.

        along / of: position in a range, 0..1. either / of: the same for operations with two directions, -1..1.
        whole: degrees, pixels and thresholds are cut to integers.
        """
        cut = np.trunc if whole else np.asarray

        def between(first: float, last: float) -> np.ndarray:
            return (last - first) * along / of

        down, right = (
            self.translate if isinstance(self.translate, int) else self.translate * side
            for side in (self.height, self.width)
        )
        none, slope = np.zeros(op.shape), self.shear * either / of
        matrix = _geometry.translation(none, none)
        for code, made in (
            (_pil_ops.ROTATE, _geometry.rotation(cut(self.rotate * either / of), self.height, self.width)),
            (_pil_ops.SHEAR_X, _geometry.shear(slope, none)),
            (_pil_ops.SHEAR_Y, _geometry.shear(none, slope)),
            (_pil_ops.TRANSLATE_X, _geometry.translation(cut(right * either / of), none)),
            (_pil_ops.TRANSLATE_Y, _geometry.translation(none, cut(down * either / of))),
        ):
            matrix = np.where((op == code)[..., None], made, matrix)
        factor = np.where(np.isin(op, FACTORS), self.enhance[0] + between(*self.enhance), 1.0)
        bits = (self.posterize[0] + np.trunc(between(*self.posterize))).clip(1, 8)
        # PIL inverts values >= threshold; for integer values, the threshold can be rounded up.
        threshold = np.ceil(self.solarize[0] + cut(between(*self.solarize)))
        level = np.where(op == _pil_ops.POSTERIZE, bits, np.where(op == _pil_ops.SOLARIZE, threshold, 0.0))
        return {"op": op, "matrix": matrix, "factor": factor.astype(np.float32), "level": level.astype(np.int64)}

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """Slot by slot a warp, a blend or a tone curve; then the patch."""
        x, channels = x_BCHW, x_BCHW.shape[1]
        inside = x.new_ones(x.shape[0], 1, *x.shape[2:]) if self.filled else None
        for slot in range(self.num_ops):
            op, matrix, factor, level = (draws[name][:, slot] for name in ("op", "matrix", "factor", "level"))
            if inside is None:
                x = _pil_ops.warped(x, op, matrix, self.possible)
            else:
                both = _pil_ops.warped(torch.cat((x, inside), 1), op, matrix, self.possible)
                x, inside = both[:, :channels], both[:, channels:]
                inside = inside | _pil_ops.among(op, OPAQUE)[:, None, None, None]
            x = _pil_ops.blended(x, op, factor, self.possible)
            x = _pil_ops.toned(x, op, factor, level, self.possible)
        if inside is not None:
            x = _pil_ops.painted(x, inside[:, 0] == 0, self.fill)
        return _pil_ops.erased(x, draws["box"], self.fill)


@augment("fixmatch_ra")
class FixMatchRandAugment(RandAugment):
    """RandAugment of FixMatch: each of 2 operations with probability .5 at a level of 1 to 9 of 10, then cutout.

    The defaults are those of the authors' code (google-research/fixmatch: `RAND_AUGMENT_CUTOUT`, libml/augment.py and
    third_party/auto_augment): ten levels, cut to whole degrees, pixels, bits and values. The ranges of the paper (and
    of the PyTorch port kekmodel/FixMatch-pytorch) are

        enhance = [0.05, 0.95]
        posterize = [4, 8]
        translate = 0.3
        outside = "black"

    The code instead keeps 1 to 4 bits, shifts by up to 9 px at any image size, and uses factors above 1 for
    brightness, color, contrast and sharpness. Its patch has 16 px at any image size; 0.5 is the same at 32 px.
    On grey images `color` changes nothing.

    Args:
        probability: Probability with which each drawn operation is applied.
        magnitude: Levels are drawn uniformly from 1 to magnitude - 1, of 10.
        cutout: Side of the patch: an integer is pixels, a float is a share of the shorter side; 0 = no patch. Its
            centre is any pixel, so part of it may be outside.
        outside: Colour that a warp brings in from outside the image: "fill" as in the authors' code (an autocontrast,
            equalize, posterize or solarize after it treats it as black), or PIL's "black".
    """

    called = "fixmatch_ra"

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        num_ops: Count = 2,
        probability: Share = 0.5,
        magnitude: Annotated[int, Field(ge=2, le=11)] = 10,
        without: tuple[str, ...] = (),
        enhance: tuple[Factor, Factor] = (0.1, 1.9),
        posterize: tuple[Bits, Bits] = (4, 0),
        rotate: Degrees = 30.0,
        shear: Factor = 0.3,
        solarize: tuple[Level, Level] = (256, 0),
        translate: Size = 10,
        cutout: Size = 0.5,
        fill: Fill = 127,
        outside: Literal["fill", "black"] = "fill",
    ) -> None:
        super().__init__(
            in_channels, image_size, num_ops=num_ops, without=without, enhance=enhance, posterize=posterize,
            rotate=rotate, shear=shear, solarize=solarize, translate=translate, fill=fill, filled=outside == "fill",
        )  # fmt: skip
        self.probability, self.magnitude = probability, magnitude
        self.side = _geometry.pixels(cutout, self.height, self.width)

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Operations, levels, directions, and the patch."""
        shape = (n, self.num_ops)
        op = self.ops[rng.integers(len(self.ops), size=shape)]
        op = np.where(rng.random(shape) < self.probability, op, _pil_ops.IDENTITY)
        level = rng.integers(1, self.magnitude, shape)
        direction = rng.integers(2, size=shape) * 2 - 1
        box = _geometry.squares(
            rng.integers(self.height, size=n), rng.integers(self.width, size=n), self.side, self.height, self.width
        )
        return {**self.changes(op, level, level * direction, 10, whole=True), "box": box}


@augment("usb_ra")
class USBRandAugment(RandAugment):
    """RandAugment of TorchSSL and USB: 3 operations, always applied, at any strength, then a patch of random size.

    Source: microsoft/Semi-supervised-learning, semilearn/datasets/augmentation/randaugment.py. Differences to
    FixMatch's: strengths are real numbers, factors stay below 1, posterize keeps 4 to 7 bits, shifts are shares of the
    side, pixels from outside the image are black, and the patch has any size up to half the width. It keeps its full
    size at the upper and left edge. On grey images `color` changes nothing, and the patch has the grey of `fill`.

    Args:
        cutout: Largest side of the patch as a share of the width; the side is drawn from 0 to this for each image.
    """

    called = "usb_ra"

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        num_ops: Count = 3,
        without: tuple[str, ...] = (),
        enhance: tuple[Factor, Factor] = (0.05, 0.95),
        posterize: tuple[Bits, Bits] = (4, 8),
        rotate: Degrees = 30.0,
        shear: Factor = 0.3,
        solarize: tuple[Level, Level] = (0, 256),
        translate: Size = 0.3,
        cutout: Share = 0.5,
        fill: Fill = (125, 123, 114),
    ) -> None:
        super().__init__(
            in_channels, image_size, num_ops=num_ops, without=without, enhance=enhance, posterize=posterize,
            rotate=rotate, shear=shear, solarize=solarize, translate=translate, fill=fill,
        )  # fmt: skip
        self.cutout = cutout

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Operations, strengths, and the patch."""
        shape = (n, self.num_ops)
        op = self.ops[rng.integers(len(self.ops), size=shape)]
        along = rng.random(shape)
        side = rng.random(n) * self.cutout * self.width
        corners = []
        for most in (self.height, self.width):
            first = np.trunc(np.maximum(rng.uniform(0, most, n) - side / 2, 0))
            # PIL's rectangle includes its last pixel; a side of 0 means no rectangle.
            last = np.minimum(np.trunc(np.minimum(most, first + side)) + 1, most)
            corners.append((first, np.where(side > 0, last, first)))
        box = np.stack([end for ends in zip(*corners, strict=True) for end in ends], -1).astype(np.int64)
        return {**self.changes(op, along, 2 * along - 1, 1, whole=False), "box": box}
