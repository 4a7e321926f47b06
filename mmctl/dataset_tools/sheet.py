"""A contact sheet: some images of each class as one picture, to see at a glance what a data set holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmctl.data.images import class_of
from mmctl.dataset_tools.counts import evenly_spread
from mmctl.plugin import Images

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS, ROWS = 12, 40
"""Images of a class, and classes, on a sheet."""
SHOWN = (48, 96)
"""Smallest and largest side of an image on the sheet, in pixels."""
GAP, LINE, LEFT = 4, 16, 8
INK, PAPER = (30, 30, 30), (255, 255, 255)


def contact_sheet(part: Images) -> Image:
    """Up to 12 images of each of the first 40 classes, evenly spread over the rows, with name and number."""
    from PIL import Image, ImageDraw, ImageFont

    label_N = class_of(part)
    names = [*part.classes[:ROWS], "no label"]
    rows_of = [np.flatnonzero(label_N == k) for k in range(len(names) - 1)] + [np.flatnonzero(label_N < 0)]
    shown = [(name, rows) for name, rows in zip(names, rows_of, strict=True) if len(rows)]
    height, width = part.pixels.shape[2:]
    scale = min(max(1.0, SHOWN[0] / max(height, width)), SHOWN[1] / max(height, width))
    side = (max(1, round(width * scale)), max(1, round(height * scale)))
    step = (side[0] + GAP, side[1] + LINE + GAP)
    sheet = Image.new("RGB", (2 * LEFT + COLUMNS * step[0], 2 * LEFT + max(1, len(shown)) * step[1]), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, (name, rows) in enumerate(shown):
        top = LEFT + place * step[1]
        words = "".join(c if c.isprintable() else "?" for c in name)
        draw.text((LEFT, top), f"{words}  {len(rows):,}", INK, font)
        chosen = rows[evenly_spread(len(rows), COLUMNS)]
        for column, row in enumerate(chosen.tolist()):
            sheet.paste(_image(np.asarray(part.pixels[row]), side), (LEFT + column * step[0], top + LINE))
    return sheet


def _image(pixels_CHW: np.ndarray, side: tuple[int, int]) -> Image:
    from PIL import Image

    shown = pixels_CHW[0] if len(pixels_CHW) < 3 else pixels_CHW[:3].transpose(1, 2, 0)
    method = Image.Resampling.NEAREST if side[0] > pixels_CHW.shape[2] else Image.Resampling.BILINEAR
    return Image.fromarray(np.ascontiguousarray(shown)).resize(side, method).convert("RGB")
