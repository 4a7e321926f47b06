"""Pixels of image files: each kind of file that people have, and each that Pillow alone would show wrongly."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from helpers.image_bytes import encoded, noise, png
from mmctl.errors import DataError
from mmctl.image_files.pixels import BadImage, Decoding, decode, facts

ALL = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SAME = Decoding((24, 32), "stretch", "nearest")
"""Without resizing, for images of 24 x 32 px."""
GREY = replace(SAME, channels=1)
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
RAMP_OUT = np.rint(RAMP / 257).astype(np.uint8)
FULL = Decoding((256, 256), "stretch", "nearest", channels=1)


def bad(data: bytes, decoding: Decoding = SAME) -> str:
    with pytest.raises(BadImage) as error:
        decode(data, decoding)
    text = str(error.value)
    assert "\n" not in text
    assert text
    return text


def of(data: bytes, decoding: Decoding = SAME) -> np.ndarray:
    return decode(data, decoding).pixels


# What every format gives


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_pixels_are_those_of_the_file(kind: str) -> None:
    image = noise()
    pixels, notes, format_ = decode(encoded(image, kind), SAME)
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert (notes, format_) == ((), kind)
    assert np.array_equal(of(encoded(image, kind), GREY)[0], np.asarray(image.convert("L")))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_pixels_of_lossy_formats_are_near(kind: str) -> None:
    image = noise()
    found = decode(encoded(image, kind), SAME)
    assert found.format == kind
    assert np.abs(found.pixels.astype(int) - np.asarray(image).transpose(2, 0, 1)).mean() < 6


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = encoded(noise(240, 320), kind)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    text = bad(data[: int(share * len(data))])
    assert "truncated" in text or "cut off" in text


def test_an_empty_file_is_refused() -> None:
    assert bad(b"") == "the file is empty (0 bytes)"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a,b\n1,2\n", "text file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"%PDF-1.7\n\xff", "PDF"),
        (b"PK\x03\x04\xff\x01", "ZIP"),
        (b"\0" * 900, "zeros"),
        (b"\x01\x02\xff\xfe\x00", "not an image"),
        (b"\xff\xd8\xff\xe0", "header is damaged or cut off (JPEG)"),
        (b"P6 2 2 255 " + b"\xff" * 12, "not an image"),  # Pillow reads it, but it is not on our list
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),  # nor is what starts Ghostscript
        (encoded(noise(), "ICO", sizes=[(16, 16)]), "not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_named(data: bytes, words: str) -> None:
    assert words in bad(data)
    with pytest.raises(BadImage):
        facts(data)


def test_damaged_pixels_are_refused() -> None:
    data = bytearray(encoded(noise(240, 320), "PNG"))
    data[len(data) // 2] ^= 0xFF
    bad(bytes(data))


# EXIF


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_image_is_upright(kind: str, turn: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12] = 255  # bright top left: each of the eight turns moves it or the longer side
    upright[:8, 12:] = 90
    backwards = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = Image.fromarray(upright)
    if turn > 1:
        table = [
            Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ]  # fmt: skip
        stored = stored.transpose(backwards.get(turn, table[turn - 2]))
    data = encoded(stored, kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    found = decode(data, Decoding((16, 24), "stretch", "nearest"))
    assert np.abs(found.pixels.astype(int) - upright.transpose(2, 0, 1)).max() < 24
    if kind != "TIFF":
        assert ("turned upright by EXIF data" in found.notes) == (turn > 1)


def test_a_large_jpeg_of_a_turned_camera_is_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = noise(1200, 1600)
    data = encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    found = of(data, Decoding((24, 32), "stretch", "bicubic"))
    expected = np.asarray(image.resize((32, 24), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(found.astype(int) - expected).max() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_are_a_note() -> None:
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none gets out
        assert decode(data, SAME).notes == ("damaged metadata",)


# Bit depth


def ramp_tiff(big: bool = False, white_is_zero: bool = False, twelve: bool = False) -> bytes:
    """A TIFF of 16 or 12 bits by hand, in either byte order; Pillow writes one of them only."""
    order = ">" if big else "<"
    pixels = RAMP.astype(order + "u2").tobytes()
    if twelve:  # two pixels in three bytes
        one, two = (RAMP // 16).reshape(-1, 2).T
        pixels = np.stack([one >> 4, (one & 15) << 4 | two >> 8, two & 255], 1).astype(np.uint8).tobytes()
    tags = [
        (256, 4, 256), (257, 4, 256), (258, 3, 12 if twelve else 16), (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1), (273, 4, 8), (277, 3, 1), (278, 4, 256),
        (279, 4, len(pixels)),
    ]  # fmt: skip
    out = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8 + len(pixels)) + pixels
    out += struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        cell = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        out += struct.pack(order + "HHI", tag, kind, 1) + cell
    return out + struct.pack(order + "I", 0)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(RAMP)), encoded(Image.fromarray(RAMP), "TIFF"), ramp_tiff(False), ramp_tiff(True),
        encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
    ],
    ids=["png", "tiff", "little endian", "big endian", "compressed"],
)  # fmt: skip
def test_a_ramp_of_16_bits_has_256_levels(data: bytes) -> None:
    found = decode(data, FULL)
    assert np.array_equal(found.pixels[0], RAMP_OUT)
    assert len(np.unique(found.pixels)) == 256
    assert found.notes == ("16 bits scaled to 8",)
    in_range = of(data, replace(FULL, range=(1000, 1510)))
    assert in_range[0].ravel()[[0, 1000, 1002, 1255, 1510, 65535]].tolist() == [0, 0, 1, 128, 255, 255]


def test_16_bits_where_zero_is_white() -> None:
    assert np.array_equal(of(ramp_tiff(False, white_is_zero=True), FULL)[0], 255 - RAMP_OUT)


def test_12_bits_are_scaled_by_what_they_can_hold() -> None:
    found = decode(ramp_tiff(twelve=True), FULL)
    assert np.array_equal(found.pixels[0], np.rint(RAMP // 16 / 4095 * 255))
    assert found.notes == ("12 bits scaled to 8",)


def test_transparent_pixels_of_16_bits() -> None:
    pixels = np.array([[0, 30000], [65535, 30000]], ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    data = png(2, 2, 16, 0, rows, tRNS=struct.pack(">H", 30000))
    found = of(data, Decoding((2, 2), "stretch", "nearest", background=(9, 9, 9), channels=1))
    assert found[0].tolist() == [[0, 9], [255, 9]]


def test_a_range_is_for_grey_alone() -> None:
    data = png(1, 1, 16, 2, b"\0" + np.array([4000, 2000, 0], ">u2").tobytes())
    assert "range is for grey" in bad(data, Decoding((1, 1), range=(0, 4095)))


def test_colours_of_16_bits_keep_their_upper_half() -> None:
    pixels = np.array([[[65535, 0, 32768]]], ">u2")
    found = decode(png(1, 1, 16, 2, b"\0" + pixels.tobytes()), Decoding((1, 1), "stretch", "nearest"))
    assert found.pixels.ravel().tolist() == [255, 0, 128]
    assert found.notes == ("16 bits a channel, of which 8 are read",)


def test_float_needs_a_range() -> None:
    values = np.linspace(-1, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    data = encoded(Image.fromarray(values), "TIFF")
    assert "set range" in bad(data)
    expected = np.rint((values.astype(float) + 1) / 2 * 255)
    assert np.array_equal(of(data, replace(GREY, range=(-1, 1)))[0], expected)
    values[0, :3] = np.nan, np.inf, 0
    assert "2 of its pixels" in bad(encoded(Image.fromarray(values), "TIFF"), replace(GREY, range=(-1, 1)))


def test_numbers_of_32_bits_need_a_range() -> None:
    values = np.arange(-384, 384, dtype=np.int32).reshape(24, 32)
    data = encoded(Image.fromarray(values), "TIFF")
    assert "set range" in bad(data)
    assert of(data, replace(GREY, range=(0, 255)))[0].ravel()[[0, 384, 500, 767]].tolist() == [0, 0, 116, 255]


def test_one_bit_is_black_and_white() -> None:
    mask = np.asarray(noise().convert("L")) > 127
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(of(encoded(Image.fromarray(mask), kind), GREY)[0], mask * np.uint8(255))


# Colours and transparency

HIDDEN = np.zeros((24, 32, 4), np.uint8)
HIDDEN[..., 0] = 200  # red everywhere, but visible in the left half alone
HIDDEN[:, :16, 3] = 255
BLUE = replace(SAME, background=(0, 0, 255))


def left_red_right_blue(pixels: np.ndarray) -> None:
    assert (pixels[:, :, :16] == np.array([200, 0, 0])[:, None, None]).all()
    assert (pixels[:, :, 16:] == np.array([0, 0, 255])[:, None, None]).all()


def test_hidden_colours_of_rgba_are_not_shown() -> None:
    for kind in ("PNG", "TIFF", "WEBP"):
        data = encoded(HIDDEN, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
        found = decode(data, BLUE)
        left_red_right_blue(found.pixels)
        assert found.notes == ("transparent pixels",)
    half = HIDDEN.copy()
    half[..., 3] = 128
    assert of(encoded(half), BLUE)[:, 0, 0].tolist() == [100, 0, 127]


def test_hidden_colours_do_not_bleed_when_resized() -> None:
    small = of(encoded(HIDDEN), replace(BLUE, size=(3, 4), interpolation="bilinear"))
    assert small[:, 0, 0].tolist() == [200, 0, 0]
    assert small[:, 0, 3].tolist() == [0, 0, 255]


def test_grey_with_alpha() -> None:
    grey = Image.fromarray(HIDDEN[..., 0]).convert("L")
    grey.putalpha(Image.fromarray(HIDDEN[..., 3]))
    assert grey.mode == "LA"
    found = of(encoded(grey), replace(GREY, background=(7, 7, 7)))
    assert set(found[..., :16].ravel()) == {200}
    assert set(found[..., 16:].ravel()) == {7}


@pytest.mark.parametrize("clear", [1, b"\xff\x00"], ids=["index", "alpha of each"])
def test_a_palette_with_a_transparent_colour(clear: Any) -> None:
    index = np.zeros((24, 32), np.uint8)
    index[:, 16:] = 1
    image = Image.fromarray(index).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    left_red_right_blue(of(encoded(image, transparency=clear), BLUE))
    if clear == 1:
        left_red_right_blue(of(encoded(image, "GIF", transparency=clear), BLUE))
    plain = of(encoded(image), BLUE)
    assert plain[:, 0, 31].tolist() == [0, 200, 0]


def test_one_colour_that_stands_for_transparent() -> None:
    rgb = HIDDEN[..., :3].copy()
    rgb[:, 16:] = 1, 2, 3
    left_red_right_blue(of(encoded(rgb, transparency=(1, 2, 3)), BLUE))
    grey = np.asarray(noise().convert("L")).clip(1)
    grey[:, 16:] = 0
    found = of(encoded(grey, transparency=0), replace(GREY, background=(9, 9, 9)))[0]
    assert np.array_equal(found[:, :16], grey[:, :16])
    assert set(found[:, 16:].ravel()) == {9}


def test_cmyk_is_not_inverted() -> None:
    image = noise()
    for kind in ("JPEG", "TIFF"):
        found = of(encoded(image.convert("CMYK"), kind))
        assert np.abs(found.astype(int) - np.asarray(image).transpose(2, 0, 1)).mean() < 8


def test_grey_in_three_channels() -> None:
    grey = np.asarray(noise().convert("L"))
    assert np.array_equal(of(encoded(grey)), np.broadcast_to(grey, (3, 24, 32)))


# Several frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    found = decode(data, SAME)
    assert found.pixels[:, 5, 5].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert found.notes == ("the first of several frames",)
    assert facts(data).frames == 3


# Size


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    data = png(9000, 9000)
    assert len(data) < 100
    assert "9000 x 9000 px are more than 64,000,000 (max_megapixels)" in bad(data)
    assert "truncated" in bad(data, replace(SAME, max_pixels=10**8))  # then it is decoded, and has no pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "more than 100 (max_megapixels)" in bad(encoded(noise()), replace(SAME, max_pixels=100))
        assert "196,000,000 px are more than Pillow decodes" in bad(png(14000, 14000), replace(SAME, max_pixels=10**9))
    assert Image.MAX_IMAGE_PIXELS == 89478485


def test_a_text_bomb_in_a_png_is_refused() -> None:
    body = b"Comment\0\0" + zlib.compress(b"\0" * (2 << 20))
    bad(png(32, 24, 8, 0, b"\0" * 33 * 24, zTXt=body))


def test_fit_shows_the_whole_image() -> None:
    image = noise(20, 40)
    found = of(encoded(image), Decoding((40, 40), "fit", "bicubic", background=(1, 2, 3)))
    assert np.array_equal(found[:, 10:30], np.asarray(image).transpose(2, 0, 1))
    assert (found[:, [0, 9, 30, 39]] == np.array([1, 2, 3])[:, None, None]).all()
    tall = of(encoded(noise(4000, 2)), Decoding((16, 16), "fit", "bilinear"))
    assert (tall[:, :, :7] == 255).all()
    assert (tall[:, :, 7] != 255).any()


def test_crop_shows_the_centre() -> None:
    image = noise(20, 40)
    found = of(encoded(image), Decoding((20, 20), "crop", "bicubic"))
    assert np.array_equal(found, np.asarray(image)[:, 10:30].transpose(2, 0, 1))
    tall = of(encoded(noise(33, 20)), Decoding((10, 10), "crop", "lanczos"))
    expected = ImageOps.fit(noise(33, 20), (10, 10), Image.Resampling.LANCZOS)
    assert np.array_equal(tall, np.asarray(expected).transpose(2, 0, 1))
    of(encoded(noise(2, 4000)), Decoding((16, 16), "crop"))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box"])
def test_smaller_images_are_antialiased(interpolation: Any) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    found = of(encoded(stripes), Decoding((8, 8), "stretch", interpolation, channels=1))
    assert np.abs(found[..., 2:-2].astype(int) - 127).max() <= 2


def test_nearest_takes_pixels_of_the_image() -> None:
    image = np.asarray(noise(800, 800).convert("L")) // 2 * 2
    found = of(encoded(image, "JPEG", quality=100), Decoding((8, 8), "stretch", "nearest", channels=1))
    with Image.open(io.BytesIO(encoded(image, "JPEG", quality=100))) as whole:
        expected = np.asarray(whole)[50::100, 50::100]
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize("resize", ["fit", "crop", "stretch"])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(resize: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[Any] = []
    real = JpegImagePlugin.JpegImageFile.draft

    def draft(self: Any, mode: Any, size: Any) -> Any:
        out = real(self, mode, size)
        sizes.append(self.size)
        return out

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", draft)
    image = noise(1200, 1600)
    found = of(encoded(image, "JPEG", quality=95), Decoding((48, 48), resize))
    expected = of(encoded(image, "PNG"), Decoding((48, 48), resize))
    assert np.abs(found.astype(int) - expected).max() < 10
    assert sizes == [(200, 150)]


def test_facts_are_those_of_the_header() -> None:
    whole = encoded(noise(240, 320), "JPEG")
    assert facts(whole) == facts(whole[:-200]) == ("JPEG", "RGB", 320, 240, 1)
    assert facts(encoded(Image.fromarray(RAMP)))[:3] == ("PNG", "I;16", 256)


@pytest.mark.parametrize(
    "wrong", [{"size": (0, 8)}, {"range": (1.0, 1.0)}, {"range": (2.0, 1.0)}, {"range": (float("nan"), 1.0)}], ids=str
)
def test_settings_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        replace(SAME, **wrong)
