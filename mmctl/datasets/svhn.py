"""Data set SVHN: house numbers cut to single digits, 32 px in colour; 73,257 to train, 26,032 to test, 531,131 more.

Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011, cropped digits (format 2).
The extra images are easier. Whether they are training images changes results, so the recipe says it: TorchSSL and USB
use them, MixMatch's and MarginMix's main tables do not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmctl.datasets._mapped import mapped
from mmctl.datasets._published import Files, PublishedFile, check_labels, check_whole, folder_with, numbered
from mmctl.plugin import DataError, Images, dataset

CLASSES = tuple("0123456789")
SIDE = 32
SOURCE = (
    "Run `mmctl data get svhn`, or download train_32x32.mat and test_32x32.mat (and extra_32x32.mat for "
    "dataset.extra = true) from http://ufldl.stanford.edu/housenumbers/ into data/svhn."
)
TRAIN = PublishedFile("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373")
TEST = PublishedFile("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3")
EXTRA = PublishedFile("extra_32x32.mat", 1_329_278_602, "a93ce644f1a588dc4d68dda5feec44a7")
COUNT = {"extra": 531_131}


@dataset("svhn")
def svhn(
    root: Path,
    *,
    extra: bool = False,
    memory: Literal["map", "load"] = "map",
    files: Files = "official",
) -> dict[str, Images]:
    """SVHN: 99,289 colour images of 32 px of the digits 0 to 9, and 531,131 more to train with `extra`.

    Args:
        extra: Add the 531,131 easier images to the training images, as TorchSSL and USB do: 1.7 GiB of cache.
        memory: With `extra`, "map" reads the training images from the disk when they are used; "load" keeps them in
            memory.
        files: "official" = the published files alone, checked by MD5; "any" = also subsets.
    """
    folder = folder_with(Path(root), (TRAIN.name,), (".",), SOURCE)
    parts = {}
    for part, file in (("train", TRAIN), ("test", TEST)):
        pixels, labels = _read(folder, file, files)
        if extra and part == "train":
            parts[part] = _with_extra(folder, pixels, labels, files, memory)
        else:
            parts[part] = Images.of(np.ascontiguousarray(pixels), labels, CLASSES, numbered(part, len(labels)))
    return parts


def _with_extra(folder: Path, known: np.ndarray, known_labels: np.ndarray, files: Files, memory: str) -> Images:
    """The training images and the extra ones, as a map; labels are in the map's last rows."""
    path = folder / EXTRA.name
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {SOURCE}")

    def fill(array: np.ndarray) -> list[str]:
        pixels, labels = _read(folder, EXTRA, files)
        if len(array) != len(known) + len(pixels):
            raise DataError(f"{path}: {len(pixels)} images, but the published file has {COUNT['extra']}. {SOURCE}")
        array[: len(known)] = known
        array[len(known) :] = pixels
        return [hashlib.sha256(array.data).hexdigest(), "".join(map(str, labels.tolist()))]

    n = COUNT["extra"] if files == "official" else _count(path)
    shape = (len(known) + n, 3, SIDE, SIDE)
    pixels, (digest, digits) = mapped(f"svhn-{files}", [folder / TRAIN.name, path], shape, fill)
    labels = np.frombuffer(digits.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
    targets = np.concatenate([known_labels, labels])
    ids = numbered("train", len(known)) + [f"extra/{row:06d}" for row in range(n)]
    fingerprint = hashlib.sha256(f"{digest} {CLASSES} {ids[-1]}".encode() + targets.tobytes()).hexdigest()
    kept: Any = np.array(pixels) if memory == "load" else pixels
    return Images(kept, targets, CLASSES, ids, fingerprint)


def _count(path: Path) -> int:
    """The number of images by the headers of the file, without reading its gigabytes."""
    from scipy.io import whosmat

    try:
        return int(next(shape[3] for name, shape, _ in whosmat(path) if name == "X"))
    except Exception as error:  # a damaged file makes scipy raise any error
        raise DataError(f"{path}: not a MATLAB file with X and y, or damaged ({error}). {SOURCE}") from None


def _read(folder: Path, file: PublishedFile, files: Files) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, a view N x 3 x 32 x 32 of the file's uint8 array, and digits; in the file the label of 0 is 10."""
    from scipy.io import loadmat

    path = folder / file.name
    check_whole(path, file, files, SOURCE)
    try:
        made = loadmat(path, variable_names=("X", "y"))
        pixels, labels = made["X"], made["y"].reshape(-1)
    except Exception as error:  # a damaged file makes scipy raise any error
        raise DataError(f"{path}: not a MATLAB file with X and y, or damaged ({error}). {SOURCE}") from None
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (SIDE, SIDE, 3) or pixels.shape[3:] != labels.shape:
        raise DataError(
            f"{path}: X is {pixels.dtype} {list(pixels.shape)} and y {list(labels.shape)}; needed are uint8 32 x 32 "
            f"x 3 x N and N labels. {SOURCE}"
        )
    digits = check_labels(path, labels, 1, 10, SOURCE) + 1
    return pixels.transpose(3, 2, 0, 1), digits % 10
