"""The plugin semi_aves, on small files of the data set's layout, and its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.paths import REPO
from helpers.semi_aves_files import write
from mmctl.data.split import make_split
from mmctl.plugin import DataError
from mmctl.recipe.recipe import load
from mmctl.registry.index import Index
from mmctl.testing import DatasetContract


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class TestSemiAves(DatasetContract):
    component = "semi_aves"
    params = ({"size": 32}, {"size": 32, "labeled": "l_train", "unlabeled": "in and out"})

    def make_root(self, folder: Path) -> Path | None:
        return folder if any(folder.iterdir()) else write(folder)


def semi_aves(root: Path, **params: Any) -> Any:
    index = Index(REPO / "plugins", sources="local")
    return index.load(index.find("dataset", "semi_aves"))(root, size=32, **params)


def test_parts(tmp_path: Path) -> None:
    root = write(tmp_path / "aves")
    parts = semi_aves(root)
    assert {part: images.pixels.shape for part, images in parts.items()} == {
        "train": (14, 3, 32, 32), "test": (6, 3, 32, 32),
    }  # fmt: skip
    assert parts["train"].targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, -1, -1, -1, -1, -1]
    assert parts["train"].classes == ("0", "7", "42")
    assert parts["train"].ids[9] == "u_train_in/10.jpg"
    more = semi_aves(root, labeled="l_train", unlabeled="in and out")
    assert {part: len(images.ids) for part, images in more.items()} == {"train": 15, "val": 3, "test": 6}
    assert len(semi_aves(root, unlabeled="none")["train"].ids) == 9
    for path in root.glob("*.txt"):
        path.write_text("".join(f"semi_aves/{line}\n" for line in path.read_text().splitlines()))
    assert semi_aves(root)["train"].fingerprint == parts["train"].fingerprint


def test_its_recipe(tmp_path: Path) -> None:
    recipe = load(REPO / "examples" / "semi-aves.toml")
    split = make_split(semi_aves(write(tmp_path / "aves"))["train"], recipe.settings.split, 0)
    assert (split.labeled.tolist(), split.unlabeled.tolist()) == ([*range(9)], [*range(9, 14)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"test\.txt: cannot be read .*github"),
        ("", "there is no line in it"),
        ("test/0/1.jpg", r"test\.txt:1: a line is a path and a label"),
        ("test/0/1.jpg -1", r"test\.txt:1: a line is a path and a label"),
        ("../x.jpg 0", r"test\.txt:1: \.\./x\.jpg is outside"),
        ("test/0/none.jpg 0", r"none\.jpg"),
    ],
)
def test_a_wrong_list_is_explained(text: str | None, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "aves") / "test.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=message):
        semi_aves(tmp_path / "aves")
