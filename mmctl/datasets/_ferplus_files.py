"""Reads the files of FER+: votes and names from CSV files, pixels from PNG files or from Kaggle's CSV file."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmctl.datasets._cache import Arrays, cached
from mmctl.plugin import DataError

SIDE = 48
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
USAGES = tuple(FOLDERS)
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
EMOTIONS = tuple(b"%d" % n for n in range(7))
HEADER = ("Usage", "Image name", *VOTES)
SOURCES = (
    "FER+ has two parts: votes (fer2013new.csv) and scripts from github.com/microsoft/FERPlus, and pixels "
    "(fer2013.csv) from Kaggle's fer2013. Put fer2013.csv and fer2013new.csv into one folder; or the folders "
    "FER2013Train, FER2013Valid and FER2013Test with PNG files and a label.csv each, as made by FERPlus's "
    "generate_training_data.py"
)


@dataclass
class Table:
    """The rows of a CSV file of votes; a row without a name is an image without a face.

    Four names occur twice in fer2013new.csv, one of them with other votes. As in Microsoft's reader, both rows count.
    The published label.csv files have no name twice.
    """

    path: Path
    lines: list[int]
    usages: list[str]
    names: list[str]
    votes: np.ndarray  # int64 N x 10

    def named(self, usage: str) -> np.ndarray:
        """Rows of this usage that have an image."""
        return np.array([i for i, u in enumerate(self.usages) if u == usage and self.names[i]], np.int64)

    def ids(self, rows: Sequence[int]) -> list[str]:
        """Names of these rows; the second row with the same name is NAME#2."""
        times = Counter[str]()
        ids = []
        for row in rows:
            name = self.names[row]
            times[name] += 1
            ids.append(name if times[name] == 1 else f"{name}#{times[name]}")
        return ids

    def at(self, row: int) -> str:
        """File and line of the row, for messages."""
        return f"{self.path}:{self.lines[row]}"


