"""Image files as one array of pixels: decoded once, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.image_bytes import Deadly, age, encoded, files_of, folder_of_images, noise
from helpers.paths import REPO
from mmctl.errors import DataError, EnvironmentFault
from mmctl.image_files import cache, packs, progress, stamps, workers
from mmctl.image_files.archives import InArchive
from mmctl.image_files.cache import read_pixels
from mmctl.image_files.files import ImageFile, OnDisk, Stamp
from mmctl.image_files.packs import cache_folder
from mmctl.image_files.pixels import Decoding, decode

SMALL = Decoding((8, 8), "stretch", channels=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that are decoded from now on."""
    seen: list[bytes] = []

    def watched(data: bytes, decoding: Decoding) -> Any:
        seen.append(data)
        return decode(data, decoding)

    monkeypatch.setattr(workers, "decode", watched)
    return seen


def read_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: OnDisk) -> bytes:
        raise AssertionError(f"{self.path} is read")

    monkeypatch.setattr(OnDisk, "read", fail)


def entries() -> list[str]:
    """Names of all packs, and of what is left half."""
    return sorted(p.name for p in (cache_folder() / "images").glob("*/*"))


# What is given


def test_pixels_in_the_order_of_the_files(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(encoded(noise(seed=i % 4)))
    files = files_of(tmp_path)[::-1]
    found = read_pixels(files, Decoding((8, 8)))
    for row, file in enumerate(files):
        assert np.array_equal(found.pixels[row], decode(file.source.read(), Decoding((8, 8))).pixels)
    assert found.kept.tolist() == [0, 1, 2, 3, 4]
    assert found.bad == ()
    assert (found.content[0] == found.content[4]).all()  # 4.png and 0.png are equal
    assert len(np.unique(found.content, axis=0)) == 4


def test_less_than_1_gib_is_loaded_and_more_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of_images(tmp_path / "a", 6)
    assert type(read_pixels(files, SMALL).pixels) is np.ndarray
    assert type(read_pixels(files, SMALL, memory="map").pixels) is np.memmap
    monkeypatch.setattr(cache, "LOADED", 6 * 64)
    found = read_pixels(files, SMALL).pixels
    assert isinstance(found, np.memmap)
    part = found[2:5]
    assert isinstance(part, np.memmap)
    assert part.flags.c_contiguous
    assert part[:, 0, 0, 0].tolist() == [2, 3, 4]
    assert type(read_pixels(files, SMALL, memory="load").pixels) is np.ndarray
    assert not part.flags.writeable


def test_notes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(), "JPEG"))
    (tmp_path / "b.PNG").write_bytes(encoded(noise(), "JPEG"))
    (tmp_path / "c.jpeg").write_bytes(encoded(noise(), "JPEG"))
    (tmp_path / "d.dat").write_bytes(encoded(noise(), "JPEG"))
    (tmp_path / "e.png").write_bytes(encoded(np.zeros((4, 4), np.uint16)))
    for _ in range(2):  # decoded, and from the cache
        assert read_pixels(files_of(tmp_path), SMALL).notes == {
            "JPEG in a file that ends in .png": 2, "16 bits scaled to 8": 1,
        }  # fmt: skip


# What is kept


def test_a_second_start_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]) -> None:
    files = folder_of_images(tmp_path / "a", 5)
    one = read_pixels(files, SMALL)
    assert len(decoded) == 5
    read_none(monkeypatch)
    two = read_pixels(files, SMALL, memory="map")
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.content, two.content)
    assert len(entries()) == 1


def test_a_file_that_was_written_just_now_is_read_again(tmp_path: Path, decoded: list[bytes]) -> None:
    files = folder_of_images(tmp_path / "a", 2)
    now = tmp_path / "a" / "00001.png"
    then = time.time_ns()
    os.utime(now, ns=(then, then))
    read_pixels(files, SMALL)
    size = now.stat().st_size
    now.write_bytes(encoded(np.full((8, 8), 77, np.uint8)))
    os.utime(now, ns=(then, then))  # within the same tick of the clock
    assert now.stat().st_size == size
    assert read_pixels(files, SMALL).pixels[1, 0, 0, 0] == 77
    assert len(decoded) == 3


