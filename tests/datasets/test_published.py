"""The published data sets, on small stand-ins in the formats of their files: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import published_sets as made
from helpers.command import Result
from helpers.paths import REPO
from mmctl.data.images import check_images
from mmctl.datasets import _cifar_files, _mapped
from mmctl.datasets import eurosat as eurosat_module
from mmctl.datasets import stl10 as stl10_module
from mmctl.datasets import svhn as svhn_module
from mmctl.datasets._cifar_files import BINARY, PYTHON, PlainUnpickler
from mmctl.datasets._rafdb_files import CLASSES as RAFDB
from mmctl.datasets.cifar import cifar10, cifar100
from mmctl.datasets.eurosat import by_usb, by_vtab, eurosat
from mmctl.datasets.fer2013 import fer2013
from mmctl.datasets.ferplus import ferplus
from mmctl.datasets.rafdb import rafdb
from mmctl.datasets.stl10 import stl10
from mmctl.datasets.svhn import svhn
from mmctl.image_files.files import ImageFile, OnDisk
from mmctl.image_files.packs import cache_folder
from mmctl.plugin import DataError, Images
from mmctl.testing import DatasetContract

DATA = Path(os.environ.get("MMCTL_DATA") or REPO.parent / "shared" / "data")
Read = Callable[..., dict[str, Images]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def hashes(parts: dict[str, Images]) -> dict[str, str]:
    return {part: images.fingerprint for part, images in parts.items()}


# What each one reads


def test_cifar10_binary(tmp_path: Path) -> None:
    parts = cifar10(made.cifar_binary(tmp_path), files="any")
    check_images(parts, "cifar10")
    assert {part: images.pixels.shape for part, images in parts.items()} == {
        "train": (100, 3, 32, 32), "test": (20, 3, 32, 32),
    }  # fmt: skip
    assert parts["train"].targets.tolist() == [row % 10 for row in range(100)]
    assert parts["train"].pixels[20].tobytes() == made.noise(20, 3072, seed=1)[0].tobytes()  # batch 2
    assert parts["test"].ids[:2] == ("test/00000", "test/00001")


@pytest.mark.parametrize(("read", "classes", "each"), [(cifar10, 10, 10), (cifar100, 100, 2)])
def test_the_python_version_is_the_same_data_set(
    read: Read, classes: int, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made.cifar_python(tmp_path, monkeypatch, classes, each)
    assert hashes(read(root)) == hashes(read(root / "binary", files="any"))
    assert hashes(read(next(root.glob("cifar-*")))) == hashes(read(root))  # the inner folder as root


def test_cifar100_has_two_kinds_of_labels(tmp_path: Path) -> None:
    root = made.cifar_binary(tmp_path, 100, 2)
    fine, coarse = cifar100(root, files="any")["train"], cifar100(root, files="any", labels="coarse")["train"]
    check_images({"train": coarse, "test": cifar100(root, files="any", labels="coarse")["test"]}, "cifar100")
    assert (len(fine.classes), len(coarse.classes)) == (100, 20)
    assert (coarse.targets == fine.targets // 5).all()
    assert fine.fingerprint != coarse.fingerprint


def test_the_md5s_are_torchvisions() -> None:
    from torchvision import datasets as theirs

    for classes, one in ((10, theirs.CIFAR10), (100, theirs.CIFAR100)):
        assert [[f.name, f.md5] for f in PYTHON[classes]["train"]] == one.train_list
        assert [[f.name, f.md5] for f in PYTHON[classes]["test"]] == one.test_list
    for part, file in (("train", svhn_module.TRAIN), ("test", svhn_module.TEST), ("extra", svhn_module.EXTRA)):
        assert theirs.SVHN.split_list[part][1:] == [file.name, file.md5]
    assert {(f.name, f.md5) for f in (stl10_module.TRAIN, stl10_module.TRAIN_LABELS, stl10_module.UNLABELED)} == {
        (name, md5) for name, md5 in theirs.STL10.train_list
    }
    assert [[f.name, f.md5] for f in (stl10_module.TEST, stl10_module.TEST_LABELS)] == theirs.STL10.test_list


def test_a_pickle_that_is_not_the_published_one_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.cifar_python(tmp_path, monkeypatch)
    trace = tmp_path / "trace"
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(f"cposix\nsystem\n(S'touch {trace}'\ntR.".encode())
    for files in ("official", "any"):
        with pytest.raises(DataError, match=r"data_batch_3: damaged.*MD5 \w{32}, but the published file has \w{32}"):
            cifar10(tmp_path, files=files)
    # And if somebody made a file with the right MD5:
    monkeypatch.setitem(PYTHON, 10, {p: tuple(f._replace(md5=None) for f in files) for p, files in PYTHON[10].items()})
    with pytest.raises(DataError, match="system is not allowed"):
        cifar10(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [np.zeros(3), np.array([None]), np.zeros((2, 2), np.int64), pickle.PickleBuffer, Path("x"), Exception("x"), open],
    ids=str,
)
def test_only_arrays_of_bytes_are_unpickled(value: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        PlainUnpickler(io.BytesIO(made.python2_pickle({"data": value})), encoding="latin1").load()
    plain = {"a": [1, "b"], "data": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    back = PlainUnpickler(io.BytesIO(made.python2_pickle(plain)), encoding="latin1").load()
    assert back["data"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.dtype("u1").str == "|u1"


def test_class_folders_are_read_where_the_recipe_says_so(tmp_path: Path) -> None:
    root = made.class_folders(tmp_path)
    with pytest.raises(
        DataError, match=r"class folders of image files instead of the published files.*files = \"any\""
    ):
        cifar10(root)
    parts = cifar10(root, files="any")
    check_images(parts, "cifar10")
    assert parts["train"].pixels.shape == (40, 3, 32, 32)
    assert parts["train"].ids[:5] == [
        *(f"train/airplane/{row:04d}.jpg" for row in range(4)),
        "train/automobile/0000.jpg",
    ]
    assert parts["train"].targets.tolist() == [k for k in range(10) for _ in range(4)]
    with Image.open(root / "train" / "cat" / "0002.jpg") as picture:
        assert (np.asarray(parts["train"].pixels[14]).transpose(1, 2, 0) == np.asarray(picture)).all()
    (root / "train" / "dragon").mkdir()
    with pytest.raises(DataError, match="no class 'dragon'"):
        cifar10(root, files="any")
    (root / "train" / "dragon").rmdir()
    shutil.rmtree(root / "test" / "frog")
    with pytest.raises(DataError, match="test: the class folder 'frog' is missing"):
        cifar10(root, files="any")


def test_svhn(tmp_path: Path) -> None:
    parts = svhn(made.svhn(tmp_path), files="any")
    check_images(parts, "svhn")
    assert parts["train"].pixels.shape == (60, 3, 32, 32)
    assert parts["train"].targets.tolist() == [(row + 1) % 10 for row in range(60)]  # 10 stands for the digit 0
    source = made.noise(60, 32, 32, 3, seed=60)
    assert (np.asarray(parts["train"].pixels[7]).transpose(1, 2, 0) == source[7]).all()
    with pytest.raises(DataError, match=r"extra_32x32.mat: there is no such file"):
        svhn(tmp_path, files="any", extra=True)
    made.svhn(tmp_path, extra=33)
    more = svhn(tmp_path, files="any", extra=True)["train"]
    check_images({"train": more, "test": parts["test"]}, "svhn")
    assert isinstance(more.pixels, np.memmap)
    assert (np.asarray(more.pixels[:60]) == parts["train"].pixels).all()
    assert (np.asarray(more.pixels[65]).transpose(1, 2, 0) == made.noise(33, 32, 32, 3, seed=33)[5]).all()
    assert more.targets[60:].tolist() == [(row + 1) % 10 for row in range(33)]
    assert more.ids[60] == "extra/000000"
    loaded = svhn(tmp_path, files="any", extra=True, memory="load")["train"]
    assert not isinstance(loaded.pixels, np.memmap)
    assert loaded.fingerprint == more.fingerprint != parts["train"].fingerprint


def test_the_extra_images_of_svhn_are_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.svhn(tmp_path, extra=33)
    read, names = svhn_module._read, []

    def counted(folder: Path, file: Any, files: Any) -> tuple[np.ndarray, np.ndarray]:
        names.append(file.name)
        return read(folder, file, files)

    monkeypatch.setattr(svhn_module, "_read", counted)
    for _ in range(2):
        assert len(svhn(tmp_path, files="any", extra=True)["train"].ids) == 93
    assert names.count("extra_32x32.mat") == 1
    (tmp_path / "extra_32x32.mat").write_bytes(b"no MATLAB file")
    with pytest.raises(DataError, match=r"extra_32x32.mat: not a MATLAB file"):
        svhn(tmp_path, files="any", extra=True)


def test_stl10(tmp_path: Path) -> None:
    root = made.stl10(tmp_path / "stl")
    parts = stl10(root, files="any")
    train = parts["train"]
    check_images(parts, "stl10")
    assert isinstance(train.pixels, np.memmap)
    assert train.pixels.shape == (70, 3, 96, 96)
    assert train.targets.tolist() == [row % 10 for row in range(40)] + [-1] * 30
    assert (train.ids[39], train.ids[40]) == ("train/00039", "unlabeled/000000")
    for row, source in ((3, made.noise(40, 3, 96, 96, seed=40)[3]), (45, made.noise(30, 3, 96, 96, seed=30)[5])):
        assert (np.asarray(train.pixels[row]) == source.transpose(0, 2, 1)).all()  # the files are column by column
    assert [rows.tolist() for rows in train.official] == [
        [*range(20)], [*range(10, 30)], [*range(20, 40)],
    ]  # fmt: skip
    assert sorted(p.name for p in root.rglob("*")) == [
        "fold_indices.txt", "stl10_binary", "test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin", "unlabeled_X.bin",
    ], "nothing is written into the data folder"  # fmt: skip
    loaded = stl10(root, files="any", memory="load")["train"]
    assert loaded.fingerprint == train.fingerprint
    assert (loaded.pixels == np.asarray(train.pixels)).all()
    small = stl10(root, files="any", unlabeled=False)["train"]
    assert (len(small.ids), len(small.official)) == (40, 3)
    assert (np.asarray(small.pixels) == np.asarray(train.pixels[:40])).all()


def test_the_map_is_built_once_and_again_when_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made.stl10(tmp_path / "stl")
    first = stl10(root, files="any")["train"].fingerprint
    build, calls = _mapped._build, []
    monkeypatch.setattr(_mapped, "_build", lambda *args: calls.append(1) or build(*args))
    assert stl10(root, files="any")["train"].fingerprint == first
    assert not calls
    path = root / "stl10_binary" / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[: 20 * stl10_module.LENGTH])
    assert stl10(root, files="any")["train"].fingerprint != first
    assert len(calls) == 1
    for cached in (tmp_path / "cache" / "mmctl").glob("stl10-*.npy"):
        cached.write_bytes(cached.read_bytes()[:1000])  # a damaged map
    assert len(stl10(root, files="any")["train"].ids) == 60
    assert len(calls) == 2
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_map_that_does_not_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mapped, "SPARE", 10**18)
    with pytest.raises(DataError, match=r"GiB are needed for decoded images, but .* Free space, or set XDG_CACHE_HOME"):
        stl10(made.stl10(tmp_path), files="any")


def test_a_damaged_unlabelled_file_leaves_no_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made.stl10(tmp_path / "stl")
    folder = root / "stl10_binary"
    for name in ("TRAIN", "TRAIN_LABELS", "UNLABELED", "TEST", "TEST_LABELS"):
        file = getattr(stl10_module, name)
        data = (folder / file.name).read_bytes()
        monkeypatch.setattr(stl10_module, name, file._replace(size=len(data), md5=hashlib.md5(data).hexdigest()))
    official = stl10(root)["train"]
    assert official.pixels.shape == (70, 3, 96, 96)
    path = folder / "unlabeled_X.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    before = set((tmp_path / "cache").rglob("*"))
    with pytest.raises(DataError, match=r"unlabeled_X.bin: damaged.*MD5"):
        stl10(root)
    assert set((tmp_path / "cache").rglob("*")) == before
    assert stl10(root, files="any")["train"].fingerprint != official.fingerprint


def test_eurosat(tmp_path: Path) -> None:
    root = made.eurosat(tmp_path)
    with pytest.raises(DataError, match=r"100 images, but the published data set has 27,000"):
        eurosat(root, split="usb")
    usb, vtab = eurosat(root, split="usb", files="any"), eurosat(root, split="vtab", files="any")
    check_images(usb, "eurosat")
    check_images(vtab, "eurosat")
    assert {p: len(i.ids) for p, i in usb.items()} == {"train": 80, "test": 20}
    assert np.bincount(usb["train"].targets).tolist() == [8] * 10
    assert {p: len(i.ids) for p, i in vtab.items()} == {"train": 60, "val": 20, "test": 20}
    assert usb["train"].ids[:3] == [f"AnnualCrop/AnnualCrop_{n}.jpg" for n in (1, 10, 2)]  # sorted as texts
    shutil.move(root / "2750", root / "EuroSAT")
    assert hashes(eurosat(root, split="usb", files="any")) == hashes(usb)


def test_the_two_divisions_of_eurosat_by_their_definition() -> None:
    names = [f"{c}_{n}.jpg" for c in eurosat_module.CLASSES for n in range(1, 2701)]
    files = [
        ImageFile(f"{n.partition('_')[0]}/{n}", OnDisk(Path(n)), "train", n.partition("_")[0], "")
        for n in sorted(names)
    ]
    vtab = by_vtab(files)
    assert [file.part for file in vtab] == ["train"] * 16200 + ["val"] * 5400 + ["test"] * 5400
    # TensorFlow Datasets: the key AnnualCrop_AnnualCrop_1.jpg, salted with the split's name, as a 128-bit number.
    order = {n: int(hashlib.md5(f"train{n.partition('_')[0]}_{n}".encode()).hexdigest(), 16) for n in names}
    assert [file.id.rpartition("/")[2] for file in vtab] == sorted(names, key=order.__getitem__)
    usb = by_usb(files)
    assert [file.part for file in usb] == ["train"] * 21600 + ["test"] * 5400


@pytest.mark.parametrize("layout", ["list", "numbers", "names", "csv"])
def test_rafdb_has_three_layouts(layout: str, tmp_path: Path) -> None:
    root = made.rafdb(tmp_path, layout=layout)
    with pytest.raises(DataError, match=r"train has 35 images, but the published data set has 12,271"):
        rafdb(root)
    parts = rafdb(root, files="any")
    check_images(parts, "rafdb")
    assert {p: i.pixels.shape for p, i in parts.items()} == {"train": (35, 3, 96, 96), "test": (14, 3, 96, 96)}
    assert np.bincount(parts["train"].targets).tolist() == [5] * 7
    row = next(n for n, id in enumerate(parts["train"].ids) if "train_00003" in id)
    assert parts["train"].classes[parts["train"].targets[row]] == RAFDB[2]


@pytest.mark.parametrize(("fit", "size"), [("pad", 104), ("pad", 100), ("crop", 96), ("resize", 48)])
def test_rafdb_in_other_sizes(fit: str, size: int, tmp_path: Path) -> None:
    root = made.rafdb(tmp_path, each=1)
    pixels = np.asarray(rafdb(root, files="any", fit=fit, size=size)["train"].pixels)
    whole = np.asarray(rafdb(root, files="any", fit="crop", size=100)["train"].pixels)
    assert pixels.shape == (7, 3, size, size)
    if fit == "pad":
        before = (size - 100) // 2
        assert (pixels[:, :, before : before + 100, before : before + 100] == whole).all()
        assert (pixels[:, :, 0, 0] == whole[:, :, 0, 0]).all()
    elif fit == "crop":
        assert (pixels == whole[:, :, 2:98, 2:98]).all()
    for wrong in ({"fit": "pad", "size": 96}, {"fit": "crop", "size": 104}):
        with pytest.raises(DataError, match=r"dataset.size must be at"):
            rafdb(root, files="any", **wrong)  # type: ignore[arg-type]


def fer_csv(folder: Path, emotions: str, header: str = "emotion,pixels,Usage") -> Path:
    folder.mkdir(exist_ok=True)
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [f"{e},{' '.join([str(n)] * 2304)},{usages[n % 3]}" for n, e in enumerate(emotions)]
    (folder / "fer2013.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_fer2013_has_its_own_labels(tmp_path: Path) -> None:
    root = fer_csv(tmp_path, "012345601")
    parts = fer2013(root)
    check_images(parts, "fer2013")
    assert {p: i.targets.tolist() for p, i in parts.items()} == {
        "train": [0, 3, 6],
        "val": [1, 4, 0],
        "test": [2, 5, 1],
    }
    assert int(parts["val"].pixels[1, 0, 0, 0]) == 4
    assert parts["train"].ids == ("Training/00000", "Training/00003", "Training/00006")
    usages = ("Training", "PublicTest", "PrivateTest")
    votes = ["10,0,0,0,0,0,0,0,0,0"] * 8 + ["5,5,0,0,0,0,0,0,0,0"]  # the last one has no majority
    lines = [f"{usages[n % 3]},fer{n:07d}.png,{v}" for n, v in enumerate(votes)]
    head = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    (root / "fer2013new.csv").write_text("\n".join([head, *lines]) + "\n")
    both, theirs = fer2013(root, images="ferplus"), ferplus(root)
    for part in ("train", "val", "test"):
        assert both[part].ids == theirs[part].ids
        assert (both[part].pixels == theirs[part].pixels).all()
    assert both["test"].targets.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("emotions", "message"),
    [("666666", "emotion is 6 in every row: this copy has no labels"), ("01x345", "emotion of image 3"),
     ("017345", "emotion of image 3")],
)  # fmt: skip
def test_fer2013_without_labels(emotions: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        fer2013(fer_csv(tmp_path, emotions))


# What is missing or damaged


SETS: dict[str, tuple[Read, Callable[[Path], Path]]] = {
    "cifar10": (cifar10, made.cifar_binary),
    "cifar100": (cifar100, lambda path: made.cifar_binary(path, 100, 2)),
    "svhn": (svhn, made.svhn),
    "stl10": (stl10, made.stl10),
    "eurosat": (lambda root, **more: eurosat(root, split="vtab", **more), made.eurosat),
    "rafdb": (rafdb, made.rafdb),
    "fer2013": (lambda root, files="any": fer2013(root), lambda path: fer_csv(path, "0123456")),
}


@pytest.mark.parametrize("name", SETS)
def test_what_is_missing_is_said_with_the_address(name: str, tmp_path: Path) -> None:
    read, make = SETS[name]
    empty = tmp_path / "empty"
    empty.mkdir()
    for root in (tmp_path / "nowhere", empty):
        with pytest.raises(DataError, match=r"https?://|Kaggle") as raised:
            read(root)
        assert str(root) in str(raised.value)
        assert f"data/{name}" in str(raised.value)
    root = make(tmp_path / "made")
    files = [
        p for p in sorted(root.rglob("*")) if p.suffix in (".bin", ".mat", ".txt") and p.name != "fold_indices.txt"
    ]
    for path in files:
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=re.escape(path.name)):
            read(root, files="any")
        os.mkfifo(path)
        with pytest.raises(DataError):
            read(root, files="any")
        path.unlink()
        path.write_bytes(kept)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "stl10"])
def test_a_file_of_another_size_is_named_with_both_sizes(name: str, tmp_path: Path) -> None:
    read, make = SETS[name]
    root = make(tmp_path / "made")
    with pytest.raises(DataError, match=r"damaged, incomplete or another file: it has [\d]+ bytes, but .* has [\d]+\."):
        read(root)
    files = [p for p in sorted(root.rglob("*")) if p.suffix in (".bin", ".mat")]
    for path in files:
        kept = path.read_bytes()
        for broken in (kept[:-7], b"", kept[: len(kept) // 2 + 1]):
            path.write_bytes(broken)
            # Of images and labels whose numbers differ, either may be the one that is cut.
            with pytest.raises(DataError, match=re.escape(path.name).replace("_y", "_[Xy]")):
                read(root, files="any")
        path.write_bytes(kept)
    read(root, files="any")


def test_labels_out_of_range(tmp_path: Path) -> None:
    path = made.cifar_binary(tmp_path / "c") / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch.bin: labels go from 0 to 10, but must be from 0 to 9"):
        cifar10(tmp_path / "c", files="any")
    path = made.stl10(tmp_path / "s") / "stl10_binary" / "train_y.bin"
    path.write_bytes(b"\x00" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"train_y.bin: labels go from 0 to 10, but must be from 1 to 10"):
        stl10(tmp_path / "s", files="any")


@pytest.mark.parametrize(
    ("text", "message"),
    [("0 1 99", r":1: rows must be different"), ("0 0", r":1: rows must be different"), ("0 x", "not a list of row")],
)
def test_broken_folds(text: str, message: str, tmp_path: Path) -> None:
    root = made.stl10(tmp_path)
    (root / "stl10_binary" / "fold_indices.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        stl10(root, files="any")


def test_a_mat_file_of_other_content(tmp_path: Path) -> None:
    from scipy.io import savemat

    made.svhn(tmp_path)
    savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((32, 32, 1, 5)), "y": np.ones(5)})
    with pytest.raises(DataError, match=r"test_32x32.mat: X is float64 \[32, 32, 1, 5\]"):
        svhn(tmp_path, files="any")
    savemat(tmp_path / "test_32x32.mat", {"Z": np.ones(5)})
    with pytest.raises(DataError, match="not a MATLAB file with X and y"):
        svhn(tmp_path, files="any")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_00001.jpg", "a line is a name and a label"),
        ("train_00001.jpg 8", "label '8' is not a number from 1 to 7"),
        ("train_99999.jpg 1", "there is no image train_99999_aligned.jpg"),
        ("valid_00001.jpg 1", "begins with neither train_ nor test_"),
        ("train_00001.jpg 1\ntrain_00001.jpg 1", "is listed twice"),
    ],
)
def test_wrong_lines_of_rafdb(line: str, message: str, tmp_path: Path) -> None:
    root = made.rafdb(tmp_path)
    (root / "EmoLabel" / "list_patition_label.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=rf"list_patition_label.txt:\d: .*{message}"):
        rafdb(root, files="any")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = made.rafdb(tmp_path) / "Image" / "aligned" / "train_00004_aligned.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="train_00004_aligned"):
        rafdb(tmp_path, files="any")


def test_an_archive_that_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "stl10_binary.tar.gz").touch()
    with pytest.raises(DataError, match=r"stl10_binary.tar.gz is not unpacked"):
        stl10(tmp_path)


# The contract


class TestCifar10(DatasetContract):
    component = "cifar10"
    params = ({"files": "any"},)
    make_root = staticmethod(lambda folder: folder if any(folder.iterdir()) else made.cifar_binary(folder))


class TestCifar100(DatasetContract):
    component = "cifar100"
    params = ({"files": "any"}, {"files": "any", "labels": "coarse"})
    make_root = staticmethod(lambda folder: folder if any(folder.iterdir()) else made.cifar_binary(folder, 100, 2))


class TestSvhn(DatasetContract):
    component = "svhn"
    params = ({"files": "any"}, {"files": "any", "extra": True})
    make_root = staticmethod(lambda folder: made.svhn(folder, extra=30))


class TestStl10(DatasetContract):
    component = "stl10"
    params = ({"files": "any"}, {"files": "any", "unlabeled": False})
    make_root = staticmethod(lambda folder: folder if any(folder.iterdir()) else made.stl10(folder))


class TestEurosat(DatasetContract):
    component = "eurosat"
    params = ({"files": "any", "split": "usb"}, {"files": "any", "split": "vtab"})
    make_root = staticmethod(lambda folder: folder if any(folder.iterdir()) else made.eurosat(folder))


class TestRafdb(DatasetContract):
    component = "rafdb"
    params = ({"files": "any"}, {"files": "any", "fit": "pad", "size": 104})
    make_root = staticmethod(lambda folder: folder if any(folder.iterdir()) else made.rafdb(folder))


class TestFer2013(DatasetContract):
    component = "fer2013"
    make_root = staticmethod(lambda folder: fer_csv(folder, "012345601234560123456"))


# The real images


def unpacked(folder: Path, *words: str) -> Path:
    """Real CIFAR-10, or some of it, as jpg files."""
    if not (DATA / "unpack").is_file():
        pytest.skip(f"no CIFAR-10 here: {DATA}/unpack is missing (set MMCTL_DATA)")
    subprocess.run([sys.executable, DATA / "unpack", "cifar10", folder, *words], check=True, capture_output=True)
    return folder


@pytest.fixture
def real_cifar10(tmp_path: Path) -> Path:
    return unpacked(tmp_path / "all")


@pytest.fixture
def few_cifar10(tmp_path: Path) -> Path:
    return unpacked(tmp_path / "few", "--limit", "300")


@pytest.mark.exhaustive
def test_cifar10_from_real_jpg_files(real_cifar10: Path) -> None:
    parts = cifar10(real_cifar10, files="any")
    check_images(parts, "cifar10")
    assert np.bincount(parts["train"].targets).tolist() == [5000] * 10
    assert np.bincount(parts["test"].targets).tolist() == [1000] * 10
    mean = np.asarray(parts["train"].pixels).mean((0, 2, 3), dtype=np.float64) / 255
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.002)  # the well-known figures


@pytest.mark.slow
def test_a_network_learns_real_cifar10(few_cifar10: Path, mm: Callable[..., Result]) -> None:
    sets = (
        f"dataset.root={few_cifar10}", "dataset.files=any", "method.name=supervised", "backbone.name=small",
        "split.labels=all", "train.steps=100", "average.decay=0.9", "eval.every=100", "train.save_every=100",
    )  # fmt: skip
    extends = 'extends = ["methods/supervised", "base/cifar10"]\n'
    Path("real.toml").write_text(extends)
    done = mm("run", "real.toml", *(word for one in sets for word in ("--set", one)))
    assert done.code == 0, done.err
    found = re.search(r"completed, 100 steps, test accuracy ([\d.]+) %", done.out)
    assert found
    assert float(found[1]) > 18  # 10 is chance


def test_all_files_of_the_tables_are_told_apart() -> None:
    for table in (PYTHON, BINARY):
        assert all(file.size or file.md5 for parts in table.values() for part in parts.values() for file in part)
    assert len(set(_cifar_files.FINE_100)) == 100
    assert len(set(_cifar_files.COARSE_100)) == 20


def test_a_map_is_built_once_at_a_time_and_replaces_the_one_of_older_files(tmp_path: Path) -> None:
    source, filled = tmp_path / "source", []
    source.write_bytes(b"1")

    def fill(array: np.ndarray) -> list[str]:
        filled.append(1)
        time.sleep(0.05)  # the others arrive meanwhile
        array[:] = len(filled)
        return ["said"]

    def build() -> tuple[np.ndarray, list[str]]:
        return _mapped.mapped("mine", [source], (2, 3), fill)

    with ThreadPoolExecutor(4) as pool:
        assert [told for _, told in pool.map(lambda _: build(), range(4))] == [["said"]] * 4
    assert len(filled) == 1
    source.write_bytes(b"22")
    assert build()[0].tolist() == [[2] * 3] * 2
    assert len([*cache_folder().glob("mine-*.npy")]) == len([*cache_folder().glob("mine-*.json")]) == 1
