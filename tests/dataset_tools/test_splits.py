"""Split files: proportions, groups, folds, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmctl.data.split import make_split
from mmctl.dataset_tools.splits import SplitFile, describe, make_splits, read_split, split_bytes
from mmctl.errors import DataError, MmctlError, UserError
from mmctl.plugin import Images
from mmctl.recipe.settings import Split

SIZES = (60, 30, 10)
HERE = Path("here.csv")


def data(unlabelled: int = 20) -> Images:
    targets = np.concatenate([np.repeat(np.arange(3), SIZES), np.full(unlabelled, -1)])
    pixels = np.zeros((len(targets), 1, 2, 2), np.uint8)
    return Images.of(pixels, targets, ("a", "b", "c"), [f"{n}.png" for n in range(len(targets))])


def write_split(path: Path, split: SplitFile) -> None:
    path.write_bytes(split_bytes(split, path))


def test_each_class_is_divided_in_proportion() -> None:
    (made,) = make_splits(data(), labels=20, val=0.2, seed=3)
    assert describe(data(), made, HERE) == {"labeled": [12, 6, 2], "val": [12, 6, 2]}
    assert not set(made.labeled) & set(made.val)


def test_without_a_number_all_others_keep_their_labels() -> None:
    (made,) = make_splits(data(), labels=None, val=10, seed=3)
    assert len(made.val) == 10
    assert len(made.labeled) == 90


def test_more_labels_contain_those_of_fewer_and_a_seed_decides() -> None:
    few, more = (make_splits(data(), labels=n, val=0.1, seed=5)[0] for n in (10, 40))
    assert few.val == more.val
    assert set(few.labeled) < set(more.labeled)
    assert make_splits(data(), labels=10, val=0.1, seed=6)[0].labeled != few.labeled
    assert make_splits(data(), labels=10, val=0.1, seed=5)[0] == few


@pytest.mark.parametrize("folds", [0, 4])
def test_a_group_stands_on_one_side(folds: int) -> None:
    images = data()
    groups = {id: f"person {n // 5}" for n, id in enumerate(images.ids)}
    made = make_splits(images, labels=None, val=0.25, seed=1, groups=groups, folds=folds)
    for split in made:
        kept, out = ({groups[id] for id in ids} for ids in (split.labeled, split.val))
        assert out
        assert not kept & out
    assert 15 <= len(made[0].val) <= 35


@pytest.mark.parametrize("folds", [0, 4])
def test_training_sees_no_image_of_a_held_out_group(tmp_path: Path, folds: int) -> None:
    images = data(unlabelled=40)
    groups = {id: f"person {n % 50}" for n, id in enumerate(images.ids)}
    for split in make_splits(images, labels=20, val=0.25, seed=1, groups=groups, folds=folds):
        write_split(tmp_path / "s.json", split)
        made = make_split(images, Split(rule="file", file=str(tmp_path / "s.json"), unlabeled="rest"), 0)
        held, seen = ({groups[images.ids[row]] for row in rows} for rows in (made.val, made.unlabeled))
        assert held
        assert not held & seen
        assert split.left_out
        assert len(made.labeled) + len(made.unlabeled) + len(made.val) + len(split.left_out) == 140


@pytest.mark.parametrize("val", [3, 0.25, 0.8, 0.99])
def test_any_share_can_be_held_out_by_groups(val: float) -> None:
    images = data()
    groups = {id: f"person {n // 2}" for n, id in enumerate(images.ids)}
    (made,) = make_splits(images, labels=None, val=val, seed=1, groups=groups)
    n = val if val >= 1 else 100 * val
    assert abs(len(made.val) - n) <= 3
    assert made.labeled
    held = describe(images, made, HERE)["val"]
    assert all(abs(one - size * n / 100) <= 2 for one, size in zip(held, SIZES, strict=True))


def test_few_groups_and_few_labels() -> None:
    images = data()
    halves = {id: str(n % 2) for n, id in enumerate(images.ids)}
    assert len(make_splits(images, labels=None, val=0.2, seed=1, groups=halves)[0].val) == 50
    with pytest.raises(UserError, match="of one group, so none can be held out"):
        make_splits(images, labels=None, val=0.2, seed=1, groups=dict.fromkeys(images.ids, "x"))
    few = Images.of(np.zeros((12, 1, 2, 2), np.uint8), np.repeat(np.arange(3), 4), ("a", "b", "c"), [*"abcdefghijkl"])
    pairs = {id: f"pair {n // 2}" for n, id in enumerate(few.ids)}
    with pytest.raises(UserError, match="5 folds need 5 labelled images of a class: the most are 4"):
        make_splits(few, labels=None, val=0, seed=1, groups=pairs, folds=5)
    assert len(make_splits(few, labels=None, val=0.2, seed=1, groups=pairs)[0].val) in (2, 4)
    persons = {id: f"person {n // 2}" for n, id in enumerate(images.ids)}
    assert len(make_splits(images, labels=None, val=0, seed=1, groups=persons, folds=12)) == 12


def test_folds_hold_each_image_out_once() -> None:
    made = make_splits(data(), labels=None, val=0, seed=1, folds=5)
    assert sorted(id for split in made for id in split.val) == sorted(data().ids[:100])
    for split in made:
        assert describe(data(), split, HERE)["val"] == [12, 6, 2]
        assert sorted(split.labeled + split.val) == sorted(data().ids[:100])


@pytest.mark.parametrize(("how", "words"), [
    ({"labels": 95, "val": 0.1}, "only 90 labelled images are left"),
    ({"labels": 2, "val": 0.1}, "less than one for each of 3 classes"),
    ({"labels": None, "val": 100}, "only 100 training images have a label"),
    ({"labels": None, "val": 0, "folds": 11}, "one has 10"),
])  # fmt: skip
def test_numbers_that_the_data_do_not_allow(how: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_splits(data(), seed=0, **how)  # type: ignore[arg-type]


def test_nothing_to_split() -> None:
    images = Images.of(np.zeros((2, 1, 2, 2), np.uint8), np.array([-1, -1]), ("a",), ["x", "y"])
    with pytest.raises(UserError, match="no training image has a label"):
        make_splits(images, labels=None, val=0.1, seed=0)


@pytest.mark.parametrize("name", ["split.json", "split.csv"])
def test_a_file_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    made = {"seed": 3} if name.endswith("json") else {}
    split = SplitFile(["a,b.png", 'c"d.png', "e\nf.png"], ["\u00fc/g.png"], made, [])
    write_split(tmp_path / name, split)
    assert read_split(tmp_path / name) == split
    split = SplitFile(["a.png"], ["b.png"], made, left_out=["c.png"])
    write_split(tmp_path / name, split)
    assert read_split(tmp_path / name) == split


@pytest.mark.parametrize(("name", "text"), [
    ("x.json", "["), ("x.json", "[]"), ("x.json", '{"labeled": 3}'), ("x.json", '{"labeled": [[1]]}'),
    ("x.json", "[" * 10**5),
    ("x.csv", ""), ("x.csv", "file,part\n"), ("x.csv", "id,part\na.png\n"), ("x.csv", "id,part\na.png,both\n"),
    ("x.csv", 'id,part\n"a\n'), ("missing.json", None),
])  # fmt: skip
def test_what_is_no_split_file(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MmctlError) as raised:
        read_split(tmp_path / name)
    assert raised.value.exit_code == 2
    assert name in str(raised.value)


def test_ids_of_another_data_set_are_named() -> None:
    with pytest.raises(DataError, match=r"here.csv: entry 1 of \"val\" is 'z\.png': no training image has that id"):
        describe(data(), SplitFile(["0.png"], ["z.png"], {}), HERE)


@pytest.mark.parametrize(("labeled", "val", "words"), [
    (["0.png", "1.png"], ["1.png"], '1 images are in "labeled" and in "val"'),
    (["0.png"], ["100.png"], '"val" has 1 images without a label'),
    (["0.png", 0], [], "more than once"),
    (["0"], [], "no training image has that id"),
])  # fmt: skip
def test_the_check_is_that_of_training(labeled: list[str | int], val: list[str | int], words: str) -> None:
    with pytest.raises(DataError, match=f"here.csv: .*{words}"):
        describe(data(), SplitFile(labeled, val, {}), HERE)


def test_row_numbers_stay_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"labeled": [0, 60, "90.png"], "val": [99]}')
    split = read_split(tmp_path / "rows.json")
    assert describe(data(), split, HERE) == {"labeled": [1, 1, 1], "val": [0, 0, 1]}
    write_split(tmp_path / "again.json", split)
    assert read_split(tmp_path / "again.json") == split
    with pytest.raises(UserError, match="has row numbers, and a table has image ids alone"):
        write_split(tmp_path / "rows.csv", split)


def test_a_recipe_reads_it(tmp_path: Path) -> None:
    (made,) = make_splits(data(), labels=20, val=0.2, seed=3)
    write_split(tmp_path / "s.json", made)
    split = make_split(data(), Split(rule="file", file=str(tmp_path / "s.json")), 0)
    ids = data().ids
    assert sorted(ids[row] for row in split.labeled) == sorted(made.labeled)
    assert sorted(ids[row] for row in split.val) == sorted(made.val)
    assert len(split.unlabeled) == 120 - 40
    assert json.loads((tmp_path / "s.json").read_text())["made"] == {"seed": 3, "by_groups": False}
