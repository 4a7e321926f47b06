"""Your own images: folders named after classes, a label file beside loose images, or what a labelling tool exports.

What is there, and what labels it has, is found without opening an image (`mmctl.image_files`); then each image is
decoded once, into a cache of the user.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmctl.image_files.cache import read_pixels
from mmctl.image_files.found import find_images
from mmctl.image_files.parts import PLACE, images_of, in_rows
from mmctl.image_files.pixels import Decoding
from mmctl.plugin import DataError, Images, dataset

Side = Annotated[int, Field(ge=4, le=4096)]
Level = Annotated[int, Field(ge=0, le=255)]


@dataset("pictures")
def pictures(
    root: Path,
    *,
    size: Side | tuple[Side, Side] = 96,
    resize: Literal["crop", "fit", "stretch"] = "crop",
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bicubic",
    channels: Literal[1, 3] = 3,
    background: tuple[Level, Level, Level] = (255, 255, 255),
    range: tuple[float, float] | None = None,
    max_megapixels: Annotated[float, Field(gt=0, le=178)] = 64,
    labels: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    delimiter: str | None = None,
    classes: list[str] | None = None,
    on_bad: Literal["stop", "skip"] = "stop",
    memory: Literal["auto", "load", "map"] = "auto",
) -> dict[str, Images]:
    """Your own images and labels: class folders, a label file (CSV, TSV, JSONL), or a labelling tool's export.

    Args:
        size: Height and width of all images in pixels; one number = square.
        resize: How an image gets that size: "crop" fills it and cuts off the longer side, "fit" shows the whole image
            with borders of the background, "stretch" changes the proportions.
        interpolation: Interpolation when resizing; antialiased, except "nearest".
        channels: 3 = colour, 1 = grey.
        background: Colour (red, green, blue) under transparent pixels, and of the borders of "fit".
        range: Grey 16-bit and float images: the two values that become black and white. Default: the whole range of
            16-bit images; float images need it.
        max_megapixels: Images with more million pixels are refused before they are decoded.
        labels: Label file, relative to root. Default: labels.csv or another usual name, if it is there.
        path_column: Column of the label file with file names. Default: path, file, filename, image ...
        label_column: Column with labels. Default: label, class, category ..., or a column for each class.
        split_column: Column that says train, val, test or unlabeled. Default: split, if it is there.
        delimiter: Character between the columns of the label file. Default: found out.
        classes: Class names in order. Default: those that occur, in natural order.
        on_bad: Damaged images: "stop" names them and stops, "skip" leaves them out and lists them in the run.
        memory: "load" keeps all decoded images in memory, "map" reads them from the disk; "auto" loads below 1 GiB.
    """
    found = find_images(
        Path(root), labels=None if labels is None else Path(root) / labels, path_column=path_column,
        label_column=label_column, split_column=split_column, delimiter=delimiter, classes=classes,
    )  # fmt: skip
    decoding = Decoding(
        size=(size, size) if isinstance(size, int) else size, resize=resize, interpolation=interpolation,
        background=background, channels=channels, range=range, max_pixels=round(max_megapixels * 10**6),
    )  # fmt: skip
    files = in_rows(found.files)
    if not any(PLACE[file.part] == 0 for file in files):
        raise DataError(
            f"{root}: all images are for val or test, none for training. Put some into train/ or unlabeled/."
        )
    decoded = read_pixels(files, decoding, on_bad=on_bad, memory=memory)
    kept = {files[row].part for row in decoded.kept}
    for part, count in Counter(file.part for file in files).items():
        if part not in kept:
            bad = dict(decoded.bad)
            why = next(f"{file.id}: {bad[file.id]}" for file in files if file.part == part)
            raise DataError(
                f"{root}: none of the {count:,} images of {part} can be read ({why}). Repair them, or "
                "delete them if you do not need them."
            )
    return images_of(files, found.classes, decoded, found.said())