def test_a_touched_or_moved_file_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]
) -> None:
    files = folder_of_images(tmp_path / "a", 3)
    read_pixels(files, SMALL)
    (pixels,) = (cache_folder() / "images").glob("*/all-*/pixels.npy")
    number = pixels.stat().st_ino
    age(tmp_path / "a" / "00001.png", hours=2)
    read_pixels(files, SMALL)
    (tmp_path / "a").rename(tmp_path / "b")
    read_pixels(files_of(tmp_path / "b"), SMALL)
    assert len(decoded) == 3
    assert pixels.stat().st_ino == number, "others may have the map open"
    assert len(entries()) == 1
    read_none(monkeypatch)
    read_pixels(files_of(tmp_path / "b"), SMALL)  # the new stamps are kept


def test_files_that_change_their_places_are_read_again(tmp_path: Path, decoded: list[bytes]) -> None:
    one, two, spare = (tmp_path / name for name in ("1.bmp", "2.bmp", "spare"))
    for path, value in ((one, 10), (two, 20)):
        path.write_bytes(encoded(np.full((8, 8), value, np.uint8), "BMP"))
        os.utime(path, ns=(10**18, 10**18))  # as a program that unpacks an archive may set it
    files = files_of(tmp_path)
    assert read_pixels(files, SMALL).pixels[:, 0, 0, 0].tolist() == [10, 20]
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    assert read_pixels(files, SMALL).pixels[:, 0, 0, 0].tolist() == [20, 10]
    assert len(decoded) == 2


def test_only_what_is_new_is_decoded(tmp_path: Path, decoded: list[bytes]) -> None:
    folder_of_images(tmp_path / "a", 3)
    read_pixels(files_of(tmp_path / "a"), SMALL)
    (tmp_path / "a" / "00001.png").write_bytes(encoded(np.full((8, 8), 99, np.uint8)))
    (tmp_path / "a" / "00007.png").write_bytes(encoded(np.full((8, 8), 7, np.uint8)))
    found = read_pixels(files_of(tmp_path / "a"), SMALL)
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 99, 2, 7]
    assert len(decoded) == 5
    assert not [name for name in entries() if name.startswith(packs.SHARD)]


def test_other_settings_are_another_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]) -> None:
    files = folder_of_images(tmp_path / "a", 1)
    read_pixels(files, SMALL)
    for n, other in enumerate(
        (
            replace(SMALL, size=(4, 4)), replace(SMALL, resize="fit"), replace(SMALL, channels=3),
            replace(SMALL, background=(0, 0, 0)), replace(SMALL, interpolation="box"), replace(SMALL, range=(0, 1)),
        ),
        2,
    ):  # fmt: skip
        read_pixels(files, other)
        assert len(decoded) == n
    monkeypatch.setattr("PIL.__version__", "99")
    read_pixels(files, SMALL)
    assert len(decoded) == 8


@pytest.mark.parametrize("damage", ["index", "map", "map and index", "half a map"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str, decoded: list[bytes]) -> None:
    files = folder_of_images(tmp_path / "a", 3)
    read_pixels(files, SMALL)
    (pack,) = (cache_folder() / "images").glob("*/all-*")
    (index,) = (cache_folder() / "images").glob("*.npz")
    if "index" in damage:
        index.write_bytes(b"PK\x03\x04 no index")
    if damage.startswith("map"):
        (pack / "about.npz").write_bytes(b"")
    if damage == "half a map":
        os.truncate(pack / "pixels.npy", 200)
    assert read_pixels(files, SMALL).pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert len(decoded) == (3 if damage == "index" else 6)
    assert len(entries()) == 1


# Files that are no image


@pytest.mark.timeout(20)
def test_nothing_waits_for_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    folder_of_images(tmp_path / "a", 2)
    os.mkfifo("a/fifo.png")
    (tmp_path / "a/folder.png").mkdir()
    (tmp_path / "a/gone.png").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a/socket.png")
        files = files_of(Path("a"))
        found = read_pixels(files, SMALL, on_bad="skip")
        assert dict(found.bad) == {
            "fifo.png": "cannot be read (it is a named pipe (FIFO), not a file)",
            "folder.png": "cannot be read (it is a folder, not a file)",
            "gone.png": "cannot be read (No such file or directory)",
            "socket.png": "cannot be read (it is a socket, not a file)",
        }
        assert found.kept.tolist() == [0, 1]
        # What becomes a FIFO between the look at it and the reading does not wait either.
        with pytest.raises(OSError, match="not a file"):
            OnDisk(Path("a/fifo.png")).read()


def test_a_file_that_vanishes_or_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of_images(tmp_path / "a", 4)
    real = OnDisk.read

    def read(self: OnDisk) -> bytes:
        if self.path.name == "00001.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(self.path))
        if self.path.name == "00002.png":
            self.path.unlink()
        return real(self)

    monkeypatch.setattr(OnDisk, "read", read)
    found = read_pixels(files, SMALL, on_bad="skip")
    assert dict(found.bad) == {
        "00001.png": "cannot be read (Permission denied)", "00002.png": "cannot be read (No such file or directory)",
    }  # fmt: skip
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 3]


