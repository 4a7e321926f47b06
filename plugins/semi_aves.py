"""An example of a large data set of image files with lists, to copy: Semi-Aves, birds with labels for few of them.

    [dataset]
    name = "plugins:semi_aves"         # reads data/semi_aves
    size = 224

Su and Maji, "The Semi-Supervised iNaturalist-Aves Challenge at FGVC7", arXiv 2103.06937. 200 species have labels, in a
long tail; the unlabelled images are of the same species ("in") or of others ("out"). Images and lists:
https://github.com/cvl-umass/semi-inat-2020, for non-commercial research and education. A list such as l_train_val.txt
has lines `trainval_images/56/0.jpg 56`. N images, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from mmctl.image_files.cache import read_pixels
from mmctl.image_files.files import ImageFile, OnDisk, Part
from mmctl.image_files.parts import images_of
from mmctl.image_files.pixels import Decoding
from mmctl.plugin import DataError, Images, dataset

SOURCE = (
    "Download the images and the lists (l_train.txt, l_val.txt, l_train_val.txt, u_train_in.txt, u_train_out.txt, "
    "test.txt) from https://github.com/cvl-umass/semi-inat-2020 and put the lists beside the folders of images."
)
POOLS = {"in": ("u_train_in",), "in and out": ("u_train_in", "u_train_out"), "none": ()}


@dataset("semi_aves")
def semi_aves(
    root: Path,
    *,
    size: Annotated[int, Field(ge=16, le=512)] = 224,
    labeled: Literal["l_train_val", "l_train"] = "l_train_val",
    unlabeled: Literal["in", "in and out", "none"] = "in",
    memory: Literal["auto", "load", "map"] = "auto",
) -> dict[str, Images]:
    """Semi-Aves: birds of 200 species, few labelled, with unlabelled images of the same and of other species.

    Args:
        size: Height and width in pixels: the shorter side is scaled to it, the longer one is cut.
        labeled: "l_train_val" = 5,959 labelled images, as USB uses them; "l_train" = 3,959, with l_val for validation.
        unlabeled: "in" = 26,640 images of the same species; "in and out" = also 122,208 of others; "none".
        memory: "load" keeps all decoded images in memory, "map" reads them from the disk; "auto" loads below 1 GiB.
    """
    lists: list[tuple[str, Part, bool]] = [(labeled, "train", True)]
    lists += [(name, "unlabeled", False) for name in POOLS[unlabeled]]
    lists += [("l_val", "val", True)] if labeled == "l_train" else []
    files = [
        file for name, part, known in [*lists, ("test", "test", True)] for file in _listed(root, name, part, known)
    ]
    classes = tuple(str(k) for k in sorted({int(file.label) for file in files if file.label is not None}))
    decoded = read_pixels(files, Decoding(size=(size, size)), on_bad="stop", memory=memory)
    return images_of(files, classes, decoded)


def _listed(root: Path, name: str, part: Part, known: bool) -> list[ImageFile]:
    """The images of one list; with `known` their labels too."""
    path = root / f"{name}.txt"
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). {SOURCE}") from None
    files = []
    for number, line in enumerate(lines, 1):
        where, cells = f"{path}:{number}", line.split()
        if len(cells) != 2 or not cells[1].lstrip("-").isdecimal() or (known and not cells[1].isdecimal()):
            raise DataError(f"{where}: a line is a path and a label, such as trainval_images/56/0.jpg 56. {SOURCE}")
        inside = PurePosixPath(cells[0].removeprefix("semi_aves/"))
        if inside.is_absolute() or ".." in inside.parts:
            raise DataError(f"{where}: {cells[0]} is outside of the folder of the data set.")
        files.append(ImageFile(str(inside), OnDisk(root / inside), part, cells[1] if known else None, where))
    if not files:
        raise DataError(f"{path}: there is no line in it. {SOURCE}")
    return files
