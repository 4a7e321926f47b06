"""Splits: how many labels each class gets, which images, and the file of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmctl.data.images import check_images, class_of
from mmctl.data.split import balanced, load_split, make_split, natural, save_split
from mmctl.plugin import DataError, Images, Split

FERPLUS = np.array([8740, 7287, 3149, 3014, 2100, 119, 532, 119])  # majority of fer2013new.csv
FIRST = np.arange(8)


@dataclass
class Table:
    labels: Any = 20
    rule: Any = "balanced"
    seed: int | None = None
    on_shortage: Any = "redistribute"
    unlabeled: Any = "rest"
    val: Any = 0
    file: str | None = None
    fold: int | None = None


def pictures(sizes: Any, bare: int = 0) -> Images:
    """A data set of these class sizes, shuffled, with `bare` images that have no label."""
    targets = np.concatenate([np.full(n, k) for k, n in enumerate(sizes)] + [np.full(bare, -1)]).astype(np.int64)
    targets = np.random.default_rng(5).permutation(targets)
    ids = [f"p{i}" for i in range(len(targets))]
    return Images(np.zeros((len(targets), 1, 2, 2), np.uint8), targets, tuple("abcdefghij"[: len(sizes)]), ids, "f")


@pytest.mark.parametrize(
    ("labels", "counts"),
    [
        (4000, [646, 646, 646, 646, 646, 119, 532, 119]),
        (10000, [1846, 1846, 1846, 1846, 1846, 119, 532, 119]),
        (2000, [294, 294, 294, 294, 293, 119, 293, 119]),  # 1,762 in six parts: four take one more
        (400, [50] * 8),
        (25060, FERPLUS.tolist()),
    ],
)
def test_ferplus_redistributed(labels: int, counts: list[int]) -> None:
    assert balanced(labels, FERPLUS, FIRST, fill=True).tolist() == counts


@pytest.mark.parametrize(("labels", "kept"), [(4000, 3238), (10000, 7020), (320, 320)])
def test_ferplus_capped(labels: int, kept: int) -> None:
    assert balanced(labels, FERPLUS, FIRST, fill=False).sum() == kept


def test_remainder_goes_to_the_first_classes_of_the_order() -> None:
    order = np.array([3, 1, 0, 2])
    assert balanced(10, np.full(4, 99), order, fill=True).tolist() == [2, 3, 2, 3]
    assert balanced(10, np.full(4, 99), order, fill=False).tolist() == [2, 3, 2, 3]


sizes_of = st.lists(st.integers(0, 40), min_size=2, max_size=7).filter(lambda s: sum(s) >= len(s))


@settings(deadline=None, max_examples=150)
@given(sizes=sizes_of, data=st.data())
def test_counts_obey_the_rules(sizes: list[int], data: st.DataObject) -> None:
    have = np.array(sizes)
    labels = data.draw(st.integers(len(sizes), sum(sizes)))
    order = np.array(data.draw(st.permutations(range(len(sizes)))))
    filled, capped, shares = (
        balanced(labels, have, order, fill=True),
        balanced(labels, have, order, fill=False),
        natural(labels, have, order),
    )
    assert filled.sum() == shares.sum() == labels
    for counts in (filled, capped, shares):
        assert (counts <= have).all()
        assert (counts >= 0).all()
    assert capped.sum() <= labels
    assert (shares[have > 0] >= 1).all()
    room = filled[filled < have]
    assert not len(room) or filled.max() - room.min() <= 1  # no class with room is below the water
    if labels < sum(sizes):  # one label more takes none away
        assert (balanced(labels + 1, have, order, fill=True) >= filled).all()
        assert (natural(labels + 1, have, order) >= shares).all()


def test_natural_is_proportional() -> None:
    counts = natural(2500, FERPLUS, FIRST)
    assert (abs(counts - FERPLUS * 2500 / FERPLUS.sum()) < 1).all()


def test_pools_are_apart_and_whole() -> None:
    images = pictures([30, 20, 10], bare=15)
    split = make_split(images, Table(labels=12, val=9), 0)
    parts = [split.labeled, split.unlabeled, split.val]
    assert sorted(np.concatenate(parts).tolist()) == list(range(75))
    assert [len(part) for part in parts] == [12, 54, 9]
    assert split.counts == (4, 4, 4)
    assert np.bincount(images.targets[split.val]).tolist() in ([5, 3, 1], [4, 3, 2], [5, 2, 2])
    assert set(np.flatnonzero(images.targets < 0)) <= set(split.unlabeled)
    assert all((np.diff(part) > 0).all() for part in parts)


def test_unlabelled_pool_may_hold_the_labelled() -> None:
    split = make_split(pictures([30, 20, 10]), Table(labels=12, val=0.1, unlabeled="all"), 0)
    assert set(split.labeled) <= set(split.unlabeled)
    assert not set(split.val) & set(split.unlabeled)
    assert len(split.unlabeled) == 54


def test_all_labels() -> None:
    split = make_split(pictures([30, 20, 10], bare=7), Table(labels="all", val=6), 0)
    assert (len(split.labeled), len(split.unlabeled), sum(split.counts)) == (54, 7, 54)


def test_fewer_labels_are_among_more_and_validation_moves_none() -> None:
    images = pictures([300, 200, 100])
    few, many, held = (make_split(images, t, 3) for t in (Table(labels=20), Table(labels=40), Table(labels=20, val=60)))
    assert set(few.labeled) < set(many.labeled)
    assert (few.labeled == held.labeled).all()
    natural_few, natural_many = (make_split(images, Table(labels=n, rule="natural"), 3) for n in (20, 41))
    assert set(natural_few.labeled) < set(natural_many.labeled)


def test_seed_is_the_recipes_or_else_the_runs() -> None:
    images = pictures([300, 200, 100])
    zero, one, named = (
        make_split(images, Table(), 0),
        make_split(images, Table(), 1),
        make_split(images, Table(seed=1), 0),
    )
    assert zero.sha256 == make_split(images, Table(), 0).sha256
    assert zero.sha256 != one.sha256
    assert (named.sha256, named.seed) == (one.sha256, 1)


def test_pinned() -> None:
    """A changed draw would make every stored split another one."""
    split = make_split(pictures([12, 12, 12]), Table(labels=6, val=3), 0)
    assert (split.labeled.tolist(), split.val.tolist()) == ([16, 18, 19, 21, 29, 31], [23, 24, 28])


def test_soft_targets_count_by_their_largest() -> None:
    images = pictures([4, 4], bare=2)
    soft = np.zeros((10, 2), np.float32)
    soft[np.arange(10), np.maximum(images.targets, 0)] = 0.7
    soft[images.targets < 0] = 0
    given = Images(images.pixels, soft, images.classes, images.ids, "f")
    assert (class_of(given) == images.targets).all()
    assert make_split(given, Table(labels=4), 0).sha256 == make_split(images, Table(labels=4), 0).sha256


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table(labels=61), r"split.labels = 61, but only 60 training images have a label"),
        (Table(labels=58, val=3), r"split.labels = 58, but only 57"),
        (Table(labels=2), r"split.labels = 2 is less than one label for each of 3 classes"),
        (Table(labels=45, on_shortage="error"), r"c has 10 of 15.*split.on_shortage"),
        (Table(val=60), r"split.val = 60, but only 60"),
        (Table(rule="file"), r"needs split.file"),
        (Table(rule="file", file="none.json"), r"none.json: there is no such split file"),
    ],
)
def test_refused(table: Table, words: str) -> None:
    with pytest.raises(DataError, match=words):
        make_split(pictures([30, 20, 10]), table, 0)


def test_from_file_by_row_and_by_id(tmp_path: Path) -> None:
    images = pictures([6, 6])
    (tmp_path / "s.json").write_text(json.dumps({"labeled": [3, "p1", 7], "val": ["p0"]}))
    split = make_split(images, Table(labels=3, rule="file", file="s.json"), 0)
    assert (split.labeled.tolist(), split.val.tolist()) == ([1, 3, 7], [0])
    assert len(split.unlabeled) == 8
    assert split.counts == tuple(np.bincount(images.targets[[1, 3, 7]], minlength=2))


def test_images_that_a_file_leaves_out_are_used_nowhere(tmp_path: Path) -> None:
    images = pictures([6, 6], bare=4)
    bare = np.flatnonzero(images.targets < 0)[:2].tolist()
    labelled = int(np.flatnonzero(images.targets >= 0)[-1])
    body = {"labeled": ["p0" if images.targets[0] >= 0 else "p1"], "left_out": [*bare, f"p{labelled}"]}
    (tmp_path / "s.json").write_text(json.dumps(body))
    for unlabeled in ("rest", "all", "without_label"):
        for val in (0, 9):
            table = Table(labels="all", rule="file", file="s.json", unlabeled=unlabeled, val=val)
            split = make_split(images, table, 0)
            used = {*split.labeled.tolist(), *split.unlabeled.tolist(), *split.val.tolist()}
            assert not used & {*bare, labelled}
            assert len(split.val) == val
    assert len(make_split(images, Table(labels="all", rule="file", file="s.json"), 0).unlabeled) == 16 - 3 - 1


def test_a_file_may_name_damaged_images_that_the_data_set_skipped(tmp_path: Path) -> None:
    images = dataclasses.replace(pictures([6, 6]), skipped={"bad: 1.png": "truncated"})
    (tmp_path / "s.json").write_text('{"labeled": ["p0", "bad: 1.png", "p3"], "val": ["p1"]}')
    split = make_split(images, Table(labels="all", rule="file", file="s.json"), 0)
    assert split.labeled.tolist() == [0, 3]
    (tmp_path / "s.json").write_text('{"labeled": ["p0", "bad"]}')
    with pytest.raises(DataError, match=r"entry 2 .* 'bad'"):
        make_split(images, Table(labels="all", rule="file", file="s.json"), 0)


def test_a_saved_split_can_be_the_file(tmp_path: Path) -> None:
    images = pictures([6, 6])
    split = make_split(images, Table(labels=4, val=2), 0)
    save_split(tmp_path / "s.json", split)
    again = make_split(images, Table(labels="all", rule="file", file="s.json"), 9)
    assert (again.labeled.tolist(), again.val.tolist()) == (split.labeled.tolist(), split.val.tolist())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "not a list"),
        ("{", "not a JSON file"),
        ("{}", '"labeled" is missing or empty'),
        ('{"labeled": "p1"}', "must be a list"),
        ('{"labeled": [1, "q"]}', "entry 2 .* 'q'"),
        ('{"labeled": [99]}', "99"),
        ('{"labeled": [-1]}', "-1"),
        ('{"labeled": [true]}', "True"),
        ('{"labeled": [1.5]}', "1.5"),
        ('{"labeled": [1, "p1"]}', "more than once"),
        ('{"labeled": [1, 2], "val": [2]}', 'in "labeled" and in "val"'),
        ('{"labeled": [1, 2], "left_out": [2]}', 'in "labeled" and in "left_out"'),
        ('{"labeled": [1], "val": [2], "left_out": [2]}', 'in "val" and in "left_out"'),
        ('{"labeled": [1, 2, 3, 4]}', "labels 4 images, split.labels says 3"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.json").write_text(text)
    labels: Any = 3 if "4]" in text else "all"
    with pytest.raises(DataError, match=words):
        make_split(pictures([6, 6]), Table(labels=labels, rule="file", file="s.json"), 0)


def test_file_with_a_bare_image(tmp_path: Path) -> None:
    images = pictures([6], bare=3)
    row = int(np.flatnonzero(images.targets < 0)[0])
    (tmp_path / "s.json").write_text(json.dumps({"labeled": [row]}))
    with pytest.raises(DataError, match="1 images without a label"):
        make_split(images, Table(labels="all", rule="file", file="s.json"), 0)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Split]:
    split = make_split(pictures([6, 6]), Table(labels=4, val=2), 0)
    save_split(tmp_path / "split.json", split)
    return tmp_path / "split.json", split


def test_file_round_trip(saved: tuple[Path, Split]) -> None:
    path, split = saved
    again = load_split(path)
    for name in ("labeled", "unlabeled", "val"):
        assert (getattr(again, name) == getattr(split, name)).all()
        assert getattr(again, name).dtype == np.int64
    assert (again.rule, again.seed, again.counts, again.sha256) == (split.rule, split.seed, split.counts, split.sha256)
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


def _other_row(body: dict[str, Any]) -> None:
    body["labeled"][0] += 1


@pytest.mark.parametrize(
    "spoil",
    [_other_row, lambda b: b.update(seed=1), lambda b: b.update(rule="natural"), lambda b: b["unlabeled"].pop()],
    ids=["row", "seed", "rule", "fewer"],
)
def test_changed_file_is_refused(saved: tuple[Path, Split], spoil: Callable[[dict[str, Any]], None]) -> None:
    path, _ = saved
    body = json.loads(path.read_text())
    spoil(body)
    path.write_text(json.dumps(body))
    with pytest.raises(DataError, match="changed or damaged"):
        load_split(path)


@pytest.mark.parametrize("cut", [0, 1, 60, -3])
def test_cut_file_is_refused(saved: tuple[Path, Split], cut: int) -> None:
    path, _ = saved
    path.write_text(path.read_text()[:cut])
    with pytest.raises(DataError, match=r"split\.json"):
        load_split(path)
    path.write_text('{"labeled": [null]}')
    with pytest.raises(DataError, match="not a split that mmctl wrote"):
        load_split(path)


# Choices that a data set publishes, and images without a label


def published(n: int = 12, without: int = 5) -> Images:
    """n images of 3 classes and some without a label, with two published choices."""
    targets = np.concatenate([np.arange(n) % 3, np.full(without, -1)])
    folds = (np.array([0, 1, 2, 3, 4, 5]), np.array([8, 7, 6, 11, 10, 9]))
    pixels = np.zeros((len(targets), 1, 4, 4), np.uint8)
    made = Images.of(pixels, targets, ("a", "b", "c"), [f"{row}" for row in range(len(targets))])
    return dataclasses.replace(made, official=folds)


@pytest.mark.parametrize(
    ("seed", "fold", "rows"), [(0, None, range(6)), (1, None, range(6, 12)), (2, None, range(6)), (2, 1, range(6, 12))]
)
def test_an_official_choice_is_that_of_the_seed_or_of_the_recipe(seed: int, fold: int | None, rows: range) -> None:
    table = Table(labels="all", rule="official", fold=fold)
    split = make_split(published(), table, seed)
    assert split.labeled.tolist() == list(rows)
    assert split.unlabeled.tolist() == [row for row in range(17) if row not in rows]
    assert split.counts == (2, 2, 2)
    pool = make_split(published(), dataclasses.replace(table, unlabeled="without_label"), seed)
    assert pool.unlabeled.tolist() == [12, 13, 14, 15, 16]
    assert pool.labeled.tolist() == list(rows)


def test_validation_images_are_none_of_an_official_choice() -> None:
    split = make_split(published(), Table(labels="all", rule="official", val=3), 0)
    assert split.labeled.tolist() == [*range(6)]
    assert len(split.val) == 3
    assert set(split.val.tolist()) <= {*range(6, 12)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"fold": 2}, "split.fold = 2, but the data set has 2 published choices: use 0 to 1"),
     ({"labels": 5}, "split.labels = 5, but the published choice has 6 images")],
)  # fmt: skip
def test_official_choices_that_there_are_not(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_split(published(), Table(**{"labels": "all", "rule": "official", **changed}), 0)
    without = dataclasses.replace(published(), official=())
    with pytest.raises(DataError, match="has no published choices"):
        make_split(without, Table(labels="all", rule="official"), 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, 1], "must be an array"), (np.array([1, 1]), "different row numbers"), (np.array([17]), "not from 0 to 16"),
     (np.array([0, 14]), "an image without a label")],
)  # fmt: skip
def test_official_choices_are_checked(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_images({"train": dataclasses.replace(published(), official=(rows,))}, "mine")
    check_images({"train": published()}, "mine")
