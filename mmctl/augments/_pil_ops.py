"""PIL's image operations on whole batches of uint8 images: the results equal PIL's byte by byte.

There are three families: warps (one gather of the nearest pixels), blends with a filtered image, and tone curves (256
entries per channel). Each image of a batch has its own operation and parameters. The argument `ops` lists the
operations that the policy can draw; others are not computed.

B batch, C channels (1 or 3), H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

# Ordered by family, so that a family is a range.
IDENTITY = 0
ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = WARPS = range(1, 6)
COLOR, SHARPNESS, SMOOTH, BLUR = BLENDS = range(6, 10)
BRIGHTNESS, CONTRAST, AUTOCONTRAST, EQUALIZE, POSTERIZE, SOLARIZE, INVERT = TONES = range(10, 17)
RESCALE, CUTOUT = range(17, 19)

NAMES = (
    "identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y", "color", "sharpness", "smooth", "blur",
    "brightness", "contrast", "autocontrast", "equalize", "posterize", "solarize", "invert", "rescale", "cutout",
)  # fmt: skip
"""Name of each operation, by its number."""


# Which samples ----------------------------------------------------------------------------------------------------


def readable(t: Tensor) -> bool:
    """Whether values can be read without waiting: a real tensor on the CPU, not a fake one and not on a GPU."""
    return type(t) is Tensor and t.device.type == "cpu"


def among(op_B: Tensor, family: range) -> Tensor:
    """Which samples have an operation of this family."""
    return (op_B >= family.start) & (op_B < family.stop)


def where(mask_B: Tensor, change: Callable[..., Tensor], other: Tensor, *args_B: Tensor) -> Tensor:
    """change(*args_B) for the samples of the mask, `other` for the others.

    On a CPU only the samples of the mask are computed. On a GPU that would make a shape depend on a value and wait for
    the device, so all are computed and the mask selects; the results are the same.
    """
    if readable(mask_B):
        return _some(mask_B, change, other, *args_B)
    return torch.where(_wide(mask_B, other), change(*args_B), other)


def only(mask_B: Tensor, change: Callable[..., Tensor], x_BCHW: Tensor, *args_B: Tensor) -> Tensor:
    """As `where`, for a change that does nothing to samples outside the mask: skipping them only saves time."""
    return _some(mask_B, change, x_BCHW, x_BCHW, *args_B) if readable(mask_B) else change(x_BCHW, *args_B)


def _some(mask_B: Tensor, change: Callable[..., Tensor], other: Tensor, *args_B: Tensor) -> Tensor:
    rows = mask_B.nonzero().squeeze(1)
    if not len(rows):
        return other
    changed, n = change(*(a.index_select(0, rows) for a in args_B)), len(other)
    # Concatenate and select rows: this copies whole images, while index_copy copies byte by byte.
    chosen = torch.arange(n).index_copy_(0, rows, torch.arange(n, n + len(rows)))
    return torch.cat((other, changed)).index_select(0, chosen)


def _wide(t_B: Tensor, like: Tensor) -> Tensor:
    """One number per sample, with as many dimensions as `like`."""
    return t_B.view(-1, *[1] * (like.dim() - 1))


# Warps ------------------------------------------------------------------------------------------------------------


def warped(x_BCHW: Tensor, op_B: Tensor, matrix_B6: Tensor, ops: Collection[int]) -> Tensor:
    """Apply warps to the samples whose operation is a warp. The matrix of all others must be the identity."""
    return only(among(op_B, WARPS), warp, x_BCHW, matrix_B6) if set(WARPS) & set(ops) else x_BCHW


def warp(x_BCHW: Tensor, matrix_B6: Tensor) -> Tensor:
    """PIL's affine transform with the nearest pixel; pixels from outside are zero.

    matrix: a, b, c, d, e, f in 1/65536 of a pixel, as in PIL: (row i, column j) comes from row dj + ei + f,
    column aj + bi + c, rounded down.
    """
    B, C, H, W = x_BCHW.shape
    i_H, j_W = (torch.arange(n, device=x_BCHW.device, dtype=torch.int32) for n in (H, W))
    a, b, c, d, e, f = matrix_B6.to(torch.int32)[:, :, None].unbind(1)
    column_BHW = ((b * i_H + c)[:, :, None] + (a * j_W)[:, None]).bitwise_right_shift_(16).clamp_(-1, W)
    row_BHW = ((e * i_H + f)[:, :, None] + (d * j_W)[:, None]).bitwise_right_shift_(16).clamp_(-1, H)
    # A border of one zero pixel represents everything outside.
    padded_BCM = torch.nn.functional.pad(x_BCHW, (1, 1, 1, 1)).flatten(2)
    at_BN = row_BHW.mul_(W + 2).add_(column_BHW).add_(W + 3).flatten(1).long()
    return padded_BCM.gather(2, at_BN[:, None].expand(-1, C, -1)).view(B, C, H, W)


# Blends -----------------------------------------------------------------------------------------------------------


def blended(x_BCHW: Tensor, op_B: Tensor, alpha_B: Tensor, ops: Collection[int]) -> Tensor:
    """Apply blends to the samples whose operation is a blend; color does not change grey images.

    As in PIL, color and sharpness blend from the filtered image (alpha 0) to the image (1) and beyond; smooth and blur
    from the image to the filtered image.
    """
    present = set(BLENDS) & set(ops)

    def change(x: Tensor, op: Tensor, alpha: Tensor) -> Tensor:
        filtered = x
        if COLOR in present and x.shape[1] == 3:
            filtered = where(op == COLOR, lambda x: luma(x).expand_as(x), filtered, x)
        if SHARPNESS in present or SMOOTH in present:
            filtered = where((op == SHARPNESS) | (op == SMOOTH), smooth, filtered, x)
        if BLUR in present:
            filtered = where(op == BLUR, blur, filtered, x)
        if present <= {COLOR, SHARPNESS}:
            return blend(filtered, x, alpha)
        to_filtered = _wide((op == SMOOTH) | (op == BLUR), x)
        return blend(torch.where(to_filtered, x, filtered), torch.where(to_filtered, filtered, x), alpha)

    return only(among(op_B, BLENDS), change, x_BCHW, op_B, alpha_B) if present else x_BCHW


def blend(from_B: Tensor, to_B: Tensor, alpha_B: Tensor) -> Tensor:
    """PIL's Image.blend: from + alpha (to - from) in float32, clamped to 0..255 and truncated to integers."""
    start = from_B.float()
    return start.add((to_B.float() - start).mul_(_wide(alpha_B, to_B))).clamp_(0, 255).to(torch.uint8)