def test_bad_images_stop_or_are_skipped(tmp_path: Path, decoded: list[bytes]) -> None:
    folder_of_images(tmp_path / "a", 3)
    for name in "bcde":
        (tmp_path / "a" / f"{name}.jpg").write_bytes(name.encode() * 9)
        age(tmp_path / "a" / f"{name}.jpg")
    files = files_of(tmp_path / "a")
    with pytest.raises(DataError) as error:
        read_pixels(files, SMALL)
    text = str(error.value)
    assert text.startswith("4 of 7 image files give no image, the first three: b.jpg: it is a text file")
    assert "d.jpg" in text
    assert "e.jpg" not in text
    assert 'on_bad = "skip"' in text
    found = read_pixels(files, SMALL, on_bad="skip")
    assert [name for name, _ in found.bad] == ["b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert found.kept.tolist() == [0, 1, 2]
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="4 of 7"):
        read_pixels(files, SMALL)
    assert len(decoded) == 7  # once each, the bad ones too
    (tmp_path / "a" / "c.jpg").write_bytes(encoded(noise(), "JPEG"))
    assert len(read_pixels(files, SMALL, on_bad="skip").kept) == 4
    assert len(decoded) == 8


def test_all_images_are_bad(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 1 image files give no image: a.jpg: the file is empty .*them\.$"):
            read_pixels(files_of(tmp_path), SMALL, on_bad="skip")
    with pytest.raises(DataError, match="no image files"):
        read_pixels([], SMALL)


# What happens meanwhile


def test_what_was_decoded_is_kept_when_it_is_ended(tmp_path: Path, decoded: list[bytes]) -> None:
    files = folder_of_images(tmp_path / "a", 40)

    def interrupt(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_pixels(files, SMALL, progress=interrupt)
    so_far = len(decoded)
    assert 10 <= so_far < 40
    seen: list[tuple[int, int]] = []
    found = read_pixels(files, SMALL, progress=lambda done, total: seen.append((done, total)))
    assert found.pixels[:, 0, 0, 0].tolist() == list(range(40))
    assert len(decoded) == 40
    assert (seen[0], seen[-1]) == ((so_far, 40), (40, 40))
    assert len(entries()) == 1


@pytest.mark.parametrize("place", ["shard", "map"])
def test_a_full_disk_leaves_nothing_half(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of_images(tmp_path / "a", 3)
    real = os.fsync

    def fsync(fd: int) -> None:
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        if f".{'all-' if place == 'map' else packs.SHARD}" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    monkeypatch.setattr(packs.os, "fsync", fsync)
    with pytest.raises(EnvironmentFault, match="No space left on device") as error:
        read_pixels(files, SMALL)
    assert error.value.exit_code == 4
    assert "\n" not in str(error.value)
    assert [name for name in entries() if not name.startswith(packs.SHARD)] == []
    assert len(entries()) == (1 if place == "map" else 0)
    monkeypatch.setattr(packs.os, "fsync", real)
    assert len(read_pixels(files, SMALL).kept) == 3


def test_too_little_space_is_seen_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of_images(tmp_path / "a", 3)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 3 * 64 - 1))
    with pytest.raises(EnvironmentFault, match="XDG_CACHE_HOME"):
        read_pixels(files, SMALL)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 3 * 64))
    read_pixels(files, SMALL)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copies = files_of(tmp_path / "b")
    assert len(read_pixels(copies, SMALL).kept) == 3, "needs no space: their map is there"
    with pytest.raises(EnvironmentFault, match=r"images need .* GB, but only 0.00 GB are free") as error:
        read_pixels(copies[:2], SMALL)
    assert "while they are decoded" not in str(error.value), "only a map is missing"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of_images(tmp_path / "a", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match=str(tmp_path / "file")):
        read_pixels(files, SMALL)


