"""The cache of decoded images: each file once, exact, shared, resumed after kill -9."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmctl.errors import DataError, EnvironmentFault
from mmctl.image_files import cache, work
from mmctl.image_files.cache import Decoded, read_pixels
from mmctl.image_files.files import ImageFile, OnDisk
from mmctl.image_files.pixels import Decoding

HOW = Decoding((6, 6), "stretch", "nearest")


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mmctl" / "images"


def images(folder: Path, n: int = 5, bad: Sequence[int] = ()) -> list[ImageFile]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    files = []
    for number in range(n):
        path = folder / f"{number:05d}.png"
        pixels = rng.integers(0, 256, (6, 6, 3), np.uint8)
        if number in bad:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(pixels).save(path)
        files.append(ImageFile(path.name, OnDisk(path), "train", None, str(folder)))
    return files


def plain(files: Sequence[ImageFile]) -> np.ndarray:
    found = []
    for file in files:
        assert isinstance(file.source, OnDisk)
        with Image.open(file.source.path) as one:
            found.append(np.asarray(one.convert("RGB")).transpose(2, 0, 1))
    return np.stack(found)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the files that are decoded from now on."""
    seen: list[str] = []
    real = work.decode

    def decode(data: bytes, how: Decoding) -> object:
        seen.append("")
        return real(data, how)

    monkeypatch.setattr(work, "decode", decode)
    return seen


def same(one: Decoded, other: Decoded) -> bool:
    return np.array_equal(one.pixels, other.pixels) and one.content == other.content and one.bad == other.bad


def test_pixels_are_those_of_the_files_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(tmp_path / "a")
    seen = counted(monkeypatch)
    made = read_pixels(files, HOW)
    assert np.array_equal(made.pixels, plain(files))
    assert made.kept.tolist() == [0, 1, 2, 3, 4]
    assert len(seen) == 5
    assert same(read_pixels(files, HOW), made)
    assert len(seen) == 5


def test_other_settings_and_other_files_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(tmp_path / "a")
    read_pixels(files, HOW)
    seen = counted(monkeypatch)
    assert read_pixels(files, Decoding((5, 5))).pixels.shape == (5, 3, 5, 5)
    assert len(seen) == 5
    Image.new("RGB", (6, 6), (1, 2, 3)).save(tmp_path / "a" / "00002.png")
    made = read_pixels(files, HOW)
    assert np.array_equal(made.pixels, plain(files))
    assert len(seen) == 6, "the four others are copied"


def test_a_touched_or_copied_file_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(tmp_path / "a")
    one = read_pixels(files, HOW)
    seen = counted(monkeypatch)
    os.utime(tmp_path / "a" / "00001.png", ns=(1, 1))
    assert same(read_pixels(files, HOW), one)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    other = [ImageFile(file.id, OnDisk(tmp_path / "b" / file.id), "train", None, "") for file in files]
    assert same(read_pixels(other, HOW), one)
    assert not seen


def test_an_added_file_alone_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(tmp_path / "a", 6)
    read_pixels(files[:5], HOW)
    real, read = work.read_bytes, []
    monkeypatch.setattr(work, "read_bytes", lambda file: read.append(file.id) or real(file))
    assert np.array_equal(read_pixels(files, HOW).pixels, plain(files))
    assert read == ["00005.png"]


def test_damaged_files_stop_or_are_left_out(tmp_path: Path) -> None:
    files = images(tmp_path / "a", 9, bad=(0, 3, 4, 8))
    with pytest.raises(DataError) as raised:
        read_pixels(files, HOW)
    text = str(raised.value)
    assert text.startswith("4 images are damaged of 9: 00000.png is text, not a JPEG")
    assert "and 1 more" in text
    assert 'dataset.on_bad = "skip"' in text
    made = read_pixels(files, HOW, on_bad="skip")
    assert made.kept.tolist() == [1, 2, 5, 6, 7]
    assert np.array_equal(made.pixels, plain([files[row] for row in made.kept]))
    assert [id for id, _ in made.bad] == ["00000.png", "00003.png", "00004.png", "00008.png"]


def test_nothing_but_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 2 images can be decoded"):
        read_pixels(images(tmp_path / "a", 2, bad=(0, 1)), HOW, on_bad="skip")


def test_files_that_are_none(tmp_path: Path) -> None:
    files = images(tmp_path / "a", 2)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    files += [ImageFile(name, OnDisk(tmp_path / "a" / name), "train", None, "") for name in ("gone.png", "pipe.png")]
    made = read_pixels(files, HOW, on_bad="skip")
    assert made.bad == [
        ("gone.png", "cannot be read (No such file or directory)"), ("pipe.png", "is not a regular file")
    ]  # fmt: skip


def test_a_wrong_extension_is_a_note(tmp_path: Path) -> None:
    files = images(tmp_path / "a", 2)
    Image.new("RGB", (6, 6)).save(tmp_path / "a" / "00000.png", "JPEG")
    assert read_pixels(files, HOW).notes == {"JPEG images named .png": 1}


def test_equal_images_have_equal_content(tmp_path: Path) -> None:
    files = images(tmp_path / "a", 3)
    with Image.open(tmp_path / "a" / "00000.png") as one:
        one.save(tmp_path / "a" / "00002.png", "BMP")
    content = read_pixels(files, HOW).content
    assert content[0] == content[2] != content[1]


