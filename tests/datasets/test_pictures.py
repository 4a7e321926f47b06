"""The data set of own images: parts, labels, what is left out, and that it is the published set where both can read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.paths import REPO
from mmctl.datasets.pictures import pictures
from mmctl.plugin import DataError
from mmctl.testing.dataset import DatasetContract


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3), value, np.uint8)).save(path)


def photos(root: Path) -> Path:
    """Two labelled classes, two images without a label, a val and a test part; the red value numbers the images."""
    names = ("train/cat/1", "train/cat/2", "train/dog/1", "unlabeled/8", "unlabeled/9", "val/dog/1", "test/cat/5")
    for n, name in enumerate(names):
        draw(root / f"{name}.png", n * 10)
    return root


class TestPictures(DatasetContract):
    component = "pictures"
    params = ({"size": 6}, {"size": 4, "channels": 1, "resize": "stretch"}, {"size": 6, "memory": "map"})
    make_root = staticmethod(lambda folder: folder if any(folder.iterdir()) else photos(folder))


@pytest.mark.parametrize("memory", ["load", "map"])
def test_parts(tmp_path: Path, memory: str) -> None:
    data = pictures(photos(tmp_path / "photos"), size=6, memory=memory)  # type: ignore[arg-type]
    assert {part: one.targets.tolist() for part, one in data.items()} == {
        "train": [0, 0, 1, -1, -1], "val": [1], "test": [0]
    }  # fmt: skip
    assert data["train"].ids == ["train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "unlabeled/8.png",
                                 "unlabeled/9.png"]  # fmt: skip
    assert [one.pixels[:, 0, 0, 0].tolist() for one in data.values()] == [[0, 10, 20, 30, 40], [50], [60]]
    assert all(isinstance(one.pixels, np.memmap) == (memory == "map") for one in data.values())
    assert all(one.classes == ("cat", "dog") for one in data.values())


def test_another_label_needs_no_other_map(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for n in range(6):
        draw(root / f"{n}.png", n)
    for count in (2, 3, 4):
        rows = [f"{5 - n}.png,{'cd'[n % 2]}\n" for n in range(count)]
        (root / "labels.csv").write_text("path,label\n" + "".join(rows))
        train = pictures(root, size=6)["train"]
        assert train.targets.tolist() == [-1, -1, *([-1, -1, 1, 0], [-1, 0, 1, 0], [1, 0, 1, 0])[count - 2]]
    assert len(list((tmp_path / "cache").rglob("all-*"))) == 1


def test_the_label_of_an_unlabelled_image_is_not_shown(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    rows = [f"{path.relative_to(root)},{path.parent.name},train" for path in sorted((root / "train").rglob("*.png"))]
    (root / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\nunlabeled/8.png,dog,unlabeled\n")
    data = pictures(root, size=6)
    assert dict(zip(data["train"].ids, data["train"].targets.tolist(), strict=True))["unlabeled/8.png"] == -1


def test_what_is_left_out_is_listed_and_changes_the_fingerprint(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    whole = pictures(root, size=6)
    (root / "train/cat/2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/cat/2\.png"):
        pictures(root, size=6)
    data = pictures(root, size=6, on_bad="skip")
    assert [*data["train"].skipped] == ["train/cat/2.png"]
    assert data["test"].skipped == {}
    assert data["train"].fingerprint != whole["train"].fingerprint
    assert data["test"].fingerprint == whole["test"].fingerprint
    (root / "train/cat/2.png").unlink()
    assert data["train"].fingerprint != pictures(root, size=6)["train"].fingerprint


def test_what_a_user_should_know_is_said_once(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    before = pictures(root, size=6)["train"]
    assert before.notes == ()
    for name in ("train/cat/1", "test/cat/5"):
        Image.open(root / f"{name}.png").save(root / f"{name}.gif")
        (root / f"{name}.gif").replace(root / f"{name}.png")
    draw(root / "loose.png", 99)
    (root / "test/README.md").touch()
    (root / "unlabeled/.hidden").touch()
    data = pictures(root, size=6)
    assert data["train"].notes == (
        "unlabelled, since they lie beside the class folders: 1 image",
        "left out: 1 hidden (the name begins with a dot), 1 no image: .md",
        "2 images: GIF in a file that ends in .png",
    )
    assert data["test"].notes == ()
    (root / "test/README.md").unlink()
    again = pictures(root, size=6)
    assert again["train"].notes != data["train"].notes
    assert again["train"].fingerprint == data["train"].fingerprint, "notes are no part of the data"


def test_the_limit_counts_millions_and_is_named_as_in_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"6 x 6 px are more than 30 \(max_megapixels\)"):
        pictures(photos(tmp_path / "photos"), size=6, max_megapixels=0.00003)


def test_no_image_for_training_is_refused(tmp_path: Path) -> None:
    for n, name in enumerate(("test/cat/1", "test/dog/2")):
        draw(tmp_path / "photos" / f"{name}.png", n)
    with pytest.raises(DataError, match="photos: all images are for val or test, none for training"):
        pictures(tmp_path / "photos", size=6)


@pytest.mark.parametrize("part", ["train", "unlabeled", "test"])
def test_a_part_of_damaged_images_alone_is_refused(tmp_path: Path, part: str) -> None:
    root = photos(tmp_path / "photos")
    paths = sorted((root / part).rglob("*.png"))
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"photos: none of the {len(paths)} images of {part} can be read \({part}/"):
        pictures(root, size=6, on_bad="skip")


@pytest.mark.parametrize("change", ["pixel", "label", "name"])
def test_every_change_is_in_the_fingerprint(tmp_path: Path, change: str) -> None:
    root = photos(tmp_path / "photos")
    before = pictures(root, size=6)["train"].fingerprint
    old = root / "train/cat/2.png"
    if change == "pixel":
        draw(old, 11)
    elif change == "label":
        old.rename(root / "train/dog/2.png")
    else:
        old.rename(root / "train/cat/3.png")
    assert pictures(root, size=6)["train"].fingerprint != before


def test_order_of_classes_and_size(tmp_path: Path) -> None:
    data = pictures(photos(tmp_path / "photos"), size=(4, 8), classes=["dog", "cat"])
    assert data["train"].classes == ("dog", "cat")
    assert data["train"].targets.tolist() == [1, 1, 0, -1, -1]
    assert data["train"].pixels.shape == (5, 3, 4, 8)


@pytest.mark.slow
def test_ferplus_as_plain_folders_has_the_counts_of_ferplus(tmp_path: Path) -> None:
    """The same faces, once by the reader of FER+, once as class folders that anybody could have."""
    from mmctl.datasets.ferplus import ferplus

    root = Path(os.environ.get("MMCTL_DATA") or REPO.parent / "shared" / "data")
    if not (root / "unpack").exists():
        pytest.skip("needs the FER+ images (MMCTL_DATA)")
    import subprocess
    import sys

    subprocess.run([sys.executable, str(root / "unpack"), "ferplus", str(tmp_path / "f"), "--limit", "600"], check=True)
    known = ferplus(tmp_path / "f")
    names = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
    for part, one in known.items():
        for id, label in zip(one.ids, one.targets.tolist(), strict=True):
            to = tmp_path / "plain" / part / one.classes[label]
            to.mkdir(parents=True, exist_ok=True)
            (to / id).write_bytes((tmp_path / "f" / names[part] / id).read_bytes())
    data = pictures(tmp_path / "plain", size=48, channels=1)
    for part, one in known.items():
        mine = data[part]
        count = {mine.classes[k]: n for k, n in enumerate(np.bincount(mine.targets, minlength=len(mine.classes)))}
        theirs = {one.classes[k]: n for k, n in enumerate(np.bincount(one.targets, minlength=8)) if n}
        assert {name: n for name, n in count.items() if n} == theirs
        rows = {id.rpartition("/")[2]: row for row, id in enumerate(mine.ids)}
        assert np.array_equal(mine.pixels[[rows[id] for id in one.ids]], one.pixels)
