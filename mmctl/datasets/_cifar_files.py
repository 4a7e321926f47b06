"""Reads the files of CIFAR-10 and CIFAR-100: Python version, binary version, class folders. N images, L labels each."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmctl.datasets._image_folders import class_files, decoded
from mmctl.datasets._published import ANY, Files, PublishedFile, check_labels, folder_with, read_whole, records
from mmctl.plugin import DataError, Images

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CLASSES_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_COARSE_100 = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2
"""
FINE_100, COARSE_100 = tuple(_FINE_100.split()), tuple(_COARSE_100.split())


@dataclass(frozen=True)
class Version:
    """One published version of the files in a folder."""

    folder: Path
    pickled: bool
    classes: int
    parts: dict[str, tuple[PublishedFile, ...]]


PYTHON: dict[int, dict[str, tuple[PublishedFile, ...]]] = {
    10: {
        "train": (
            PublishedFile("data_batch_1", None, "c99cafc152244af753f735de768cd75f"),
            PublishedFile("data_batch_2", None, "d4bba439e000b95fd0a9bffe97cbabec"),
            PublishedFile("data_batch_3", None, "54ebc095f3ab1f0389bbae665268c751"),
            PublishedFile("data_batch_4", None, "634d18415352ddfa80567beed471001a"),
            PublishedFile("data_batch_5", None, "482c414d41f54cd18b22e5b47cb7c3cb"),
        ),
        "test": (PublishedFile("test_batch", None, "40351d587109b95175f43aff81a1287e"),),
    },
    100: {
        "train": (PublishedFile("train", None, "16019d7e3df5f24257cddd939b257f8d"),),
        "test": (PublishedFile("test", None, "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
    },
}
BINARY: dict[int, dict[str, tuple[PublishedFile, ...]]] = {  # a label or two, then the pixels; MD5s are not published
    10: {
        "train": tuple(PublishedFile(f"data_batch_{n}.bin", 10_000 * (1 + PIXELS)) for n in range(1, 6)),
        "test": (PublishedFile("test_batch.bin", 10_000 * (1 + PIXELS)),),
    },
    100: {
        "train": (PublishedFile("train.bin", 50_000 * (2 + PIXELS)),),
        "test": (PublishedFile("test.bin", 10_000 * (2 + PIXELS)),),
    },
}
FOLDERS = {10: ("cifar-10-batches-py", "cifar-10-batches-bin"), 100: ("cifar-100-python", "cifar-100-binary")}


def version_of(root: Path, classes: int, files: Files, source: str) -> Version | None:
    """The published version below root, or None for class folders, which only files = "any" may read."""
    for pickled, table, place in zip((True, False), (PYTHON, BINARY), FOLDERS[classes], strict=True):
        parts = table[classes]
        for folder in (root / place, root):
            if any((folder / file.name).is_file() for part in parts.values() for file in part):
                return Version(folder, pickled, classes, parts)
    if (root / "train").is_dir() and (root / "test").is_dir():
        if files == "official":
            raise DataError(f"{root}: has class folders of image files instead of the published files. {source} {ANY}")
        return None
    first = PYTHON[classes]["train"][0].name
    folder_with(root, (first,), FOLDERS[classes][:1], source)
    raise DataError(f"{root}: there is no file {first} in it. {source}")


def read_version(version: Version, part: str, files: Files, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 N x 3 x 32 x 32, and labels, int64 N x L; with two columns the superclass is first."""
    pixels, labels = [], []
    for file in version.parts[part]:
        data = read_whole(version.folder, file, files, source, version.pickled)
        path = version.folder / file.name
        pixels_NP, labels_NL = (
            _unpickled(path, data, source) if version.pickled else _binary(path, data, version, source)
        )
        highest = [19, 99][-labels_NL.shape[1] :] if version.classes == 100 else [9]
        for column, high in enumerate(highest):
            check_labels(path, labels_NL[:, column], 0, high, source)
        pixels.append(pixels_NP)
        labels.append(labels_NL.astype(np.int64))
    return np.concatenate(pixels).reshape(-1, 3, SIDE, SIDE), np.concatenate(labels)


def class_folders(root: Path, classes: tuple[str, ...], source: str) -> dict[str, Images]:
    """The images of train/CLASS and test/CLASS, decoded; all have 32 px in CIFAR, others are scaled to that."""
    names = {name: name for name in classes}
    files = [file for part in ("train", "test") for file in class_files(root, part, part, names, source)]
    return decoded(files, classes, SIDE)


def _binary(path: Path, data: bytes, version: Version, source: str) -> tuple[np.ndarray, np.ndarray]:
    columns = 2 if version.classes == 100 else 1
    rows = records(path, data, columns + PIXELS, source)
    return rows[:, columns:], rows[:, :columns]


def _unpickled(path: Path, data: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a file whose MD5 is right."""
    try:
        table = PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
        keys = ("labels",) if "labels" in table else ("coarse_labels", "fine_labels")
        return table["data"], np.array([table[key] for key in keys]).T
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a batch of CIFAR ({error}). {source}") from None


class PlainUnpickler(pickle.Unpickler):
    """Makes texts, numbers, lists, dicts and uint8 arrays of a pickle, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Our own replacements for the three names that an array has in a pickle."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _uint8
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in it")


def _empty(kind: type, shape: tuple[int, ...], code: object) -> np.ndarray:
    """The empty array that a pickle then fills."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array of another kind is not allowed in it")
    return np.empty(0, np.uint8)


def _uint8(code: str, *_: object) -> np.dtype[np.uint8]:
    """The one number type of the pixels; numpy's own function warns about the arguments of these old files."""
    if code != "u1":
        raise pickle.UnpicklingError(f"numbers of type {code} are not allowed in it")
    return np.dtype("u1", copy=True)  # a copy, since the pickle then sets its state