def test_small_data_are_loaded_and_large_ones_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(tmp_path / "a")
    assert not isinstance(read_pixels(files, HOW).pixels, np.memmap)
    mapped = read_pixels(files, HOW, memory="map").pixels
    assert isinstance(mapped, np.memmap)
    assert isinstance(mapped[1:3], np.memmap), "a part of it stays on the disk too"
    monkeypatch.setattr(cache, "LOADED", 5 * 108)
    assert isinstance(read_pixels(files, HOW).pixels, np.memmap)
    assert not isinstance(read_pixels(files, HOW, memory="load").pixels, np.memmap)


def test_a_damaged_entry_is_deleted_and_made_again(tmp_path: Path, cached: Path) -> None:
    files = images(tmp_path / "a")
    one = read_pixels(files, HOW)
    (known,) = cached.glob("*.npz")
    known.write_bytes(known.read_bytes()[:100])
    with pytest.raises(EnvironmentFault, match="Start again"):
        read_pixels(files, HOW)
    assert same(read_pixels(files, HOW), one)


def test_a_cut_file_of_pixels(tmp_path: Path, cached: Path) -> None:
    files = images(tmp_path / "a")
    one = read_pixels(files, HOW)
    (pixels,) = cached.glob("*.u8")
    os.truncate(pixels, 10)
    with pytest.raises(EnvironmentFault, match="Start again"):
        read_pixels(files, HOW)
    assert same(read_pixels(files, HOW), one)


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_start_after_an_end_at_any_file_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, cached: Path
) -> None:
    files = images(tmp_path / "a", 10, bad=(2, 7))
    monkeypatch.setattr(cache, "CHUNK", 1)
    seen = counted(monkeypatch)
    real = work.decode

    def decode(data: bytes, how: Decoding) -> object:
        if len(seen) == stop - 1:
            raise KeyboardInterrupt
        return real(data, how)

    monkeypatch.setattr(work, "decode", decode)
    if stop <= 10:
        with pytest.raises(KeyboardInterrupt):
            read_pixels(files, HOW, on_bad="skip")
        assert not list(cached.glob("*.npz"))
    monkeypatch.setattr(work, "decode", real)
    before = len(seen)
    made = read_pixels(files, HOW, on_bad="skip")
    assert len(seen) - before == (11 - stop if stop <= 10 else 10)
    assert np.array_equal(made.pixels, plain([files[row] for row in made.kept]))
    assert not list(cached.glob("*.part"))


@pytest.mark.parametrize("at", ["packed", "fsync", "savez", "replace-1", "replace-2"])
def test_an_end_while_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, cached: Path) -> None:
    files = images(tmp_path / "a", 10, bad=(2, 7))
    with monkeypatch.context() as broken:

        def stop(*args: object, **more: object) -> None:
            raise KeyboardInterrupt

        if at == "packed" or at == "fsync":
            broken.setattr(os, "fsync", stop)
        elif at == "savez":
            broken.setattr(np, "savez", stop)
        else:
            real, calls = Path.replace, []

            def replace(self: Path, target: Path) -> Path:
                calls.append(self)
                if len(calls) == int(at[-1]):
                    raise KeyboardInterrupt
                return real(self, target)

            broken.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            read_pixels(files, HOW, on_bad="skip")
    made = read_pixels(files, HOW, on_bad="skip")
    assert np.array_equal(made.pixels, plain([files[row] for row in made.kept]))
    assert made.kept.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert not list(cached.glob("*.part"))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(EnvironmentFault, match="0 MiB are free"):
        read_pixels(images(tmp_path / "a"), HOW)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault):
        read_pixels(images(tmp_path / "a"), HOW)


def test_progress_counts_every_file(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    read_pixels(images(tmp_path / "a", 3), HOW, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)


CHILD = """
import sys
from pathlib import Path
from mmctl.image_files.cache import read_pixels
from mmctl.image_files.files import ImageFile, OnDisk
from mmctl.image_files.pixels import Decoding
if __name__ == "__main__":
    paths = sorted(Path(sys.argv[1]).iterdir())
    files = [ImageFile(path.name, OnDisk(path), "train", None, "") for path in paths]
    read_pixels(files, Decoding((6, 6), "stretch", "nearest"))
"""


@pytest.mark.slow
def test_several_processes_and_kill_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: Path) -> None:
    """Two starts at once are killed in the middle; the next one goes on, and no process is left."""
    files = images(tmp_path / "a", work.ALONE + 1200)
    (tmp_path / "child.py").write_text(CHILD)
    started = [subprocess.Popen([sys.executable, str(tmp_path / "child.py"), str(tmp_path / "a")]) for _ in range(2)]
    end = time.monotonic() + 60
    while time.monotonic() < end and not any(log.stat().st_size for log in cached.glob("*.part/done")):
        time.sleep(0.005)
    for one in started:
        one.kill()
        one.wait()
    (log,) = cached.glob("*.part/done") or [None]
    assert log is not None
    there = len(log.read_text().splitlines())
    assert 0 < there < len(files)
    monkeypatch.setattr(work, "ALONE", 0)
    made = read_pixels(files, HOW)
    assert np.array_equal(made.pixels, plain(files))
