"""`mmctl data check`: each finding, on the smallest data that has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmctl.dataset_tools.check import Checked, add_files, check_data
from mmctl.dataset_tools.sheet import COLUMNS, contact_sheet
from mmctl.image_files.found import find_images
from mmctl.plugin import Images

CLASSES = ("cat", "dog")


def part(targets: Sequence[int], name: str, seed: int = 0, classes: Sequence[str] = CLASSES) -> Images:
    pixels = np.random.default_rng([seed, *name.encode()]).integers(0, 256, (len(targets), 3, 4, 4), np.uint8)
    return Images.of(pixels, np.array(targets, np.int64), classes, [f"{name}{n}" for n in range(len(targets))])


def of(kind: str, made: Checked) -> list[str]:
    return [f"{one.level}: {one.text}" for one in made.findings if one.kind == kind]


def changed(images: Images, rows: dict[int, np.ndarray]) -> Images:
    pixels = images.pixels.copy()
    for row, value in rows.items():
        pixels[row] = value
    return Images.of(pixels, images.targets, images.classes, images.ids)


def test_good_data_have_no_findings() -> None:
    made = check_data("x", {"train": part([0, 1, 0, 1, -1], "a"), "test": part([0, 1], "t")})
    assert made.findings == []
    assert made.counts == {
        "train": {"images": 5, "labelled": 4, "unlabelled": 1}, "test": {"images": 2, "labelled": 2, "unlabelled": 0}
    }  # fmt: skip
    assert made.per_class == {"train": [2, 2], "test": [1, 1]}


@pytest.mark.parametrize(("label", "words"), [(0, "training"), (-1, "unlabelled training")])
@pytest.mark.parametrize("held_out", ["test", "val"])
def test_leakage_is_an_error_unless_allowed(held_out: str, label: int, words: str) -> None:
    train, other = part([0, 1, label], "a"), part([0, 1], "t")
    data = {"train": train, held_out: changed(other, {0: train.pixels[2]})}
    text = f"leakage: 1 image of {held_out} is among the {words} images too"
    assert of("leakage", check_data("x", data)) == [f"error: {text}"]
    assert of("leakage", check_data("x", data, allow=["leakage"])) == [f"warning: {text}"]
    assert check_data("x", data).findings[0].examples == ("a2 = t0",)


def test_equal_images_with_different_labels() -> None:
    train = part([0, 1, 0, 1], "a")
    made = check_data("x", {"train": changed(train, {3: train.pixels[0]}), "test": part([0, 1], "t")})
    assert of("conflicts", made) == ["error: 1 group of equal images has different labels"]
    assert [one.examples for one in made.findings if one.kind == "conflicts"] == [("a0 = a3 (cat or dog)",)]
    assert of("duplicates", made) == ["warning: 1 image of train is there more than once"]


def test_a_labelled_image_may_be_among_the_unlabelled() -> None:
    train = part([0, 1, -1], "a")
    assert of("duplicates", check_data("x", {"train": changed(train, {2: train.pixels[0]})})) == []


def test_uneven_and_missing_classes() -> None:
    made = check_data("x", {"train": part([0] * 13 + [1] * 4, "a"), "test": part([0, 0], "t")})
    assert of("imbalance", made) == ["warning: classes are uneven: 13 labelled images of cat, 4 of dog"]
    assert of("missing", made) == ["warning: test has no image of 1 of 2 classes: dog"]
    made = check_data("x", {"train": part([0, 0], "a")})
    assert of("missing", made) == ["warning: 1 of 2 classes have no labelled training image: dog"]


def test_damaged_images() -> None:
    train = part([0, 1], "a")
    bad = Images(train.pixels, train.targets, train.classes, train.ids, "x", skipped={"b.jpg": "is empty"})
    assert of("damaged", check_data("x", {"train": bad})) == ["error: 1 image cannot be decoded"]
    assert not check_data("x", {"train": bad}, allow=["damaged"]).errors()


def test_constant_and_grey_images() -> None:
    train = part([0, 1], "a")
    made = check_data("x", {"train": changed(train, {1: np.full((3, 4, 4), 7, np.uint8)})})
    assert of("constant", made) == ["warning: 1 image of train has one colour only"]
    grey = np.repeat(train.pixels[:, :1], 3, 1)
    made = check_data("x", {"train": changed(train, dict(enumerate(grey)))})
    assert of("grey", made) == ["note: all images are grey"]


@pytest.mark.parametrize(("flips", "level"), [(None, "note"), (True, "warning"), (False, None)])
def test_flips(flips: bool | None, level: str | None) -> None:
    made = check_data("x", {"train": part([0, 1], "a", classes=("left", "right"))}, flips=flips)
    assert [one.level for one in made.findings if one.kind == "flips"] == ([level] if level else [])


def test_errors_come_first() -> None:
    train = part([0] * 13 + [1] * 4, "a")
    made = check_data("x", {"train": train, "test": changed(part([0, 1], "t"), {0: train.pixels[0]})})
    assert [one.level for one in made.findings] == ["error", "warning"]


def test_a_contact_sheet_shows_each_class(tmp_path: object) -> None:
    train = part([0] * 30 + [1] * 3 + [-1] * 2, "a")
    white = np.full((3, 4, 4), 255, np.uint8)
    red = white * np.array([1, 0, 0], np.uint8)[:, None, None]
    sheet = np.asarray(contact_sheet(changed(train, dict.fromkeys(range(30), red))))
    image = Image.fromarray(sheet)
    assert image.mode == "RGB"
    reds = (sheet == [255, 0, 0]).all(-1)
    assert reds.sum() == COLUMNS * 48 * 48, "twelve images of the first class, enlarged to 48 px"
    assert len(np.flatnonzero(np.diff(reds.any(1).astype(int)) == 1)) == 1, "in one row"


@pytest.mark.parametrize(("resize", "enlarged"), [("crop", True), ("stretch", True), ("fit", False)])
def test_what_the_files_say_is_sorted_with_the_rest(tmp_path: Path, resize: str, enlarged: bool) -> None:
    rows = ["path,label,split,group"]
    for n, part_name in enumerate(("train", "test")):
        Image.new("RGB", (20, 2), (n, 0, 0)).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,cat,{part_name},one person")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    train = part([0, 1, 0, 1, 1], "a")
    made = check_data("x", {"train": changed(train, {1: train.pixels[3], 4: train.pixels[0] * 0})})
    add_files(made, find_images(tmp_path, classes=CLASSES, group_column="group"), resize)
    assert of("groups", made) == ["warning: 1 of 1 groups have images in more than one part"]
    levels = [one.level for one in made.findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert bool(of("enlarged", made)) == enlarged, "4 px are wanted, the images are 20 x 2"
    assert ["split.val" in one.remedy for one in made.findings if one.kind == "duplicates"] == [True]
