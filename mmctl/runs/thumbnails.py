"""Small copies of images of a data set, as data URIs: for reports."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmctl.data.split import load_split
from mmctl.errors import UserError
from mmctl.recipe.recipe import load_stored
from mmctl.run_folder.record import read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.build import Shared, part_of, read_data
from mmctl.runs.open import check_data, check_installed
from mmctl.runs.past import past_of

LARGEST = 96
"""Width and height in pixels to which an image is made smaller."""
LOSSLESS = 32
"""Images up to this size are PNG: WebP would not be smaller."""


def thumbnails(folder: Path, split: str, ids: Sequence[str], shared: Shared) -> list[str]:
    """Images of a split of a run by their ids, as data URIs.

    shared: data sets that were read already. Raises DataError if the data set cannot be read, ResumeRefused if it is
    not that of the run, and UserError for an id that it does not have.
    """
    about = read_record(folder)
    check_installed(about)
    kept = folder / "split.json"
    recipe = load_stored(folder / "recipe.toml", upgrade_recipe)
    data = read_data(recipe, load_split(kept) if kept.exists() else None, shared)
    identity = past_of(folder, about).identity
    check_data(folder, data, identity.data, identity.split)
    images, _ = part_of(data, split)
    if images is None:
        raise UserError(f"{folder.name}: its data set has no {split} images.")
    rows = {id: row for row, id in enumerate(images.ids)}
    if missing := [id for id in ids if id not in rows]:
        raise UserError(f'{folder.name}: its data set has no {split} image "{missing[0]}".')
    return [data_uri(np.asarray(images.pixels[rows[id]])) for id in ids]


def data_uri(pixels_CHW: NDArray[np.uint8]) -> str:
    """An image as PNG or, if it is large and Pillow can, WebP."""
    from PIL import Image, features

    channels = len(pixels_CHW)
    shown = pixels_CHW[0] if channels < 3 else pixels_CHW[:3].transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(shown))
    small = max(image.size) <= LOSSLESS
    image.thumbnail((LARGEST, LARGEST))
    kind = "png" if small or not features.check("webp") else "webp"
    paper = io.BytesIO()
    if kind == "png":
        image.save(paper, "PNG", optimize=True)
    else:
        image.save(paper, "WEBP", quality=80, method=6)
    return f"data:image/{kind};base64,{base64.b64encode(paper.getvalue()).decode()}"
