"""What a file is that is no image: a person who reads it knows what to do."""

from __future__ import annotations

KNOWN = "JPEG, PNG, WebP, BMP, GIF or TIFF"
HEADS = (
    (0, b"\xff\xd8", "JPEG"), (0, b"\x89PNG", "PNG"), (8, b"WEBP", "WebP"), (0, b"BM", "BMP"), (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"),
)  # fmt: skip
OTHERS = (
    (4, b"ftyphe", "a HEIC image"), (4, b"ftypmif1", "a HEIC image"), (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "a video"), (4, b"jP  ", "a JPEG 2000 image"), (4, b"JXL ", "a JPEG XL image"),
    (0, b"\xff\n", "a JPEG XL image"), (0, b"8BPS", "a Photoshop file"), (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF file"), (0, b"%!PS", "a PostScript file"), (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"), (0, b"\x93NUMPY", "a numpy array"), (0, b"\x89HDF", "an HDF5 file"),
)  # fmt: skip
"""Offset, bytes there, name."""


def what_it_is(head: bytes) -> str:
    """A sentence about a file that no decoder of ours takes, from its first bytes."""
    for at, magic, name in HEADS:
        if head[at:].startswith(magic):
            return f"its header is damaged or cut off ({name})"
    for at, magic, name in OTHERS:
        if head[at:].startswith(magic):
            return f"it is {name}; convert it to {KNOWN}"
    if not head.strip(b"\0"):
        return "it holds only zeros: the disk or a download failed"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS and not the image itself; run `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page: the download failed"
    if b"<svg" in text:
        return f"it is an SVG drawing; convert it to {KNOWN}"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "it is a text file, not an image"
    return f"it is not an image, or none of {KNOWN}"