def test_two_at_once_decode_once(tmp_path: Path, capfd: pytest.CaptureFixture[str], decoded: list[bytes]) -> None:
    files = folder_of_images(tmp_path / "a", 20)
    both = threading.Barrier(2)
    found: list[Any] = []

    def read() -> None:
        both.wait()
        found.append(read_pixels(files, SMALL, progress=lambda done, total: time.sleep(0.02)))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(found[0].pixels, found[1].pixels)
    assert len(decoded) == 20
    assert "waiting for another process" in capfd.readouterr().err
    assert len(entries()) == 1


def test_two_copies_of_a_folder_at_once_make_one_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = folder_of_images(tmp_path / "a", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    two = files_of(tmp_path / "b")
    publishes, waits, made = threading.Event(), threading.Event(), []

    def publish(*args: Any) -> Path:
        made.append(args[1])
        publishes.set()
        waits.wait(5)
        return packs.publish(*args)

    monkeypatch.setattr(cache, "publish", publish)
    monkeypatch.setattr(stamps, "say", lambda text: waits.set())
    first = threading.Thread(target=read_pixels, args=(one, SMALL))
    first.start()
    assert publishes.wait(20)
    found = read_pixels(two, SMALL)
    first.join()
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert len(made) == 1


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_living_process_writes_is_not_deleted(
    tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lock nobody else writes this map, so that a killed process left a half one; else one may be at it."""
    files = folder_of_images(tmp_path / "a", 3)
    read_pixels(files, SMALL)
    (pack,) = (cache_folder() / "images").glob("*/all-*")
    half = pack.with_name(f".{pack.name}.9{packs.PART}")
    half.mkdir()
    (pack / "about.npz").unlink()

    def flock(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:
        monkeypatch.setattr(stamps.fcntl, "flock", flock)
    read_pixels(files, SMALL)
    assert (pack / "about.npz").exists()
    assert half.exists() == (not locks)


def test_maps_of_other_images_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = folder_of_images(tmp_path / "a", 3)
    read_pixels(one, SMALL)
    (pack,) = (cache_folder() / "images").glob("*/all-*")
    monkeypatch.setattr(stamps, "say", lambda text: pytest.fail("waits"))
    with stamps.alone(packs.lock_of(pack)):
        assert len(read_pixels(folder_of_images(tmp_path / "b", 2), SMALL).kept) == 2


def test_a_pack_that_two_publish(tmp_path: Path) -> None:
    """Without locks (some network file systems) both write it, and the second keeps the first one's."""
    pixels, said = [np.zeros((1, 2, 2), np.uint8)], [packs.Said("", "PNG")]
    digest = np.zeros((1, 32), np.uint8)
    for _ in range(2):
        packs.publish(tmp_path, "all-x", (1, 1, 2, 2), pixels, digest, digest, said)
    assert [p.name for p in tmp_path.iterdir()] == ["all-x"]
    (tmp_path / ".shard-1.9.part").mkdir()
    age(tmp_path / ".shard-1.9.part", hours=30)
    (tmp_path / ".shard-2.9.part").mkdir()
    assert len(list(packs.packs(tmp_path))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".shard-2.9.part", "all-x"]


def test_a_shard_that_vanishes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of_images(tmp_path / "a", 2)
    monkeypatch.setattr(cache, "open_pack", lambda folder: None)
    with pytest.raises(EnvironmentFault, match="Run the command again"):
        read_pixels(files, SMALL)


# Processes


def test_images_of_one_archive_share_its_bytes() -> None:
    stamp = Stamp("/images.tar", 10**8, 1)
    files = [ImageFile(f"{i}.png", InArchive(Path(stamp.path), i, 9), "train", None, "") for i in range(1000)]
    work = cache._Work(files, {i: stamp._replace(place=i) for i in range(1000)})
    assert sum(work.sizes().values()) == stamp.size
    assert len(cache._tasks(work, range(1000), 64, work.sizes())) < 100


def in_processes(monkeypatch: pytest.MonkeyPatch, cores: int = 1) -> None:
    monkeypatch.setattr(workers, "FEW", 0)
    monkeypatch.setattr(workers, "available_cores", lambda: cores)


def test_a_decoder_that_crashes_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_processes(monkeypatch)
    monkeypatch.setattr(cache, "available_cores", lambda: 1)
    files = folder_of_images(tmp_path / "a", 24)
    files[1] = replace(files[1], source=Deadly(tmp_path / "a" / "00001.png", signal.SIGSEGV))
    found = read_pixels(files, SMALL, on_bad="skip")
    assert found.bad == (("00001.png", "ends the decoder (SIGSEGV)"),)
    assert found.pixels[:, 0, 0, 0].tolist() == [0, *range(2, 24)]


@pytest.mark.slow
def test_a_process_that_is_killed_is_an_error_that_names_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_processes(monkeypatch)
    files = folder_of_images(tmp_path / "a", 9)
    files[5] = replace(files[5], source=Deadly(tmp_path / "a" / "00005.png", signal.SIGKILL))
    with pytest.raises(EnvironmentFault, match=r"decoded 00005.png was ended twice \(SIGKILL\)"):
        read_pixels(files, SMALL)
    assert not children_of(os.getpid())
    files[5] = ImageFile("00005.png", OnDisk(tmp_path / "a" / "00005.png"), "train", None, "")
    assert len(read_pixels(files, SMALL).kept) == 9


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.image_bytes import files_of
from mmctl.image_files import workers
from mmctl.image_files.cache import read_pixels
from mmctl.image_files.pixels import Decoding
workers.FEW = 0
def progress(done, total):
    print(done, flush=True)
    if done >= 100 and {die!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
read_pixels(files_of(Path({root!r})), Decoding((8, 8), "stretch", channels=1), progress=progress)
"""


def start(root: Path, die: bool) -> subprocess.Popen[str]:
    code = PROGRAM.format(tests=str(REPO / "tests"), root=str(root), die=die)
    return subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPO)}, start_new_session=True,
    )  # fmt: skip


def children_of(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_process_continues_and_leaves_no_process(
    tmp_path: Path, how: signal.Signals, decoded: list[bytes]
) -> None:
    folder_of_images(tmp_path / "a", 400)
    process = start(tmp_path / "a", die=how == signal.SIGKILL)
    assert process.stdout
    assert process.stderr
    workers_seen: list[int] = []
    for line in process.stdout:
        workers_seen = workers_seen or children_of(process.pid)
        if int(line) >= 100 and how != signal.SIGKILL:
            process.send_signal(how)
            break
    process.stdout.close()
    with process.stderr:
        assert process.wait(60) in (-how, 1 if how == signal.SIGINT else -how)
    assert workers_seen
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers_seen):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker is left")
    found = read_pixels(files_of(tmp_path / "a"), SMALL)
    assert found.pixels[:, 0, 0, 0].tolist() == [i % 256 for i in range(400)]
    assert len(decoded) <= 300  # in this process; the killed one decoded 100 at least
    assert len(entries()) == 1


# What is shown


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    with progress.shown() as tell:
        for done in range(0, 1001, 100):
            tell(done + 200, 1200)
            now[0] += 4
    assert capsys.readouterr().err.splitlines() == [
        "decoded 500 of 1,200 images, 25 images/s, 28s left",
        "decoded 800 of 1,200 images, 25 images/s, 16s left",
        "decoded 1,100 of 1,200 images, 25 images/s, 4s left",
    ]
    with progress.no_progress(True), progress.shown() as tell:
        now[0] += 60
        tell(1, 2)
        now[0] += 60
        tell(2, 2)
        progress.say("nothing")
    assert capsys.readouterr().err == ""
    with progress.shown_by(lambda done, total: None):  # a run with a progress bar of its own may wait for an hour
        progress.say("waiting")
    assert capsys.readouterr().err == "waiting\n"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown() as tell:
        tell(0, 20)
        tell(20, 20)
    shown = capsys.readouterr().err
    assert "decoded 20 of 20 images" in shown
    assert shown.endswith("\x1b[2K")  # and takes itself away
