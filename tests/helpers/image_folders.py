"""Folders of empty files with the names of images, and what `find_images` says about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmctl.image_files.found import Found, find_images


def make(root: Path, *names: str, **texts: str | bytes) -> Path:
    """A folder with these empty files; texts: label files by name, with "__" for the dot."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, text in texts.items():
        path = root / name.replace("__", ".")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def short(found: Found) -> list[tuple[str, str, str | None]]:
    """Part, id and class of each image."""
    return [(one.part, one.id, one.label) for one in found.files]


def find(root: Path, **how: Any) -> list[tuple[str, str, str | None]]:
    """The same for what is found in a folder."""
    return short(find_images(root, **how))