def luma(x_BCHW: Tensor) -> Tensor:
    """PIL's convert("L"), B1HW."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    r, g, b = x_BCHW.int().unbind(1)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]


def smooth(x_BCHW: Tensor) -> Tensor:
    """ImageFilter.SMOOTH: a 3 x 3 filter of ones with 5 in the centre, over 13; border pixels do not change."""
    if min(x_BCHW.shape[2:]) < 3:
        return x_BCHW
    x = x_BCHW.to(torch.int16)
    lines = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    sums = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:] + 4 * x[:, :, 1:-1, 1:-1]
    out = x_BCHW.clone()
    # 13 is odd, so no quotient is near a half: every way of rounding gives the same byte as PIL.
    out[:, :, 1:-1, 1:-1] = sums.float().add_(6.5).div_(13).to(torch.uint8)
    return out


def blur(x_BCHW: Tensor) -> Tensor:
    """ImageFilter.BLUR: the mean of the 16 outer pixels of 5 x 5; a border of two pixels does not change."""
    if min(x_BCHW.shape[2:]) < 5:
        return x_BCHW
    x = x_BCHW.to(torch.int16)
    H, W = x.shape[2:]
    down = [x[:, :, k : H - 4 + k] for k in range(5)]
    ends, whole = down[0] + down[4], sum(down[1:4], down[0] + down[4])
    inner = ends[..., 1 : W - 3] + ends[..., 2 : W - 2] + ends[..., 3 : W - 1]
    sums = whole[..., : W - 4] + whole[..., 4:] + inner
    out = x_BCHW.clone()
    out[:, :, 2:-2, 2:-2] = ((sums + 8) >> 4).to(torch.uint8)
    return out


# Tones ------------------------------------------------------------------------------------------------------------


def toned(x_BCHW: Tensor, op_B: Tensor, alpha_B: Tensor, level_B: Tensor, ops: Collection[int]) -> Tensor:
    """Apply tone curves to the samples whose operation is a tone curve.

    alpha: the factor of brightness and contrast; for the others, how much of the curve is applied (1 = fully).
    level: the bits that posterize keeps, or the lowest value that solarize inverts.
    """
    present = set(TONES) & set(ops)

    def change(x: Tensor, op: Tensor, alpha: Tensor, level: Tensor) -> Tensor:
        curve = curves(x, op, alpha, level, present)
        return curve.gather(2, x.flatten(2).long()).view(x.shape)

    return only(among(op_B, TONES), change, x_BCHW, op_B, alpha_B, level_B) if present else x_BCHW


def curves(x_BCHW: Tensor, op_B: Tensor, alpha_B: Tensor, level_B: Tensor, ops: Collection[int]) -> Tensor:
    """The new value of each of the 256 values, BC256; the identity for samples with another operation."""
    B, C = x_BCHW.shape[:2]
    i = torch.arange(256, device=x_BCHW.device)
    op, level = op_B[:, None, None], level_B[:, None, None]
    start = same = i.float().expand(B, C, 256)
    end = same
    if AUTOCONTRAST in ops:
        end = where(op_B == AUTOCONTRAST, stretched, end, x_BCHW)
    if EQUALIZE in ops:
        end = where(op_B == EQUALIZE, equalized, end, x_BCHW)
    if POSTERIZE in ops:
        lost = (8 - level).clamp(0, 8)
        end = torch.where(op == POSTERIZE, ((i >> lost) << lost).float(), end)
    if SOLARIZE in ops:
        end = torch.where((op == SOLARIZE) & (i >= level), 255 - same, end)
    if INVERT in ops:
        end = torch.where(op == INVERT, 255 - same, end)
    if BRIGHTNESS in ops:
        start = torch.where(op == BRIGHTNESS, 0.0, start)
    if CONTRAST in ops:
        middle = where(op_B == CONTRAST, mean_luma, torch.zeros_like(alpha_B), x_BCHW)
        start = torch.where(op == CONTRAST, middle[:, None, None], start)
    return blend(start, end, alpha_B)


def mean_luma(x_BCHW: Tensor) -> Tensor:
    """The mean grey of each image, rounded, as float32: contrast blends it with the image."""
    grey = luma(x_BCHW).flatten(1)
    n = grey.shape[1]
    return ((2 * grey.sum(1) + n) // (2 * n)).float()


def stretched(x_BCHW: Tensor) -> Tensor:
    """ImageOps.autocontrast's curve, BC256: the darkest value becomes 0, the lightest 255; in float64 as in PIL."""
    low, high = (t[..., None].double() for t in x_BCHW.flatten(2).aminmax(dim=-1))
    i = torch.arange(256, device=x_BCHW.device).double()
    # Not 255.0 / tensor: that multiplies by a rounded reciprocal and gives another quotient.
    scale = torch.full_like(low, 255).div_((high - low).clamp_min(1))
    curve = (i * scale + -low * scale).trunc_().clamp_(0, 255)
    return torch.where(high > low, curve, i).float()


