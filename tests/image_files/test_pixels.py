"""Decoding: a test for each thing that an image file can be, checked by the values of its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmctl.image_files.pixels import BadImage, Decoding, decode, facts

HOW = Decoding((8, 8), resize="stretch", interpolation="nearest")


def encoded(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (8, 8), seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode if bands > 1 else None)


def hwc(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_value(form: str) -> None:
    image = noise()
    made = decode(encoded(image, form), HOW)
    assert np.array_equal(made.pixels, hwc(image))
    assert (made.pixels.dtype, made.pixels.shape, made.format) == (np.uint8, (3, 8, 8), form)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF"])
def test_other_formats_are_close(form: str) -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    assert np.abs(decode(encoded(image, form), HOW).pixels.astype(int) - hwc(image)).max() < 12


def test_grey_from_colour_and_colour_from_grey() -> None:
    image = noise("L")
    three = decode(encoded(image), HOW).pixels
    assert np.array_equal(three, np.repeat(np.asarray(image)[None], 3, 0))
    one = decode(encoded(noise()), Decoding((8, 8), "stretch", "nearest", channels=1)).pixels
    assert np.array_equal(one[0], np.asarray(noise().convert("L")))


def test_one_bit_and_palette() -> None:
    bits = noise("L").convert("1")
    assert np.array_equal(decode(encoded(bits), HOW).pixels, hwc(bits))
    palette = noise().convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(decode(encoded(palette), HOW).pixels, hwc(palette))


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode(encoded(image, "JPEG", quality=95), HOW).pixels
    assert red[0].min() > 200
    assert red[1:].max() < 60


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_hidden_colours_of_transparent_pixels_are_not_shown(mode: str) -> None:
    colour = (255, 0, 0, 0) if mode == "RGBA" else (0, 0)
    made = decode(encoded(Image.new(mode, (8, 8), colour)), Decoding((8, 8), background=(10, 20, 30)))
    assert made.pixels.reshape(3, -1).T.tolist() == [[10, 20, 30]] * 64


def test_half_transparent_pixels_are_mixed_with_the_background() -> None:
    made = decode(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128))), Decoding((8, 8), background=(0, 0, 255)))
    assert made.pixels[:, 0, 0].tolist() == pytest.approx([128, 0, 127], abs=1)


def test_palette_with_transparency() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    made = decode(encoded(image, transparency=1), HOW)
    assert (made.pixels == 255).all()


def test_sixteen_bits_keep_their_levels() -> None:
    """Pillow's own conversion makes nearly all of a 16-bit ramp white."""
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    made = decode(encoded(Image.fromarray(ramp)), Decoding((256, 256), "stretch", "nearest"))
    assert np.array_equal(made.pixels[0], np.rint(ramp / 257))
    assert len(np.unique(made.pixels)) == 256
    assert made.notes == ("more than 8 bits: scaled to 8",)


def test_a_range_makes_the_most_of_twelve_bits() -> None:
    values = np.array([[0, 1000, 2048, 4095, 65535, 7, 7, 7]] * 8, np.uint16)
    how = Decoding((8, 8), "stretch", "nearest", range=(0, 4095))
    assert decode(encoded(Image.fromarray(values)), how).pixels[0, 0, :5].tolist() == [0, 62, 128, 255, 255]


def test_float_images_need_a_range() -> None:
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0] = np.nan
    data = encoded(Image.fromarray(values), "TIFF")
    with pytest.raises(BadImage, match=r"float pixels: set dataset.range"):
        decode(data, HOW)
    made = decode(data, Decoding((8, 8), "stretch", "nearest", range=(-1, 1))).pixels[0]
    assert (made[0, 0], made[7, 7]) == (0, 255)
    assert np.array_equal(made.ravel()[1:], np.rint((values.ravel()[1:] + 1) * 127.5))


def test_thirty_two_bits_need_a_range() -> None:
    data = encoded(Image.fromarray(np.full((8, 8), 100_000, np.int32)), "TIFF")
    with pytest.raises(BadImage, match="32-bit pixels"):
        decode(data, HOW)
    assert (decode(data, Decoding((8, 8), range=(0, 200_000))).pixels == 128).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(turn: int) -> None:
    image = noise(size=(8, 4))
    exif = Image.Exif()
    exif[0x0112] = turn
    made = decode(encoded(image, exif=exif.tobytes()), Decoding((8, 8) if turn < 5 else (8, 4), "stretch", "nearest"))
    from PIL import ImageOps

    back = Image.open(io.BytesIO(encoded(image, exif=exif.tobytes())))
    upright = ImageOps.exif_transpose(back)
    want = upright.resize((made.pixels.shape[2], made.pixels.shape[1]), Image.Resampling.NEAREST)
    assert np.array_equal(made.pixels, hwc(want))
    assert facts(encoded(image, exif=exif.tobytes()))[2:4] == ((8, 4) if turn < 5 else (4, 8))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    made = decode(data, HOW)
    assert made.pixels[0].min() > 200
    assert made.pixels[1:].max() < 60
    assert made.notes == ("animations: their first frame is used",)
    assert facts(data).frames == 3


