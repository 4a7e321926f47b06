"""Decoded images that nobody uses any more are found by when they were used last, and deleted by `mmctl gc`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.command import Result
from helpers.image_bytes import files_of, folder_of_images
from mmctl.datasets._cache import cached
from mmctl.datasets._mapped import mapped
from mmctl.errors import EnvironmentFault
from mmctl.image_files import unused as unused_module
from mmctl.image_files.cache import read_pixels
from mmctl.image_files.packs import cache_folder, lock_of
from mmctl.image_files.pixels import Decoding
from mmctl.image_files.unused import forget, unused

DAY = 86_400
SMALL = Decoding((8, 6), "stretch", channels=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def use_long_ago(days: int) -> None:
    """As if everything in the cache was used so many days ago."""
    then = time.time() - days * DAY - 60
    for path in cache_folder().rglob("*"):
        os.utime(path, (then, then))


def names(days: float) -> list[str]:
    return [one.path.stem.partition("-")[0] for one in unused(days * DAY)]


def test_what_is_used_again_stays(tmp_path: Path) -> None:
    one, two = (folder_of_images(tmp_path / name, n) for name, n in (("a", 3), ("b", 2)))
    first = read_pixels(one, SMALL, memory="map").pixels
    read_pixels(two, SMALL)
    assert unused(DAY) == []
    use_long_ago(40)
    assert names(41) == []
    assert sorted(found.what for found in unused(30 * DAY)) == [
        "2 decoded images of 6 x 8 px, unused for 40d00h", "3 decoded images of 6 x 8 px, unused for 40d00h",
        "index of image files, unused for 40d00h", "index of image files, unused for 40d00h",
    ]  # fmt: skip
    found = unused(30 * DAY)
    read_pixels(two, SMALL)
    assert [forget(each.path, 30 * DAY) for each in found].count(True) == 2, "a map and an index are used again"
    (left,) = (cache_folder() / "images").glob("*/all-*")
    assert len(np.load(left / "pixels.npy", mmap_mode="r")) == 2
    assert first[:, 0, 0, 0].tolist() == [0, 1, 2], "who has it open reads on"
    assert lock_of(left).exists()
    assert len([*(cache_folder() / "images").glob("*all-*.lock")]) == 1
    assert read_pixels(files_of(tmp_path / "a"), SMALL).pixels[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_what_a_process_may_be_at_work_on_is_left_for_a_day(tmp_path: Path) -> None:
    read_pixels(folder_of_images(tmp_path / "a", 1), SMALL)
    (pack,) = (cache_folder() / "images").glob("*/all-*")
    for name in ("shard-1-x", ".all-y.1-z.part"):
        pack.with_name(name).mkdir()
    assert names(0) == ["all", next(p.stem for p in (cache_folder() / "images").glob("*.npz"))]
    use_long_ago(2)
    assert names(1)[:3] == [".all", "all", "shard"]


def test_maps_of_published_data_sets(tmp_path: Path) -> None:
    (tmp_path / "source").touch()

    def fill(array: np.ndarray) -> list[str]:
        array[:] = 7
        return ["told"]

    def use() -> None:
        mapped("mine", [tmp_path / "source"], (2, 1, 2, 2), fill)
        cached("other", [("source", 1, 1)], lambda: {"pixels": np.zeros(3)})

    use()
    use_long_ago(40)
    assert names(30) == ["mine", "other"]
    use()
    assert names(30) == []
    use_long_ago(40)
    assert [forget(one.path, 30 * DAY) for one in unused(30 * DAY)] == [True, True]
    assert [path for path in cache_folder().glob("*") if path.suffix != ".lock"] == []


def test_gc_names_and_deletes_them(tmp_path: Path, mm: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    read_pixels(folder_of_images(tmp_path / "a", 3), SMALL)
    use_long_ago(10)
    assert mm("gc", "--dry-run").err == "nothing to delete\n"
    said = mm("gc", "--unused", "7d", "--dry-run")
    assert "(3 decoded images of 6 x 8 px, unused for 10d00h): " in said.out
    assert "2 to delete" in said.out
    assert mm("gc", "--unused", "7d").code == 2, "it asks"
    with monkeypatch.context() as patch:
        patch.setattr(unused_module, "delete", lambda path: None)
        done = mm("gc", "--unused", "7d", "--yes", "--json")
        assert done.code == 6
        assert "cannot be deleted. Correct its permissions" in done.err
    (pack,) = (cache_folder() / "images").glob("*/all-*")
    done = mm("gc", "--unused", "7d", "--yes", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["decoded"] == [str(pack)]
    assert not pack.exists()


def test_without_a_home_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise EnvironmentFault("There is no home folder")

    monkeypatch.setattr(unused_module, "cache_folder", none)
    assert unused(0) == []
