"""Copies of memory maps on the disk of a node: once for all its runs, equal, and never in the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from helpers.image_bytes import encoded, files_of, noise
from mmctl.image_files import scratch
from mmctl.image_files.cache import read_pixels
from mmctl.image_files.pixels import Decoding
from mmctl.image_files.scratch import open_near

NEVER_USED = 10**9


class Free(NamedTuple):
    """What shutil.disk_usage answers."""

    free: int


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a network; the node has a disk of its own in tmp_path/local."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "local").mkdir()
    monkeypatch.setattr(scratch, "is_network", lambda path: path.is_relative_to(tmp_path / "shared"))
    monkeypatch.setenv("MMCTL_SCRATCH", str(tmp_path / "local"))
    scratch._warn.cache_clear()
    return tmp_path / "shared"


def saved(path: Path, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 3, 8, 8), np.uint8)
    np.save(path, pixels)
    return pixels


def copies(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "local").glob("mmctl-*/*.npy"))


def test_a_copy_is_equal_and_made_once(shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = saved(shared / "map.npy")
    near = open_near(shared / "map.npy")
    assert isinstance(near, np.memmap)
    assert np.array_equal(near, pixels)
    (copy,) = copies(tmp_path)
    assert Path(str(near.filename)) == copy
    assert copy.parent.name == f"mmctl-{os.getuid()}"
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    before = copy.stat().st_ino
    os.utime(copy, (NEVER_USED, NEVER_USED))
    open_near(shared / "map.npy")
    assert copy.stat().st_ino == before
    assert copy.stat().st_mtime > NEVER_USED, "who uses it says so"
    pixels = saved(shared / "map.npy", 1)
    assert np.array_equal(open_near(shared / "map.npy"), pixels)
    assert capfd.readouterr().err == ""


def test_runs_that_start_together_copy_once(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, made, copy = saved(shared / "map.npy"), list[Path](), scratch._copy
    monkeypatch.setattr(scratch, "_copy", lambda path, to: (made.append(to), copy(path, to)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(open_near, [shared / "map.npy"] * 8))
    assert all(np.array_equal(one, pixels) for one in found)
    assert made == copies(tmp_path)


@pytest.mark.parametrize("variable", ["SLURM_TMPDIR", "TMPDIR"])
def test_the_folder_of_a_job(variable: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(shared / "map.npy")
    monkeypatch.delenv("MMCTL_SCRATCH")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "local"))
    open_near(shared / "map.npy")
    assert copies(tmp_path) == [], "outside of a job, nothing is copied unasked"
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    open_near(shared / "map.npy")
    assert len(copies(tmp_path)) == 1


def test_what_is_on_the_own_disk_is_not_copied(shared: Path, tmp_path: Path) -> None:
    pixels = saved(tmp_path / "map.npy")
    assert np.array_equal(open_near(tmp_path / "map.npy"), pixels)
    assert copies(tmp_path) == []


def bad_disk(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pieces = scratch._pieces

    def read(path: Path) -> Iterator[bytes]:
        yield from (piece if path.parent.name == "shared" else piece[::-1] for piece in pieces(path))

    patch.setattr(scratch, "_pieces", read)


def full_disk(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patch.setattr(shutil, "disk_usage", lambda path: Free(1000))


def foreign_folder(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "local" / f"mmctl-{os.getuid()}").symlink_to(tmp_path / "elsewhere")


def no_own_disk(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patch.setenv("MMCTL_SCRATCH", str(tmp_path / "shared"))


def missing_folder(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patch.setenv("MMCTL_SCRATCH", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (bad_disk, "is not what was written"),
        (full_disk, "GB free"),
        (foreign_folder, "is not a folder of yours alone"),
        (no_own_disk, "is no disk of this node"),
        (missing_folder, "No such file or directory"),
    ],
)
def test_without_a_copy_the_shared_file_is_read(
    fault: Callable[[pytest.MonkeyPatch, Path], None],
    said: str,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pixels = saved(shared / "map.npy")
    fault(monkeypatch, tmp_path)
    for _ in range(2):
        assert np.array_equal(open_near(shared / "map.npy"), pixels)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("images are read from the shared disk, which is slower: ")
    assert said in line
    assert [path for path in tmp_path.rglob("*.npy") if path.parent != shared] == []
    assert list(tmp_path.rglob("*.part")) == []


def test_what_was_not_used_for_long_makes_room(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        saved(shared / f"{name}.npy")
        open_near(shared / f"{name}.npy")
    (tmp_path / "local" / f"mmctl-{os.getuid()}" / "left.part").write_bytes(b"of a killed process")
    used, old = copies(tmp_path)
    os.utime(old, (NEVER_USED, NEVER_USED))
    size = saved(shared / "c.npy", 2).nbytes
    room = iter([Free(size), Free(3 * size)])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: next(room))
    open_near(shared / "c.npy")
    assert not old.exists()
    assert used.exists()
    assert len(copies(tmp_path)) == 2
    assert list(tmp_path.rglob("*.part")) == []


def test_decoded_images_are_read_from_the_copy(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    (tmp_path / "images").mkdir()
    for n in range(3):
        (tmp_path / "images" / f"{n}.png").write_bytes(encoded(noise(seed=n)))
    files = files_of(tmp_path / "images")
    found = read_pixels(files, Decoding((8, 8)), memory="map")
    assert Path(str(found.pixels.filename)) == copies(tmp_path)[0]
    assert np.array_equal(found.pixels, read_pixels(files, Decoding((8, 8)), memory="load").pixels)