def read_votes(path: Path, usage: str | None = None) -> Table:
    """Read fer2013new.csv, which has a header and a usage column, or a label.csv, whose folder determines the usage."""
    table = Table(path, [], [], [], np.empty(0))
    votes: list[list[int]] = []
    seen: dict[str, tuple[int, str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            if usage is None and tuple(cell.strip() for cell in next(reader, [])) != HEADER:
                raise DataError(f"{path}:1: the header must be {','.join(HEADER)}. {SOURCES}.")
            for cells in reader:
                if cells:
                    part, name, row = _row(f"{path}:{reader.line_num}", cells, usage)
                    line, other = seen.setdefault(name, (reader.line_num, part))
                    if name and usage is not None and line != reader.line_num:
                        raise DataError(f"{path}:{reader.line_num}: {name!r} is listed already in line {line}")
                    if name and other != part:
                        raise DataError(f"{path}:{reader.line_num}: {name!r} is {part} here and {other} in line {line}")
                    table.lines.append(reader.line_num)
                    table.usages.append(part)
                    table.names.append(name)
                    votes.append(row)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise DataError(f"{path}: there is no such file. {SOURCES}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a CSV file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not votes:
        raise DataError(f"{path}: there are no rows in it. {SOURCES}.")
    table.votes = np.array(votes, np.int64)
    return table


def _row(where: str, cells: list[str], usage: str | None) -> tuple[str, str, list[int]]:
    """Usage, image name and votes of one row."""
    cells = [cell.strip() for cell in cells]
    if usage is None:
        wanted: tuple[int, ...] = (12,)
        usage, name = cells[0], cells[1] if len(cells) > 1 else ""
    else:  # label.csv as published has the face's box in its second column, the newer script writes none
        wanted = (12, 11)
        name = cells[0]
        if len(cells) == 12 and cells[1].replace(" ", "") != f"(0,0,{SIDE},{SIDE})":
            raise DataError(f"{where}: the box {cells[1]!r} is not the whole image, (0, 0, {SIDE}, {SIDE})")
    if len(cells) not in wanted:
        raise DataError(f"{where}: {len(cells)} columns, but a row has {' or '.join(map(str, wanted))}. {SOURCES}.")
    if usage not in USAGES:
        raise DataError(f"{where}: usage {usage!r} is none of {', '.join(USAGES)}")
    votes = cells[-len(VOTES) :]
    for vote, column in zip(votes, VOTES, strict=True):
        if not (vote.isascii() and vote.isdecimal() and len(vote) < 4):
            raise DataError(f"{where}: {vote!r} votes for {column}; votes must be whole numbers, 0 or more")
    return usage, name, [int(vote) for vote in votes]


def png_pixels(folder: Path, table: Table, rows: Sequence[int]) -> np.ndarray:
    """The pixels of the PNG files of these rows, uint8 N x 48 x 48, decoded once and kept in the user's cache."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). {SOURCES}.") from None
    stats = []
    for row in rows:
        entry = found.get(table.names[row])
        if entry is None or not entry.is_file():
            raise DataError(f"{table.at(row)}: there is no image file {table.names[row]!r} in {folder}. {SOURCES}.")
        stat = entry.stat()
        stats.append((str(folder.absolute() / entry.name), stat.st_size, stat.st_mtime_ns))
    names = [table.names[row] for row in rows]
    return cached("ferplus", stats, lambda: {"pixels": _decode(folder, names)})["pixels"]


def _decode(folder: Path, names: Sequence[str]) -> np.ndarray:
    from PIL import Image

    pixels = np.empty((len(names), SIDE, SIDE), np.uint8)
    bad: list[tuple[str, str]] = []
    for i, name in enumerate(names):
        try:
            with Image.open(folder / name, formats=("PNG",)) as picture:
                if picture.size != (SIDE, SIDE):
                    raise ValueError(f"{picture.width} x {picture.height} px, not {SIDE} x {SIDE}")
                if picture.mode not in ("L", "RGB"):
                    raise ValueError(f"mode {picture.mode}, not 8 bit grey")
                pixels[i] = np.asarray(picture.convert("L"))
        except Exception as error:  # a damaged file can make the decoder raise any error
            bad.append((name, " ".join(str(error).split())))
    if bad:
        more = f", also {', '.join(name for name, _ in bad[1:4])}" if bad[1:] else ""
        raise DataError(
            f"{folder / bad[0][0]}: not a valid image ({bad[0][1]}){more}. {len(bad)} of {len(names)} images in "
            f"this folder are damaged; restore them. {SOURCES}."
        )
    return pixels


class Fer2013(NamedTuple):
    """All rows of fer2013.csv."""

    pixels: np.ndarray  # uint8 N x 48 x 48
    usages: np.ndarray  # indices into USAGES
    emotions: np.ndarray  # FER2013's own labels, from 0 to 6; -1 = the cell is no such number


def read_fer2013(path: Path) -> Fer2013:
    """All images of fer2013.csv, parsed once and kept in the user's cache."""
    try:
        stat = path.stat()
        kept = cached("fer2013-2", [(str(path.absolute()), stat.st_size, stat.st_mtime_ns)], lambda: _parse(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {SOURCES}.") from None
    return Fer2013(kept["pixels"], kept["usages"], kept["emotions"])


def _parse(path: Path) -> Arrays:
    usages: list[int] = []
    emotions: list[int] = []
    blocks: list[np.ndarray] = []
    block: list[tuple[int, bytes]] = []
    numbers = {usage.encode(): i for i, usage in enumerate(USAGES)}
    with path.open("rb") as file:
        header = file.readline(200).removeprefix(b"\xef\xbb\xbf").replace(b'"', b"").strip()
        if header != b"emotion,pixels,Usage":
            raise DataError(f"{path}:1: the header must be emotion,pixels,Usage. {SOURCES}.")
        for line, text in enumerate(file, 2):
            cells = [cell.strip(b'" ') for cell in text.strip().split(b",")]
            if cells == [b""]:
                continue
            if len(cells) != 3:
                raise DataError(f"{path}:{line}: {len(cells)} columns, but a row has 3. {SOURCES}.")
            usage = numbers.get(cells[2])
            if usage is None:
                shown = cells[2].decode(errors="replace")
                raise DataError(f"{path}:{line}: usage {shown!r} is none of {', '.join(USAGES)}")
            usages.append(usage)
            emotions.append(int(cells[0]) if cells[0] in EMOTIONS else -1)
            block.append((line, cells[1]))
            if len(block) == 256:
                blocks.append(_block(path, block))
                block = []
    if block:
        blocks.append(_block(path, block))
    if not blocks:
        raise DataError(f"{path}: there are no rows in it. {SOURCES}.")
    return {
        "pixels": np.concatenate(blocks).reshape(-1, SIDE, SIDE), "usages": np.array(usages, np.int8),
        "emotions": np.array(emotions, np.int8),
    }  # fmt: skip


def _block(path: Path, block: Sequence[tuple[int, bytes]]) -> np.ndarray:
    """Parse rows of numbers: all at once if they are valid, otherwise one by one, to report the invalid one."""
    try:
        return _numbers([text for _, text in block])
    except ValueError:
        pass
    rows = []
    for line, text in block:
        words = text.split()
        if len(words) != SIDE * SIDE:
            raise DataError(f"{path}:{line}: {len(words)} pixels, but an image has {SIDE * SIDE}. {SOURCES}.")
        for word in words:
            if not (word.isdigit() and int(word) <= 255):
                raise DataError(f"{path}:{line}: pixel {word.decode(errors='replace')!r} is not a number from 0 to 255")
        rows.append([int(word) for word in words])
    return np.array(rows, np.uint8)


def _numbers(texts: Sequence[bytes]) -> np.ndarray:
    """Parse numbers of one to three digits separated by single blanks; 30 times faster than int() on each."""
    if any(text.count(b" ") != SIDE * SIDE - 1 for text in texts):
        raise ValueError
    digits = np.frombuffer(b"  " + b" ".join(texts) + b" ", np.uint8) - np.uint8(ord("0"))
    blank = np.uint8(ord(" ") - ord("0") + 256)
    ends = np.flatnonzero(digits == blank)[2:]
    length = np.diff(ends, prepend=1) - 1
    one, ten, hundred = (digits[ends - back].astype(np.uint16) for back in (1, 2, 3))
    ten[length < 2] = 0
    hundred[length < 3] = 0
    value = one + 10 * ten + 100 * hundred
    if length.min() < 1 or length.max() > 3 or max(one.max(), ten.max(), hundred.max()) > 9 or value.max() > 255:
        raise ValueError
    return value.astype(np.uint8).reshape(len(texts), SIDE * SIDE)
