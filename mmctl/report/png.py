"""Charts as a PNG image, drawn with Pillow from the same shapes as SVG, in its light colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import cycle, pairwise
from math import hypot

from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmctl.report.charts import Chart, Point
from mmctl.report.shapes import Box, Shape, Stroke, Words, draw
from mmctl.report.svg import LIGHT, WIDTH, colour_of
from mmctl.text import printable

SCALE = 2
"""Pixels of the image for each pixel of the drawing: sharp on paper and on fine screens."""


def png(charts: Sequence[Chart], *, width: int = WIDTH) -> bytes:
    """Charts one below the other, as the bytes of a PNG file."""
    drawings = [draw(chart, width) for chart in charts]
    high = sum(drawing.height for drawing in drawings)
    image = Image.new("RGB", (SCALE * width, round(SCALE * high)), LIGHT["page"])
    painter, y = _Painter(image), 0.0
    for drawing in drawings:
        painter.top = y
        for shape in drawing.shapes:
            painter.paint(shape)
        y += drawing.height
    made = BytesIO()
    image.save(made, "PNG", optimize=True)
    return made.getvalue()


class _Painter:
    """Paints shapes onto an image; `top`: where the drawing begins."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.top = image, 0.0
        self.onto = ImageDraw.Draw(image, "RGBA")  # so that colours with an alpha are mixed with what is there

    def at(self, point: Point) -> Point:
        return SCALE * point[0], SCALE * (point[1] + self.top)

    def paint(self, shape: Shape) -> None:
        red, green, blue = ImageColor.getrgb(LIGHT[colour_of(shape.role)])[:3]
        match shape:
            case Stroke(points, role, dash, closed):
                placed = [self.at(point) for point in points]
                if closed:
                    self.onto.polygon(placed, fill=(red, green, blue, 46))
                    return
                wide = SCALE * (2 if role.startswith("line") else 1)
                for piece in _dashed(placed, [SCALE * part for part in dash]) if dash else [placed]:
                    self.onto.line(piece, fill=(red, green, blue), width=wide, joint="curve")
            case Box(x, y, width, height, _, opacity, _, round_):
                corners = [self.at((x, y)), self.at((x + width, y + height))]
                paint = self.onto.ellipse if round_ else self.onto.rectangle
                paint(corners, fill=(red, green, blue, round(255 * opacity)))
            case Words():
                self._write(shape, (red, green, blue))

    def _write(self, words: Words, colour: tuple[int, int, int]) -> None:
        font = ImageFont.load_default(SCALE * words.size)
        text = printable(words.text)
        if not words.upright:
            anchor = {"start": "lm", "middle": "mm", "end": "rm"}[words.anchor]
            self.onto.text(self.at((words.x, words.y)), text, colour, font, anchor=anchor)
            return
        # Pillow turns images, not text: draw it flat on a mask, and paste that turned.
        left, upper, right, lower = font.getbbox(text, anchor="lm")
        wide, high = max(1, round(right - left)), max(1, round(lower - upper))
        mask = Image.new("L", (wide, high), 0)
        ImageDraw.Draw(mask).text((-left, -upper), text, 255, font, anchor="lm")
        mask = mask.rotate(90, expand=True)
        x, y = self.at((words.x, words.y))
        up = {"start": wide, "middle": wide / 2, "end": 0}[words.anchor]
        self.image.paste(colour, (round(x - high / 2), round(y - up)), mask)


def _dashed(points: Sequence[Point], dashes: Sequence[float]) -> Iterator[list[Point]]:
    """The parts of a line that its dashes leave."""
    lengths = cycle(enumerate(dashes))
    n, left = next(lengths)
    part = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        whole = hypot(x1 - x0, y1 - y0)
        done = 0.0
        while whole - done > left:
            done += left
            turn = (x0 + (x1 - x0) * done / whole, y0 + (y1 - y0) * done / whole)
            if n % 2 == 0:
                yield [*part, turn]
            part = [turn]
            n, left = next(lengths)
        left -= whole - done
        part.append((x1, y1))
    if n % 2 == 0 and len(part) > 1:
        yield part
