"""CTAugment (ReMixMatch, FixMatch): learns how strong each operation may be, from the network's predictions.

n samples, S slots (operations in a row), O operations, P parameters (2, of which most operations have one), V bins
(17), B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor, nn

from mmctl import ops as across
from mmctl.augments import _pil_ops
from mmctl.augments._geometry import ONE, Fill, Share, Size, codes, colour, pixels, rotation, sides, squares
from mmctl.augments._resample import resampled, taps
from mmctl.plugin import DataError, augment

OPERATIONS = (
    "autocontrast", "blur", "brightness", "color", "contrast", "cutout", "equalize", "identity", "invert", "posterize",
    "rescale", "rotate", "sharpness", "shear_x", "shear_y", "smooth", "solarize", "translate_x", "translate_y",
)  # fmt: skip
BINS = {"identity": (0, 0), "posterize": (8, 0), "rescale": (17, 6)}
MOST_BINS, MOST_DEGREES, MOST_SHEAR, MOST_MARGIN = 17, 45, 0.3, 0.25
ENHANCE = (_pil_ops.BRIGHTNESS, _pil_ops.COLOR, _pil_ops.CONTRAST, _pil_ops.SHARPNESS)
SHARES = (_pil_ops.AUTOCONTRAST, _pil_ops.EQUALIZE, _pil_ops.INVERT, _pil_ops.SMOOTH, _pil_ops.BLUR)


@augment("ctaugment")
class CTAugment(nn.Module):
    """Random operations whose strengths adapt: at a drawn strength the network still recognises labelled images.

    The range of each parameter is cut into bins. Each bin has a rate: an EMA of how well the network recognised
    labelled images augmented with it, 1 at first. Bins are drawn in proportion to their rates; a bin below `threshold`
    times the best rate of its parameter is not drawn. The method augments labelled images with a second policy,
    `ctaugment_probe`, and calls its `update` with a score per image.

    Source: google-research/fixmatch, libml/ctaugment.py, with the constants of its flags and the patch that FixMatch
    adds (ReMixMatch: cutout = 0). Two differences: there, if a batch hits a bin twice, the second hit has a little more
    weight than the first; here all hits of a batch have equal weight. There a shift is at most .3 px, that is, none;
    here it is the paper's share of the side. On grey images `color` changes nothing.

    Args:
        depth: Operations per image, drawn independently: the same one may be drawn twice.
        threshold: Bins whose rate is below this share of the best rate of their parameter are not drawn (FixMatch:
            0.8; the class that it extends: 0.85).
        decay: EMA momentum of the rates.
        without: Operations to exclude, from autocontrast, blur, brightness, color, contrast, cutout, equalize,
            identity, invert, posterize, rescale, rotate, sharpness, shear_x, shear_y, smooth, solarize, translate_x,
            translate_y.
        translate: Largest shift as a share of the side, in both directions.
        cutout: Side of the final patch: an integer is pixels, a float is a share of the shorter side; 0 = none.
        fill: Colour of patches: one grey value or [red, green, blue].
    """

    rate_OPV: Tensor
    bins_OP: Tensor
    code_O: Tensor
    rotations: Tensor

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        depth: Annotated[int, Field(ge=0, le=100)] = 2,
        threshold: Share = 0.8,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        without: tuple[str, ...] = (),
        translate: Share = 0.3,
        cutout: Size = 0.5,
        fill: Fill = 127,
    ) -> None:
        super().__init__()
        self.height, self.width = sides(image_size)
        self.depth, self.threshold, self.decay, self.translate = depth, threshold, decay, translate
        self.side, self.fill = pixels(cutout, self.height, self.width), colour(fill, in_channels, "ctaugment")
        drawn = codes(OPERATIONS, without, "ctaugment")
        self.possible = frozenset(drawn)
        self.register_buffer("rate_OPV", torch.ones(len(drawn), 2, MOST_BINS))
        for name, table in {
            "bins_OP": np.array([BINS.get(_pil_ops.NAMES[code], (MOST_BINS, 0)) for code in drawn]),
            "code_O": np.array(drawn),
            "rotations": rotation(np.arange(-MOST_DEGREES, MOST_DEGREES + 1), self.height, self.width),
        }.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        if _pil_ops.RESCALE in self.possible:
            for axis, side in (("row", self.height), ("column", self.width)):
                first, weight = (torch.from_numpy(t) for t in taps(side, round(MOST_MARGIN * side)))
                self.register_buffer(f"{axis}_first", first, persistent=False)
                self.register_buffer(f"{axis}_weight", weight, persistent=False)

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Operations, uniform numbers that choose a bin and a position in it, and the centres of patches."""
        shape = (n, self.depth)
        row, column = (rng.integers(most, size=(n, self.depth + 1)) for most in (self.height, self.width))
        return {
            "op": rng.integers(len(self.code_O), size=shape),
            "pick": rng.random((*shape, 2), np.float32),
            "within": rng.random((*shape, 2), np.float32),
            "row": row[:, 1:],
            "column": column[:, 1:],
            "box": squares(row[:, 0], column[:, 0], self.side, self.height, self.width),
        }

    # The contract asks for the name `apply`; it hides nn.Module.apply, which nobody calls here.
    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the operations, with bins chosen by their rates, then the patch."""
        level = (self.choose_bins(draws) + draws["within"].double()) / self.bins_OP[draws["op"]].clamp_min(1)
        return _pil_ops.erased(self.augment(x_BCHW, level, draws), draws["box"], self.fill)

    def choose_bins(self, draws: Mapping[str, Tensor]) -> Tensor:
        """The bin of each parameter, BSP: where the uniform number falls in the cumulative weights."""
        weight = (self.rate_OPV.double() + (1 - self.decay)) * self._exists()  # never all zero if there are bins
        weight = weight / weight.amax(-1, keepdim=True).clamp_min(1e-9)
        weight = weight * (weight >= self.threshold)
        upto = torch.ones(MOST_BINS, MOST_BINS, device=weight.device).triu()
        sums = (weight[..., None] * upto).sum(-2)[
            draws["op"]
        ]  # a cumsum with the same order of summation on every device
        found = (sums <= draws["pick"].double()[..., None] * sums[..., -1:]).sum(-1)
        return torch.minimum(found, (self.bins_OP[draws["op"]] - 1).clamp_min(0))

    def augment(self, x_BCHW: Tensor, level_BSP: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Apply the operations, slot by slot, at levels in 0..1."""
        x, code_BS = x_BCHW, self.code_O[draws["op"]]
        for slot in range(self.depth):
            op, level, method = code_BS[:, slot], level_BSP[:, slot, 0], level_BSP[:, slot, 1]
            x = _pil_ops.warped(x, op, self._matrix(op, level), self.possible)
            if _pil_ops.RESCALE in self.possible:
                x = _pil_ops.only(op == _pil_ops.RESCALE, self._rescaled, x, op, level, method)
            alpha, number = self._tone(op, level)
            x = _pil_ops.blended(x, op, alpha, self.possible)
            x = _pil_ops.toned(x, op, alpha, number, self.possible)
            if _pil_ops.CUTOUT in self.possible:
                box = self._box(op, level, draws["row"][:, slot], draws["column"][:, slot])
                x = _pil_ops.only(op == _pil_ops.CUTOUT, self._erased, x, box)
        return x

    def _matrix(self, op: Tensor, level: Tensor) -> Tensor:
        either = 2 * level - 1
        one = torch.full_like(op, ONE)
        slope = either * MOST_SHEAR
        right, down = slope * (op == _pil_ops.SHEAR_X), slope * (op == _pil_ops.SHEAR_Y)
        b, d = (_fixed(t) for t in (right, down))
        c, f = (_fixed(0.5 + 0.5 * t) for t in (right, down))
        for code, side in ((_pil_ops.TRANSLATE_X, self.width), (_pil_ops.TRANSLATE_Y, self.height)):
            by = (either * (self.translate * side) + 0.5).floor().long() * ONE * (op == code)
            c, f = (c + by, f) if code == _pil_ops.TRANSLATE_X else (c, f + by)
        matrix = torch.stack((one, b, c, d, one, f), -1)
        turned = self.rotations[(either * MOST_DEGREES).round().long() + MOST_DEGREES]
        return torch.where((op == _pil_ops.ROTATE)[:, None], turned, matrix)

    def _tone(self, op: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        alpha = torch.where(_of(op, ENHANCE), 0.1 + 1.9 * level, torch.where(_of(op, SHARES), level, 1.0))
        bits, threshold = 1 + (level * 7.999).long(), (level * 255.999).long()
        return alpha.float(), torch.where(op == _pil_ops.POSTERIZE, bits, threshold)

    def _rescaled(self, x: Tensor, op: Tensor, level: Tensor, method: Tensor) -> Tensor:
        kind = (method * 5.99).long()
        for axis, dim in (("column", 3), ("row", 2)):  # PIL's order
            # A margin of 0 leaves the image as it is.
            margin = (level * MOST_MARGIN * x.shape[dim]).round().long() * (op == _pil_ops.RESCALE)
            first, weight = getattr(self, f"{axis}_first"), getattr(self, f"{axis}_weight")
            x = resampled(x, first[margin, kind], weight[margin, kind], dim)
        return x

    def _box(self, op: Tensor, level: Tensor, row: Tensor, column: Tensor) -> Tensor:
        side = 1 + (level * (min(self.height, self.width) * 0.499)).long()
        half = side // 2 * (op == _pil_ops.CUTOUT)
        top, bottom = (row - half).clamp_min(0), (row + half).clamp_max(self.height)
        left, right = (column - half).clamp_min(0), (column + half).clamp_max(self.width)
        return torch.stack((top, left, bottom, right), -1)

    def _erased(self, x: Tensor, box: Tensor) -> Tensor:
        return _pil_ops.erased(x, box, self.fill)

    def update(self, score_B: Tensor, **draws: Tensor) -> None:
        """Update the rates of the bins that were used, with a score in 0..1 for each image.

        score: of this rank's images; draws: of the global batch, as in `Batch.view_draws`.
        """
        local = {name: across.local_rows(t) for name, t in draws.items()}
        self.learn(score_B, local["op"], self.choose_bins(local))

    def _exists(self) -> Tensor:
        """Which bins exist, OPV."""
        return torch.arange(MOST_BINS, device=self.bins_OP.device) < self.bins_OP[..., None]

    @torch.no_grad()
    def learn(self, score_B: Tensor, op_BS: Tensor, bin_BSP: Tensor) -> None:
        """rate <- decay^n rate + (1 - decay^n) mean score, where n images of the global batch had the bin."""
        op_BSO = (op_BS[..., None] == torch.arange(len(self.code_O), device=op_BS.device)).float()
        bin_BSPV = (bin_BSP[..., None] == torch.arange(MOST_BINS, device=op_BS.device)).float()
        hit = op_BSO[..., None, None] * bin_BSPV[:, :, None] * self._exists()  # BSOPV
        count = across.all_reduce_sum(hit.sum((0, 1)))
        score = across.all_reduce_sum((hit * score_B.float().view(-1, 1, 1, 1, 1)).sum((0, 1))) / count.clamp_min(1)
        kept = self.decay**count
        self.rate_OPV.copy_(self.rate_OPV * kept + score * (1 - kept))


@augment("ctaugment_probe")
class CTAugmentProbe:
    """Augments labelled images with the operations of a `ctaugment` policy at any strength, so that it can learn.

    The method calls `update(score, **draws)` with the draws of the view and a score per image,
    1 - 0.5 sum |probs - target|. The rates belong to the `ctaugment` policy, and are saved with it.

    Args:
        of: Name of the `ctaugment` policy that learns; its table must come before this one.
    """

    def __init__(self, augments: Mapping[str, Any], *, of: str = "strong") -> None:
        policy = augments.get(of)
        if not isinstance(policy, CTAugment):
            raise DataError(
                f'ctaugment_probe: of = "{of}" is not a ctaugment policy that comes before it: write '
                f'[augment.{of}] with name = "ctaugment" above it, or set `of` to the name of an existing one'
            )
        self.policy = policy

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """The draws of the policy; the number that would choose a bin is the strength itself."""
        return self.policy.draw(rng, n)

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """Apply the operations at any strength, without the final patch."""
        return self.policy.augment(x_BCHW, draws["pick"].double(), draws)

    def update(self, score_B: Tensor, **draws: Tensor) -> None:
        """Update the rates of the bins that contain the strengths."""
        op, pick = across.local_rows(draws["op"]), across.local_rows(draws["pick"])
        self.policy.learn(score_B, op, (pick.double() * self.policy.bins_OP[op] * 0.999).long())


def _fixed(t: Tensor) -> Tensor:
    return (t * ONE + 0.5).floor().long()


def _of(op: Tensor, codes: Sequence[int]) -> Tensor:
    found = op == codes[0]
    for code in codes[1:]:
        found = found | (op == code)
    return found
