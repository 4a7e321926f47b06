"""From the bytes of an image file to uint8 pixels of one size, with Pillow; the content decides what it is.

C channels, H height, W width.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
"""Counts the changes of what is decoded; part of the cache's key."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
EXTENSIONS = {
    "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "apng": "PNG", "webp": "WEBP",
    "bmp": "BMP", "dib": "BMP", "gif": "GIF", "tif": "TIFF", "tiff": "TIFF",
}  # fmt: skip
WORDS = "JPEG, PNG, WebP, BMP, GIF or TIFF"
DRAFT = 2
"""A JPEG is decoded at an eighth, quarter or half of its size if that is at least so many times the wanted size."""


@dataclass(frozen=True)
class Decoding:
    """How images become arrays of one size."""

    size: tuple[int, int]  # height and width in pixels
    resize: Literal["crop", "fit", "stretch"] = "crop"  # fill and cut off, borders of the background, or distort
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bicubic"
    background: tuple[int, int, int] = (255, 255, 255)  # under transparent pixels, and of borders
    channels: Literal[1, 3] = 3
    range: tuple[float, float] | None = None  # 16-bit and float images: these values become 0 and 255
    max_pixels: int = 64 * 2**20  # larger images are refused by their header


class BadImage(Exception):
    """What is wrong with an image file, as the end of a sentence that begins with its name."""


class Picture(NamedTuple):
    """A decoded image, and what is remarkable about its file."""

    pixels: np.ndarray  # uint8 CHW
    format: str  # JPEG, PNG ...
    notes: tuple[str, ...] = ()


class Facts(NamedTuple):
    """What the header of an image file says."""

    format: str
    mode: str  # Pillow's: RGB, L, P, I;16 ...
    width: int  # as shown, after the turn that EXIF asks for
    height: int
    frames: int


def facts(data: bytes) -> Facts:
    """Format, mode and size from the header, without decoding; BadImage if it is no image."""
    with _opened(data) as image:
        width, height = image.size
        if image.getexif().get(0x0112) in (5, 6, 7, 8):  # Orientation: turned by a quarter
            width, height = height, width
        return Facts(_format(image), image.mode, width, height, getattr(image, "n_frames", 1))


def decode(data: bytes, how: Decoding) -> Picture:
    """The pixels of an image file, turned as its EXIF says, without transparency, in the wanted size and channels.

    The first frame of an animation. 16-bit values are divided by 257, or scaled by `range`; float ones need a range.
    BadImage for what is damaged, too large or no image.
    """
    from PIL import ImageOps

    notes = []
    with _opened(data) as image:
        width, height = image.size
        if width * height > how.max_pixels:
            raise BadImage(f"has {width} x {height} pixels, more than the limit of {how.max_pixels / 2**20:.0f} Mpx")
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            notes.append("animations: their first frame is used")
        name, deep = _format(image), image.mode.startswith(("I", "F"))
        if image.format in ("JPEG", "MPO"):
            scale = DRAFT * max(how.size[0] / min(height, width), how.size[1] / min(height, width))
            image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        image.load()
        if image.getexif().get(0x0112, 1) != 1:
            notes.append("turned by their EXIF orientation")
        shown = _eight_bits(ImageOps.exif_transpose(image), how.range) if deep else ImageOps.exif_transpose(image)
        if deep:
            notes.append("more than 8 bits: scaled to 8")
        shown = _flat(shown, how)
        return Picture(_resized(shown, how), name, tuple(notes))


def _flat(image: Image, how: Decoding) -> Image:
    """Grey or RGB, on the background where it is transparent."""
    import PIL.Image

    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = PIL.Image.new("RGBA", layer.size, (*how.background, 255))
        image = PIL.Image.alpha_composite(ground, layer).convert("RGB")
    mode = "L" if how.channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image, how: Decoding) -> np.ndarray:
    from PIL import ImageOps
    from PIL.Image import Resampling

    target = (how.size[1], how.size[0])
    method = Resampling[how.interpolation.upper()]
    if image.size != target:
        if how.resize == "crop":
            image = ImageOps.fit(image, target, method)
        elif how.resize == "fit":
            ground = how.background if how.channels == 3 else _grey(how.background)
            image = ImageOps.pad(image, target, method, ground)
        else:
            image = image.resize(target, method)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _grey(colour: tuple[int, int, int]) -> int:
    red, green, blue = colour
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # as Pillow's convert("L")


def _eight_bits(image: Image, limits: tuple[float, float] | None) -> Image:
    """Pillow's own conversion cuts values above 255 off, so that most 16-bit images become white."""
    import PIL.Image

    values = np.asarray(image).astype(np.float64)
    if limits is None:
        if not image.mode.startswith("I;16"):
            kind = "float" if image.mode == "F" else "32-bit"
            raise BadImage(f"has {kind} pixels: set dataset.range = [BLACK, WHITE], the values of black and white")
        limits = (0, 65535)
    low, high = limits
    scaled = np.rint((np.nan_to_num(values, nan=low) - low) * (255 / (high - low)))
    return PIL.Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _format(image: Image) -> str:
    return {"MPO": "JPEG", "DIB": "BMP"}.get(image.format or "", image.format or "")


@contextmanager
def _opened(data: bytes) -> Iterator[Image]:
    """An open image; whatever Pillow raises inside becomes BadImage."""
    import PIL.Image

    if not data:
        raise BadImage("is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which have a limit of ours, and of odd metadata
            with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except BadImage:
        raise
    except PIL.UnidentifiedImageError:
        raise BadImage(f"is {_kind(data)}, not a {WORDS} image") from None
    except PIL.Image.DecompressionBombError:
        raise BadImage("has more pixels than any image may have") from None
    except MemoryError:
        raise BadImage("needs more memory than there is") from None
    except Exception as error:  # damaged bytes make the decoders raise anything
        raise BadImage(_reason(error)) from None


def _kind(data: bytes) -> str:
    head = data[:512].lstrip().lower()
    if head.startswith(b"<svg") or b"<svg" in head:
        return "an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if data[:4] == b"%PDF":
        return "a PDF document"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "a HEIC or AVIF image"
    return "text" if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:512]) else "damaged or something else"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncated" in text or "Truncated" in text or "EOF" in text or "cut" in text:
        return "is cut off: the end of the file is missing"
    return f"is damaged ({text[:80] or type(error).__name__})"
