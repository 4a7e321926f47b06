"""From the bytes of an image file to pixels of one size: colours, transparency, rotation, bit depth, resizing.

C channels, H height, W width.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mmctl.errors import DataError
from mmctl.image_files.unknown import what_it_is

RULES = 1
"""Version of the rules of this module; it rises when the same file gives other pixels, so that caches are renewed."""
FORMATS = tuple(
    plugin.format  # only these are ever tried: a file cannot choose a decoder that nobody looks after
    for plugin in (
        JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile, GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile,
    )
)  # fmt: skip
SAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what shows the image upright."""
ORIENTATION, PHOTOMETRIC, WHITE_IS_ZERO = 0x0112, 262, 0


class BadImage(Exception):
    """A file that gives no image; the text says what is wrong with it, without its path."""


@dataclass(frozen=True)
class Decoding:
    """How image files become pixels."""

    size: tuple[int, int]
    """Height and width of all images, px."""
    resize: Literal["fit", "crop", "stretch"] = "fit"
    """"fit": the whole image, with borders of the background; "crop": its centre; "stretch": it loses its shape."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest", "box"] = "bicubic"
    """All but "nearest" are antialiased when an image becomes smaller, as in Pillow."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green and blue under transparent pixels, and around the image with "fit"."""
    channels: Literal[1, 3] = 3
    range: tuple[float, float] | None = None
    """The values of 16-bit and float images that become 0 and 255; None = all 16 bits, and float is refused."""
    max_pixels: int = 64 * 10**6
    """Larger images are refused before they are decoded: a file of 10 KB can hold an image of 10 GB."""

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise DataError(f"size = {list(self.size)}: height and width are at least 1")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise DataError(f"range = {list(self.range)}: the second number must be larger than the first")


class Picture(NamedTuple):
    """A decoded image."""

    pixels: np.ndarray  # uint8 CHW
    notes: tuple[str, ...]  # what a person may want to know, such as "transparent pixels"
    format: str  # as Pillow names it


class Facts(NamedTuple):
    """What the header of an image file says."""

    format: str  # as Pillow names it
    mode: str  # as Pillow names it: "RGB", "L", "I;16" ...
    width: int  # px, before it is turned upright
    height: int
    frames: int


def facts(data: bytes) -> Facts:
    """What the header of an image file says; nothing is decoded, so that the pixels may still be damaged.

    Raises BadImage if it is no image.
    """
    with warnings.catch_warnings(), _plainly():
        warnings.simplefilter("ignore")
        with _opened(data) as image:
            frames = int(getattr(image, "n_frames", 1))
            return Facts(str(image.format), image.mode, image.width, image.height, frames)


def decode(data: bytes, decoding: Decoding) -> Picture:
    """The pixels of an image file. Raises BadImage."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as warned, _plainly():
        warnings.simplefilter("always")
        with _opened(data) as image:
            if image.width * image.height > decoding.max_pixels:
                raise BadImage(_too_large(f"{image.width} x {image.height}", decoding.max_pixels))
            kind, frames = str(image.format), int(getattr(image, "n_frames", 1))
            if frames > 1:
                notes.append("the first of several frames")  # without their number, so that notes can be counted
            stored = " ".join(str(tile[3]) for tile in image.tile)  # gone once it is loaded
            if kind in ("JPEG", "MPO"):  # the orientation decides how much smaller it may be decoded
                turn = _orientation(image, notes)
                _draft(image, decoding, sideways=turn >= 5)
                image.load()
            else:  # TIFF turns itself when it is loaded, PNG finds its EXIF data then
                image.load()
                turn = _orientation(image, notes)
            flat = _in_8_bit(image, stored, decoding, notes)
            if turn in TURNS:
                flat = flat.transpose(TURNS[turn])
                notes.append("turned upright by EXIF data")
            pixels = _resized(flat, decoding)
    # Not that of large images: the limit is ours.
    if any(not issubclass(w.category, Image.DecompressionBombWarning) for w in warned):
        notes.append("damaged metadata")
    return Picture(pixels, tuple(dict.fromkeys(notes)), kind)


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn what a decoder raises, which can be anything, into BadImage with plain words."""
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        size = next((f"{int(word):,}" for word in str(error).replace("(", " ").split() if word.isdigit()), "too many")
        raise BadImage(_too_large(size, None)) from error
    except Exception as error:
        text = " ".join(str(error).split())
        if "truncated" in text.lower() or isinstance(error, EOFError):
            raise BadImage("the file is truncated: its end is missing") from error
        if "decoder object" in text:  # all that the library of WebP says
            raise BadImage("the file is truncated or damaged") from error
        raise BadImage(f"damaged: {text or type(error).__name__}") from error


