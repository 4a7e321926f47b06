"""Image files as one array of pixels: decoded once, with all cores, and kept in a memory map.

The map is kept by what decides its pixels: the bytes of the files, in their order, and the settings of decoding. File
names, places and times do not count. While images are decoded, finished ones are kept in shards (packs.py), so that a
killed process loses little, and a data set with one more image costs one image.

N image files, M of them good, C channels, H height, W width.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Literal

import numpy as np
import PIL

from mmctl.cores import available_cores
from mmctl.errors import DataError, EnvironmentFault, os_error
from mmctl.image_files.files import ImageFile, Stamp
from mmctl.image_files.packs import (
    SHARD,
    Pack,
    Said,
    cache_folder,
    check_space,
    clear,
    delete,
    lock_of,
    open_pack,
    packs,
    publish,
    used,
)
from mmctl.image_files.pixels import RULES, Decoding
from mmctl.image_files.progress import Progress, shown
from mmctl.image_files.scratch import open_near
from mmctl.image_files.stamps import Stamps, alone
from mmctl.image_files.workers import Ended, Setting, Task, unreadable, work_all

LOADED = 2**30
"""Bytes of pixels: less is loaded into memory, unless the caller says otherwise."""
LEAST, MOST_OF_A_TASK = 16, (256, 32 * 2**20, 64 * 2**20)
"""Images, bytes of their files and of their pixels in a task, and so in a shard; 16 images, unless these are large."""
SAVE_EVERY = 10.0
"""Seconds between two savings of the index, so that a killed process need not read all files again."""
NAMES = {
    "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP",
    "gif": "GIF", "tif": "TIFF", "tiff": "TIFF", "mpo": "JPEG",
}  # fmt: skip
"""File extension -> format."""


@dataclass(frozen=True)
class Decoded:
    """The pixels of image files."""

    pixels: np.ndarray  # uint8 MCHW, in the order of the files: in memory, or an np.memmap that is read only
    kept: np.ndarray  # int64 M: which of the files they are
    content: np.ndarray  # uint8 M x 32: SHA-256 of the pixels of each; equal images have equal ones
    bad: tuple[tuple[str, str], ...]  # id and reason of each file that was left out
    notes: Counter[str]  # what a person may want to know, and for how many images it holds


@dataclass
class _Work:
    """What is known about the files on the way."""

    files: Sequence[ImageFile]
    stamps: dict[int, Stamp] = field(default_factory=dict)  # of the files that can be read
    sha: dict[int, bytes] = field(default_factory=dict)  # SHA-256 of their bytes, as far as known
    bad: dict[int, str] = field(default_factory=dict)  # why a file gives no image

    def whole(self) -> bool:
        """Whether the bytes of every readable file are known."""
        return all(i in self.sha or i in self.bad for i in range(len(self.files)))

    def sizes(self) -> dict[int, int]:
        """Bytes of each readable file; the images of an archive share its bytes."""
        share = Counter(stamp.path for stamp in self.stamps.values())
        return {i: stamp.size // share[stamp.path] for i, stamp in self.stamps.items()}

    def name(self) -> str:
        """Name of the map of these files; it depends on bytes and order alone."""
        digest = sha256(b"".join(self.sha[i] for i in range(len(self.files)) if i in self.sha))
        return f"all-{digest.hexdigest()[:32]}"


def read_pixels(
    files: Sequence[ImageFile],
    decoding: Decoding,
    *,
    on_bad: Literal["stop", "skip"] = "stop",
    memory: Literal["auto", "load", "map"] = "auto",
    progress: Progress | None = None,
) -> Decoded:
    """The pixels of all files, from the cache as far as they are there.

    on_bad: "stop" at files that give no image, or "skip" them.
    memory: "load" all pixels, or "map" them, so that what is used is read from the disk; "auto" loads less than 1 GiB.
    progress: called with the number of decoded images and of all; None shows it on standard error.
    Raises DataError for bad files, and EnvironmentFault if the cache cannot be written.
    """
    if not files:
        raise DataError("There are no image files to read.")
    cache = cache_folder() / "images"
    packs_at = cache / sha256(_settings(decoding).encode()).hexdigest()[:24]
    found = _Work(files)
    for i, file in enumerate(files):
        try:
            found.stamps[i] = file.source.stamp()
        except Exception as error:  # a source may be a member of any kind of archive
            found.bad[i] = unreadable(error)
    index = Stamps(cache, found.stamps.values())
    _recall(found, index)
    pack = open_pack(packs_at / found.name()) if found.whole() and found.sha else None
    try:
        if pack is None and found.stamps:
            with alone(index.lock):
                pack = _decode(found, index, packs_at, decoding, on_bad, progress)
    except OSError as error:
        raise os_error(error, packs_at) from error
    except MemoryError:
        raise EnvironmentFault("There is too little memory to decode the images; end other programs.") from None
    except Ended as end:
        raise EnvironmentFault(
            f"The process that decoded {files[end.number].id} was ended twice ({end.name}). Often there is too little "
            "memory: end other programs, or lower max_megapixels; what is decoded is kept."
        ) from None
    if pack is None:
        raise _bad_images(found)
    used(pack.folder)
    kept, notes = _judge(found, {sha: (row, said) for sha, row, said in pack.rows()})
    if found.bad and (on_bad == "stop" or not len(kept)):
        raise _bad_images(found)
    load = memory == "load" or (memory == "auto" and pack.pixels.nbytes < LOADED)
    bad = tuple((files[i].id, found.bad[i]) for i in sorted(found.bad))
    return Decoded(np.array(pack.pixels) if load else open_near(pack.path), kept, pack.content, bad, notes)


def _settings(decoding: Decoding) -> str:
    """What decides the pixels besides the files. Another Pillow may decode otherwise."""
    return json.dumps([RULES, PIL.__version__, asdict(decoding)], sort_keys=True)


def _recall(found: _Work, index: Stamps) -> None:
    for i, stamp in found.stamps.items():
        if i not in found.bad and (sha := index.get(stamp)):
            found.sha[i] = sha


def _decode(
    found: _Work,
    index: Stamps,
    packs_at: Path,
    decoding: Decoding,
    on_bad: Literal["stop", "skip"],
    progress: Progress | None,
) -> Pack | None:
    """Decode what is missing and make the map; None if it would have no image, or files are bad and on_bad = "stop"."""
    index.load()  # another process may have been at work while this one waited
    _recall(found, index)
    if found.whole() and (pack := open_pack(packs_at / found.name())):
        return pack
    have: dict[bytes, tuple[Pack, int, Said]] = {}
    parts = [*packs(packs_at)]
    for pack in parts:
        have.update((sha, (pack, row, said)) for sha, row, said in pack.rows())
    todo = [i for i in found.stamps if found.sha.get(i) not in have]
    readable = len(found.stamps)
    each = decoding.channels * decoding.size[0] * decoding.size[1]
    try:
        check_space(packs_at, len(todo) * each, readable * each)
    except EnvironmentFault:
        if not _are_copies(found, todo, have):  # which need no space
            raise
    with ExitStack() as stack:
        tell = progress or stack.enter_context(shown())
        done, saved = readable - len(todo), monotonic()
        tell(done, readable)
        try:
            setting = Setting(decoding, packs_at, frozenset(have))
            sizes = found.sizes()
            work = work_all(_tasks(found, todo, each, sizes), setting, sum(sizes[i] for i in todo))
            for read, shard in stack.enter_context(closing(work)):
                if shard:
                    if (pack := open_pack(shard)) is None:
                        raise _gone(shard)
                    parts.append(pack)
                    have.update((sha, (pack, row, said)) for sha, row, said in pack.rows())
                for one in read:
                    if one.sha is None:
                        found.bad[one.number] = one.bad
                        found.sha.pop(one.number, None)
                    else:
                        found.sha[one.number] = one.sha
                        index.put(found.stamps[one.number], one.sha)
                done += len(read)
                tell(done, readable)
                if monotonic() - saved > SAVE_EVERY:
                    index.save()
                    saved = monotonic()
        finally:
            index.save()
    kept, _ = _judge(found, {sha: (row, said) for sha, (_, row, said) in have.items()})
    if not len(kept) or (found.bad and on_bad == "stop"):
        return None
    name = found.name()
    with alone(lock_of(packs_at / name)) as locked:  # a copy of the folder has another index, but the same map
        made = open_pack(packs_at / name) or _gather(found, have, packs_at, locked)
    here = {sha for sha, _, _ in made.rows()}
    for pack in parts:
        if pack.folder.name.startswith(SHARD) and all(sha in here for sha, _, _ in pack.rows()):
            delete(pack.folder)
    return made


def _tasks(found: _Work, todo: Sequence[int], each: int, sizes: dict[int, int]) -> list[Task]:
    """Parts of the work for the processes; each: bytes of the pixels of an image; sizes: bytes of the files."""
    most, most_read, most_pixels = MOST_OF_A_TASK
    most = max(1, min(most, most_pixels // each, max(LEAST, len(todo) // (8 * available_cores()))))
    tasks: list[Task] = []
    size = most_read
    for i in todo:
        if not tasks or len(tasks[-1]) >= most or size >= most_read:
            tasks.append([])
            size = 0
        tasks[-1].append((i, found.files[i].source))
        size += sizes[i]
    return tasks


def _are_copies(found: _Work, todo: Sequence[int], have: Container[bytes]) -> bool:
    """Whether files that nobody read yet seem to be copies of decoded ones, by a look at sixteen or more."""
    some = todo[:: max(1, len(todo) // 16)]
    with suppress(Exception):  # a source may be a member of any kind of archive
        return all(sha256(found.files[i].source.read()).digest() in have for i in some)
    return False


def _gather(found: _Work, have: dict[bytes, tuple[Pack, int, Said]], packs_at: Path, locked: bool) -> Pack:
    """The map of all images, made of the packs that have them; locked: no other process makes it now."""
    all_sha = [found.sha[i] for i in range(len(found.files)) if i in found.sha]
    rows = [have[sha] for sha in all_sha]
    good = [(pack, row) for pack, row, said in rows if not said.bad]
    name = found.name()
    check_space(packs_at, 0, len(good) * good[0][0].pixels[0].nbytes)
    if locked:
        clear(packs_at, name)
    delete(packs_at / name)  # if there is one, it is damaged: a good one may be in use by others
    final = publish(
        packs_at, name, (len(good), *good[0][0].pixels.shape[1:]), (pack.pixels[row] for pack, row in good),
        np.stack([pack.content[row] for pack, row in good]),
        np.frombuffer(b"".join(all_sha), np.uint8).reshape(-1, 32), [said for _, _, said in rows],
    )  # fmt: skip
    if (made := open_pack(final)) is None:
        raise _gone(final)
    return made


def _judge(found: _Work, have: dict[bytes, tuple[int, Said]]) -> tuple[np.ndarray, Counter[str]]:
    """Which files are good, and the notes about them; those that are not get their reason in found.bad."""
    kept: list[int] = []
    notes: Counter[str] = Counter()
    for i, file in enumerate(found.files):
        if i not in found.sha:
            continue
        _, said = have[found.sha[i]]
        if said.bad:
            found.bad[i] = said.bad
            continue
        kept.append(i)
        notes.update(said.notes)
        ending = file.id.rpartition(".")[2].lower()
        if NAMES.get(ending, said.format) != ("JPEG" if said.format == "MPO" else said.format):
            notes[f"{said.format} in a file that ends in .{ending}"] += 1
    return np.array(kept, np.int64), notes


def _bad_images(found: _Work) -> DataError:
    first = sorted(found.bad)[:3]
    named = "; ".join(f"{found.files[i].id}: {found.bad[i]}" for i in first)
    n, many = len(found.bad), len(found.bad) > len(first)
    whole = n == len(found.files)
    skip = "" if whole else ', or set on_bad = "skip" to leave them out'
    return DataError(
        f"{n:,} of {len(found.files):,} image files give no image{', the first three' if many else ''}: {named}. "
        f"Repair or delete them{skip}."
    )


def _gone(pack: Path) -> EnvironmentFault:
    return EnvironmentFault(f"{pack}: was deleted or damaged just now. Run the command again.")
