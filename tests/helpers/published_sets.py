"""Small stand-ins of published data sets, in the formats of their files."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmctl.datasets import _cifar_files
from mmctl.datasets._cifar_files import CLASSES_10, PYTHON
from mmctl.datasets._published import PublishedFile
from mmctl.datasets._rafdb_files import CLASSES as RAFDB
from mmctl.datasets.eurosat import CLASSES as EUROSAT

ANY = "dataset.files=any"


def noise(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def cifar_binary(root: Path, classes: int = 10, each: int = 10) -> Path:
    """Binary CIFAR: `each` images of a class in training, two in test."""
    folder = root / ("cifar-10-batches-bin" if classes == 10 else "cifar-100-binary")
    folder.mkdir(parents=True)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] if classes == 10 else ["train.bin"]
    per_file = classes * each // len(names)
    for n, name in enumerate([*names, "test_batch.bin" if classes == 10 else "test.bin"]):
        size = 2 * classes if n == len(names) else per_file
        labels = ((np.arange(size) + n * per_file) % classes).astype(np.uint8)[:, None]
        if classes == 100:
            labels = np.concatenate([labels // 5, labels], 1)
        (folder / name).write_bytes(np.concatenate([labels, noise(size, 3072, seed=n)], 1).tobytes())
    return root


class _Python2Pickler(pickle._Pickler):
    """Writes texts and bytes as Python 2 wrote its strings, as in the published files."""

    def save_string(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, str: save_string, bytes: save_string}


def python2_pickle(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Python2Pickler(buffer, 2).dump(value)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar_python(root: Path, patch: pytest.MonkeyPatch, classes: int = 10, each: int = 10) -> Path:
    """The same images as pickles; their MD5s become the published ones."""
    binary = cifar_binary(root / "binary", classes, each)
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir()
    known: dict[str, Any] = {}
    for part, files in PYTHON[classes].items():
        made = []
        for file in files:
            source = next((binary / _cifar_files.FOLDERS[classes][1]).glob(f"{file.name}.bin"))
            columns = 2 if classes == 100 else 1
            rows = np.frombuffer(source.read_bytes(), np.uint8).reshape(-1, columns + 3072)
            labels = [column.tolist() for column in rows[:, :columns].T]
            keys = ["coarse_labels", "fine_labels"] if classes == 100 else ["labels"]
            table = {"data": rows[:, columns:].copy(), **dict(zip(keys, labels, strict=True)), "filenames": ["a.png"]}
            data = python2_pickle(table)
            (folder / file.name).write_bytes(data)
            made.append(PublishedFile(file.name, None, hashlib.md5(data).hexdigest()))
        known[part] = tuple(made)
    patch.setitem(PYTHON, classes, known)
    return root


def svhn(root: Path, train: int = 60, test: int = 20, extra: int = 0) -> Path:
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    for name, n in (("train", train), ("test", test), ("extra", extra)):
        if n:
            labels = (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]
            pixels = noise(n, 32, 32, 3, seed=n).transpose(1, 2, 3, 0)
            savemat(root / f"{name}_32x32.mat", {"X": pixels, "y": labels}, do_compression=True)
    return root


def stl10(root: Path, train: int = 40, test: int = 20, unlabeled: int = 30, folds: int = 3, each: int = 20) -> Path:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for name, n in (("train", train), ("test", test), ("unlabeled", unlabeled)):
        (folder / f"{name}_X.bin").write_bytes(noise(n, 3, 96, 96, seed=n).tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes((np.arange(n) % 10 + 1).astype(np.uint8).tobytes())
    lines = (" ".join(map(str, (np.arange(each) + 10 * k) % train)) for k in range(folds))
    (folder / "fold_indices.txt").write_text("\n".join(lines) + "\n")
    return root


def image(path: Path, side: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(side, side, 3, seed=seed)).save(path, quality=95)


def class_folders(root: Path, classes: tuple[str, ...] = CLASSES_10, side: int = 32, each: int = 4) -> Path:
    """train/CLASS/0000.jpg ... and test/CLASS, as CIFAR-10 is unpacked from image files."""
    for part, n in (("train", each), ("test", 2)):
        for k, name in enumerate(classes):
            for row in range(n):
                image(root / part / name / f"{row:04d}.jpg", side, 100 * k + row + 1000 * (part == "test"))
    return root


def eurosat(root: Path, each: int = 10) -> Path:
    for k, name in enumerate(EUROSAT):
        for row in range(1, each + 1):
            image(root / "2750" / name / f"{name}_{row}.jpg", 64, 100 * k + row)
    return root


def rafdb(root: Path, each: int = 5, layout: str = "list") -> Path:
    """RAF-DB as published ("list"), in folders 1 to 7 ("numbers"), with names ("names"), or with "csv" files."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for part, n in (("train", each), ("test", 2)):
        for row in range(7 * n):
            k, stem = row % 7, f"{part}_{row + 1:05d}"
            place = {
                "list": f"Image/aligned/{stem}_aligned.jpg", "numbers": f"{part}/{k + 1}/{stem}_aligned.jpg",
                "names": f"{part}/{RAFDB[k].lower()}/{stem}_aligned.jpg", "csv": f"{part}/{stem}_aligned.jpg",
            }[layout]  # fmt: skip
            image(root / place, 100, row + 1000 * (part == "test"))
            lines[part].append(f"{stem}.jpg {k + 1}" if layout == "list" else f"{stem}_aligned.jpg,{k + 1}")
    if layout == "list":
        (root / "EmoLabel").mkdir()
        (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines["test"] + lines["train"]) + "\n")
    elif layout == "csv":
        for part, rows in lines.items():
            (root / f"{part}_labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return root
