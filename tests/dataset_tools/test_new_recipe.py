"""A recipe for a folder: the choices, and that what is written is a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mmctl.data.split import make_split
from mmctl.dataset_tools import new_recipe
from mmctl.dataset_tools.new_recipe import Folder, Machine, make_plan, recipes
from mmctl.errors import UserError
from mmctl.plugin import Images
from mmctl.recipe.recipe import load

CPU, GPU = Machine("cpu", "a CPU with 2 cores"), Machine("cuda", "a GPU (X)")


def folder(
    counts: tuple[int, ...] = (25, 25), size: int = 32, train: int = 500, val: int = 0, test: int = 100,
    classes: tuple[str, ...] = ("cat", "dog"), grey: bool = False,
) -> Folder:  # fmt: skip
    return Folder(Path("photos"), "labels.csv", classes, counts, train, val, test, ((size, size),), grey, 0.4)


def step(backbone: Mapping[str, object], size: int, channels: int, batch: int, device: str) -> float:
    return 0.5 if device == "cpu" else 0.01


def plan(one: Folder, machine: Machine = CPU, minutes: float = 15, mirror: bool = True) -> new_recipe.Plan:
    return make_plan(one, machine, "things", minutes, step, mirror)


@pytest.mark.parametrize(("side", "size"), [(8, 8), (28, 28), (32, 32), (50, 48), (64, 64), (900, 96)])
def test_the_size_is_that_of_small_images_and_at_most_96(side: int, size: int) -> None:
    assert new_recipe.choose_size([(side, side + 30)]) == size


def test_the_method_follows_from_device_and_labels() -> None:
    assert [plan(folder(counts), GPU).method for counts in ((4, 4), (24, 24), (25, 25), (400, 400))] == [
        "freematch", "freematch", "fixmatch", "fixmatch"
    ]  # fmt: skip
    assert plan(folder((4, 4))).method == "mixmatch"


def test_the_steps_fill_the_time() -> None:
    assert plan(folder(), minutes=15).steps == 1800
    assert plan(folder(), minutes=0.1).steps == 300
    assert plan(folder(), GPU, minutes=60).steps == 200_000
    assert plan(folder(), minutes=15).minutes == pytest.approx(15)


def test_images_are_held_out_only_if_there_is_nothing_to_judge_by() -> None:
    assert plan(folder(test=100)).val == 0
    assert plan(folder(test=0, val=50)).val == 0
    assert plan(folder(test=0)).val == 10
    assert plan(folder(test=0)).primary == "val/accuracy"
    assert plan(folder()).primary == "test/accuracy"


def test_few_labels_are_not_all_held_out() -> None:
    assert plan(folder((3,) * 10, test=0)).val == 10
    assert plan(folder((3, 3), test=0)).val == 2
    assert plan(folder((1, 1))).val == 0, "there is a test part"
    for counts in ((1,) * 10, (2, 2), (4, 1)):
        with pytest.raises(UserError, match=r"photos: .* too few to train and to judge. Label 3 images of each class"):
            plan(folder(counts, test=0))


def test_the_batch_leaves_room_for_damaged_images() -> None:
    assert plan(folder((500, 500), train=1003)).batch == 64
    assert plan(folder((25, 25), train=53, test=0)).batch == 32, "of 43, since 10 are held out"
    assert plan(folder((12, 12), train=48)).batch == 40, "47 of 48 can be read, so 48 would be too many"


def test_uneven_classes() -> None:
    one = plan(folder((100, 20)))
    assert one.balanced
    assert one.primary == "test/balanced_accuracy"
    assert not plan(folder((60, 20))).balanced


def test_flips() -> None:
    assert plan(folder()).flip == 0.5
    assert plan(folder(), mirror=False).flip == 0
    assert plan(folder(classes=("left", "right"))).flip == 0


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("one", [
    folder(), folder((100, 3), test=0), folder(size=8, grey=True), folder(size=700, classes=("left", "right")),
    folder(classes=('a "quoted" name', "b\\c"), train=12, counts=(4, 4)), folder((3, 3), test=0, train=9),
], ids=["plain", "uneven", "tiny grey", "photos", "odd names", "few labels"])  # fmt: skip
def test_what_is_written_is_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Folder, machine: Machine
) -> None:
    monkeypatch.chdir(tmp_path)
    made = plan(one, machine)
    files = recipes(made)
    assert tuple(files) == new_recipe.files("things")
    for file, text in files.items():
        path = tmp_path / "recipes" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    main, twin = load("things"), load("things-supervised")
    assert main.method_name == made.method or made.method == "freematch"
    assert twin.method_name == "supervised"
    assert main.settings.train.steps == made.steps
    assert main.settings.eval.primary.startswith(made.primary.partition("/")[0])
    same = ("dataset", "split", "backbone", "train", "eval", "schedule", "average")
    assert {key for key in same if main.data[key] != twin.data[key]} <= {"train"}
    differ = {key for key in main.data["train"] if main.data["train"][key] != twin.data["train"].get(key)}
    assert differ <= {"unlabeled_batch"}, "the two differ in their method alone"
    targets = np.concatenate([np.repeat(np.arange(2), one.counts), np.full(one.train - sum(one.counts), -1)])
    ids = [str(row) for row in range(one.train)]
    images = Images.of(np.zeros((one.train, 1, 2, 2), np.uint8), targets, one.classes, ids)
    split = make_split(images, main.settings.split, 0)
    assert all(split.counts), "each class keeps a label for training"
    assert all(len(line) <= 120 for text in files.values() for line in text.splitlines())


@pytest.mark.parametrize(("text", "name"), [
    ("My Photos (2)", "my-photos-2"), ("\u00fc\u00fc", "pictures"), ("a" * 60, "a" * 40), ("CIFAR_10", "cifar-10"),
])  # fmt: skip
def test_names(text: str, name: str) -> None:
    assert new_recipe.recipe_name(text) == name