def png(width: int, height: int) -> bytes:
    """The header of an image that is far larger than its file."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8200, 10_000, 13_500, 60_000])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    with pytest.raises(BadImage, match=r"more than the limit of 64 Mpx|more pixels than any image"):
        decode(png(side, side), HOW)


def test_the_limit_is_the_recipes() -> None:
    image = encoded(noise())
    with pytest.raises(BadImage, match="8 x 8 pixels"):
        decode(image, Decoding((8, 8), max_pixels=63))
    decode(image, Decoding((8, 8), max_pixels=64))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_off_files_are_refused(form: str, share: float) -> None:
    data = encoded(noise(size=(64, 64)), form)
    with pytest.raises(BadImage) as raised:
        decode(data[: int(len(data) * share)], HOW)
    assert str(raised.value).startswith(("is cut off", "is damaged", "is damaged or something else"))


@pytest.mark.parametrize(("data", "words"), [
    (b"", "is empty"),
    (b"hello world\n" * 9, "is text, not a JPEG"),
    (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    (b"<!DOCTYPE html><html>404</html>", "a web page"),
    (b"%PDF-1.4 ...", "a PDF"),
    (b"\0\0\0\x18ftypheic\0\0", "a HEIC or AVIF image"),
    (bytes(range(256)), "damaged or something else"),
])  # fmt: skip
def test_what_is_no_image(data: bytes, words: str) -> None:
    for look in (lambda: decode(data, HOW), lambda: facts(data)):
        with pytest.raises(BadImage, match=words):
            look()


def test_damaged_bytes_never_give_another_error() -> None:
    rng = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(noise(size=(32, 32)), form)
        for _ in range(60):
            bad = bytearray(data)
            for place in rng.integers(0, len(bad), 4):
                bad[place] = rng.integers(256)
            try:
                made = decode(bytes(bad), HOW)
            except BadImage as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert made.pixels.shape == (3, 8, 8)


def test_other_formats_of_pillow_are_not_read() -> None:
    """EPS starts a program, and rare formats have rarely read decoders."""
    with pytest.raises(BadImage, match="not a JPEG"):
        decode(encoded(noise(), "PPM"), HOW)


def test_crop_fit_and_stretch() -> None:
    image = Image.new("RGB", (40, 20), (0, 200, 0))
    image.paste((200, 0, 0), (10, 0, 30, 20))  # the middle square
    data = encoded(image)
    crop = decode(data, Decoding((10, 10), "crop", "nearest")).pixels
    assert (crop[0] == 200).all()
    fit = decode(data, Decoding((10, 10), "fit", "nearest", background=(1, 2, 3))).pixels
    assert fit[:, 0, 0].tolist() == [1, 2, 3]
    assert fit[:, 9, 9].tolist() == [1, 2, 3]
    assert fit[:, 5, 5].tolist() == [200, 0, 0]
    assert fit[:, 5, 0].tolist() == [0, 200, 0]
    stretch = decode(data, Decoding((10, 10), "stretch", "nearest")).pixels
    assert (stretch[0, 0] == [0, 0, 200, 200, 200, 200, 200, 0, 0, 0]).sum() >= 8


def test_borders_of_grey_images() -> None:
    how = Decoding((10, 10), "fit", "nearest", background=(255, 0, 0), channels=1)
    assert decode(encoded(Image.new("RGB", (20, 10))), how).pixels[0, 0, 0] == 76


def test_making_smaller_averages() -> None:
    """Without antialiasing a chequerboard would become black or white."""
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    for method in ("bilinear", "bicubic", "lanczos", "box"):
        made = decode(encoded(board), Decoding((8, 8), interpolation=method)).pixels  # type: ignore[arg-type]
        assert np.abs(made.astype(int) - 127).max() < 12, method


def test_a_large_jpeg_is_close_to_its_slow_decoding() -> None:
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)).resize((1200, 900))
    data = encoded(smooth, "JPEG", quality=95)
    fast = decode(data, Decoding((48, 48), "stretch", "bicubic")).pixels
    with Image.open(io.BytesIO(data)) as whole:
        slow = np.asarray(whole.resize((48, 48), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(fast.astype(int) - slow).mean() < 2.5
