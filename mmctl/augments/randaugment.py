"""RandAugment in the two forms of semi-supervised papers: random operations one after the other, then a cut-out patch.

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
Count = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(ge=0)]
Bits = Annotated[int, Field(ge=0, le=8)]
Level = Annotated[int, Field(ge=0, le=256)]
Degrees = Annotated[float, Field(ge=0, le=180)]

FACTORS = (_pil_ops.BRIGHTNESS, _pil_ops.COLOR, _pil_ops.CONTRAST, _pil_ops.SHARPNESS)
OPAQUE = range(_pil_ops.AUTOCONTRAST, _pil_ops.SOLARIZE + 1)


class RandAugment:
    """What both forms share.

    Args:
        num_ops: Operations for each image, drawn one by one: the same one may come twice.
        without: Operations that are not drawn, of autocontrast, brightness, color, contrast, equalize, identity,
            posterize, rotate, sharpness, shear_x, shear_y, solarize, translate_x, translate_y.
        enhance: Range of the factor of brightness, color, contrast and sharpness: 1 leaves the image as it is, 0
            makes it black, grey, flat or blurred.
        posterize: Range of the bits that posterize keeps of each value; at least one is kept.
        rotate: Largest rotation in degrees, either way.
        shear: Largest shear, either way: pixels sideways for a pixel down, or down for a pixel sideways.
        solarize: Range of the value from which on solarize inverts.
        translate: Largest shift, either way: pixels if a whole number, a share of the side if not (0.3).
        fill: Colour of the patch, a grey or [red, green, blue].
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
        """The numbers of operations nS.

        `along` / of, 0..1, is the way from one end of a range to the other; `either` / of, -1..1, that of operations
        which go either way. whole: degrees, pixels and thresholds are cut to whole numbers.
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
        # PIL inverts what is not below the threshold: of whole values, what is not below the next whole number.
        threshold = np.ceil(self.solarize[0] + cut(between(*self.solarize)))
        level = np.where(op == _pil_ops.POSTERIZE, bits, np.where(op == _pil_ops.SOLARIZE, threshold, 0.0))
        return {"op": op, "matrix": matrix, "factor": factor.astype(np.float32), "level": level.astype(np.int64)}

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """LossTerm by slot a warp, a blend or a tone curve; then the patch."""
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
    """RandAugment as FixMatch has it: each of 2 operations with probability .5, levels 1 to 9 of 10, then cutout.

    The defaults are those of the authors' code (google-research/fixmatch: `RAND_AUGMENT_CUTOUT`, libml/augment.py and
    third_party/auto_augment): each operation is one level of ten, cut to whole degrees, pixels, bits and values. The
    paper's table of ranges (and the PyTorch port kekmodel/FixMatch-pytorch) is

        enhance = [0.05, 0.95]
        posterize = [4, 8]
        translate = 0.3
        outside = "black"

    where the code keeps 4 bits to 1, shifts by up to 9 px whatever the size, and goes beyond the image in
    brightness, color, contrast and sharpness. Its patch is 16 px on images of any size: 0.5 is that at 32 px.
    On grey images `color` changes nothing.

    Args:
        probability: Probability with which each drawn operation is applied.
        magnitude: Levels are drawn from 1 to this less one, of 10; all are equally likely.
        cutout: Side of the patch: pixels if a whole number, a share of the shorter side if not; 0 = no patch. Its
            middle is any pixel, so it may reach over the edge.
        outside: What a warp shows from beyond the image: "fill" as the authors' code (until an autocontrast,
            equalize, posterize or solarize after it has taken it for black), or PIL's "black".
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
        """Operations, levels, directions, and the middle of the patch."""
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
    """RandAugment as TorchSSL and USB have it: 3 operations, always applied and any strength, then a random patch.

    Source: microsoft/Semi-supervised-learning, semilearn/datasets/augmentation/randaugment.py. Unlike FixMatch's own,
    strengths are real numbers anywhere in their range, factors stay below 1, posterize keeps 4 to 7 bits, shifts are
    shares of the side, beyond the image is black, and the patch is of any size up to half the width. It is not
    shrunk at the upper and left edge. On grey images `color` changes nothing, and the patch is the grey of `fill`.

    Args:
        cutout: Largest side of the patch as a share of the width; an image's own is drawn from 0 to this.
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
            # PIL's rectangle takes its last pixel in; a side of 0 is no rectangle.
            last = np.minimum(np.trunc(np.minimum(most, first + side)) + 1, most)
            corners.append((first, np.where(side > 0, last, first)))
        box = np.stack([end for ends in zip(*corners, strict=True) for end in ends], -1).astype(np.int64)
        return {**self.changes(op, along, 2 * along - 1, 1, whole=False), "box": box}