def equalized(x_BCHW: Tensor) -> Tensor:
    """ImageOps.equalize's curve, BC256: histogram equalisation in integer arithmetic."""
    at_BCN = x_BCHW.flatten(2).long()
    i = torch.arange(256, device=x_BCHW.device, dtype=torch.int32)
    zeros = torch.zeros((*at_BCN.shape[:2], 256), device=x_BCHW.device, dtype=torch.int32)
    count = zeros.scatter_add(2, at_BCN, torch.ones_like(at_BCN, dtype=torch.int32))
    of_lightest = count.gather(2, ((count > 0) * i).amax(2, keepdim=True).long())
    step = (at_BCN.shape[2] - of_lightest) // 255
    below = count.cumsum(2, dtype=torch.int32) - count
    curve = ((step // 2 + below) // step.clamp_min(1)).clamp_max(255)
    return torch.where(step > 0, curve, i).float()


# Patches ----------------------------------------------------------------------------------------------------------


def erased(x_BCHW: Tensor, box_B4: Tensor, fill: Collection[int]) -> Tensor:
    """Paint a patch on rows top..bottom - 1 and columns left..right - 1; box = top, left, bottom, right."""
    H, W = x_BCHW.shape[2:]
    i_H, j_W = (torch.arange(n, device=x_BCHW.device) for n in (H, W))
    top, left, bottom, right = box_B4[:, :, None].unbind(1)
    rows_BH, columns_BW = (i_H >= top) & (i_H < bottom), (j_W >= left) & (j_W < right)
    return painted(x_BCHW, rows_BH[:, :, None] & columns_BW[:, None], fill)


def painted(x_BCHW: Tensor, mask_BHW: Tensor, fill: Collection[int]) -> Tensor:
    """Paint the pixels of the mask in one colour."""
    colour_C = torch.stack([torch.full((), value, device=x_BCHW.device, dtype=torch.uint8) for value in fill])
    # 255 where the mask is true, else 0: on a CPU, selecting by bits is ten times faster than masked_fill.
    chosen_B1HW = mask_BHW.to(torch.uint8).neg_()[:, None]
    return x_BCHW ^ ((x_BCHW ^ colour_C[:, None, None]) & chosen_B1HW)