def _too_large(size: str, limit: int | None) -> str:
    most = f"{limit:,} (max_megapixels)" if limit else "Pillow decodes"
    return f"{size} px are more than {most}"


def _opened(data: bytes) -> Any:
    if not data:
        raise BadImage("the file is empty (0 bytes)")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(what_it_is(data[:4096])) from None


def _orientation(image: Any, notes: list[str]) -> int:
    """EXIF's number for how the camera was held; 1 = upright."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # cameras and editors write all kinds of wrong EXIF data
        notes.append("damaged metadata")
        return 1
    return found if isinstance(found, int) else 1


def _draft(image: Any, decoding: Decoding, sideways: bool) -> None:
    """Let the JPEG decoder leave out what a much smaller image does not need; five times faster for a photograph."""
    if decoding.interpolation == "nearest":  # promises pixels of the image itself
        return
    height, width = decoding.size[::-1] if sideways else decoding.size
    shares = width / image.width, height / image.height
    if decoding.resize != "stretch":
        shares = ((min if decoding.resize == "fit" else max)(shares),) * 2
    # Twice the target, so that what the resizing computes hardly differs.
    image.draft(None, tuple(int(2 * share * side) + 1 for share, side in zip(shares, image.size, strict=True)))


def _in_8_bit(image: Any, stored: str, decoding: Decoding, notes: list[str]) -> Any:
    """The image as grey (L) or RGB, without transparency; stored: how the file stores pixels, in Pillow's words."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _scaled(image, 12 if "I;12" in stored else 16, decoding.range, notes)
    elif ";16" in stored:
        if decoding.range is not None:
            raise BadImage("16 bits a channel in colour or with transparency: range is for grey. Convert it to 8 bits")
        notes.append("16 bits a channel, of which 8 are read")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            notes.append("transparent pixels")
        ground = Image.new("RGBA", image.size, (*decoding.background, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _scaled(image: Any, bits: int, limits: tuple[float, float] | None, notes: list[str]) -> Any:
    """A grey image of more than 8 bits in 8 bits; a conversion by Pillow makes everything above 255 white."""
    values = np.asarray(image).astype(np.float64)
    if limits is None:
        if image.mode == "F":
            raise BadImage("its pixels are floating-point numbers: set range to the values that become black and white")
        if image.mode == "I" and image.format != "PNG":  # Pillow before 11 opens a PNG of 16 bits so
            raise BadImage("its pixels have a sign or 32 bits: set range to the values that become black and white")
        limits = (0, 2**bits - 1)
        notes.append(f"{bits} bits scaled to 8")
    elif not np.isfinite(values).all():
        raise BadImage(f"{int((~np.isfinite(values)).sum())} of its pixels are no numbers (NaN or infinite)")
    low, high = limits
    grey = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    out = Image.fromarray(grey)
    if isinstance(clear := image.info.get("transparency"), int):
        out.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return out


def _resized(image: Any, decoding: Decoding) -> np.ndarray:
    """uint8 CHW."""
    height, width = decoding.size
    sampling = SAMPLING[decoding.interpolation]
    mode = "L" if decoding.channels == 1 else "RGB"
    if decoding.resize == "fit":
        share = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * share)), max(1, round(image.height * share))
        small = image.resize(inner, sampling).convert(mode)
        image = Image.new("RGB", (width, height), decoding.background).convert(mode)
        image.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    else:
        box = (0.0, 0.0, float(image.width), float(image.height))
        if decoding.resize == "crop":
            share = max(width / image.width, height / image.height)
            x, y = (image.width - width / share) / 2, (image.height - height / share) / 2
            box = (max(x, 0.0), max(y, 0.0), min(image.width - x, image.width), min(image.height - y, image.height))
        image = image.resize((width, height), sampling, box=box).convert(mode)
    pixels = np.array(image)
    return np.ascontiguousarray(pixels[None] if decoding.channels == 1 else pixels.transpose(2, 0, 1))
