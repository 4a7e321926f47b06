"""Reads TOML files with limits on their size, and finds the line of each key.

`tomllib` reports no line numbers, so a regular expression finds the line of each table header and key.
"""

from __future__ import annotations

import datetime
import json
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.errors import RecipeError
from mmctl.text import display_path, dotted, printable

MAX_BYTES, MAX_LINE, MAX_DEPTH, MAX_KEYS = 64 * 1024, 2048, 8, 500
"""Limits for untrusted files; a dotted key of 20,000 parts takes tomllib 19 seconds."""

KeyPath = tuple[str, ...]
"""The path of a value: ("loss", "margin", "weight")."""

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')
_AT = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


class Problem(NamedTuple):
    """One problem of a recipe; line 0 = without a line (command line, missing file)."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.key, self.message) if part)


@dataclass(frozen=True)
class Source:
    """One TOML file: its text, its data, and the line of each key and table."""

    label: str
    text: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of a key or, if it is unknown, of its nearest parent table; else 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_toml(path: Path) -> Source:
    """Read a TOML file; RecipeError if it cannot be read."""
    label = display_path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would make mmctl wait
            raise RecipeError([f"{label}: is not a file"])
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError([f"{label}: no such file"]) from None
    except (OSError, ValueError) as error:
        raise RecipeError([f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    try:
        return parse_toml(raw, label)
    except RecipeError as error:
        if path.suffix == ".toml":
            raise
        raise RecipeError([f"{error}. Is this a recipe? Recipes are TOML files, named .toml."]) from error


def parse_toml(raw: bytes, label: str) -> Source:
    """Parse TOML; RecipeError if it is not valid or larger than the limits."""

    def wrong(line: int, message: str) -> RecipeError:
        return RecipeError([str(Problem(label, line, "", message))])

    if len(raw) > MAX_BYTES:
        raise wrong(0, f"is larger than {MAX_BYTES // 1024} KiB, the limit for recipes")
    for number, bytes_ in enumerate(raw.split(b"\n"), 1):
        if len(bytes_) > MAX_LINE:
            raise wrong(number, f"line is longer than {MAX_LINE} bytes")
    try:
        text = raw.decode("utf-8-sig")  # some editors write a byte order mark, which TOML does not allow
    except UnicodeDecodeError as error:
        raise wrong(raw.count(b"\n", 0, error.start) + 1, "is not UTF-8 text") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        line = int(at[1]) if at and at[1] else text.count("\n") + (not text.endswith("\n"))
        raise wrong(line, f"is not valid TOML: {printable(_AT.sub('', str(error)))}") from error
    except (RecursionError, ValueError) as error:
        raise wrong(0, "cannot be read as TOML: it is nested too deep, or a number is too long") from error
    source = Source(
        label, text, data, dict(reversed([*scan(text)]))
    )  # a repeated [[table]] has the line of its first entry
    for path, message in broken_limits(data):
        raise wrong(source.line(path), f"{dotted(path)}: {message}")
    return source


def broken_limits(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Values that TOML allows but recipes do not: too deep, too many keys, dates, integers over 64 bits."""
    keys = 0
    stack: list[tuple[KeyPath, Any, int]] = [((), data, 0)]
    while stack:
        path, value, depth = stack.pop()
        if depth > MAX_DEPTH:
            yield path, f"is nested more than {MAX_DEPTH} levels deep"
        elif isinstance(value, dict):
            keys += len(value)
            if keys > MAX_KEYS:
                yield path, f"has more than {MAX_KEYS} keys, the limit for recipes"
                return
            stack += [((*path, key), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(path, inner, depth + 1) for inner in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield path, "is an integer of more than 64 bits"
        elif isinstance(value, datetime.date | datetime.time):
            yield path, "is a date, which recipes do not allow; use quotes to make it a string"


def scan(text: str) -> Iterator[tuple[KeyPath, int]]:
    """The path and line of each table header and `key =`; keys inside inline tables are not found."""
    table: KeyPath = ()
    inside = ""  # the quotes of a multi-line string that has not ended yet
    for number, line in enumerate(text.split("\n"), 1):
        if not inside:
            if found := _HEADER.match(line):
                table = split_key(found[1])
                yield table, number
            elif found := _KEY.match(line):
                path = (*table, *split_key(found[1]))
                yield from ((path[:n], number) for n in range(len(table) + 1, len(path) + 1))
        inside = _left_open(line, inside)


def _left_open(line: str, inside: str) -> str:
    at = 0
    while True:
        if inside:
            end = line.find(inside, at)
            if end < 0:
                return inside
            at, inside = end + 3, ""
        found = _TOKEN.search(line, at)
        if not found:
            return ""
        at = found.end()
        if found[0] in ('"""', "'''"):
            inside = found[0]


def split_key(dotted_key: str) -> KeyPath:
    """The parts of a dotted TOML key, without quotes."""

    def plain(part: str) -> str:
        if part[0] == "'":
            return part[1:-1]
        try:
            return str(json.loads(part)) if part[0] == '"' else part
        except ValueError:
            return part[1:-1]

    return tuple(plain(part) for part in re.findall(_PART, dotted_key))


def key_path(text: str) -> KeyPath | None:
    """The path of the key in `--set a.b=...`, or None if it is not a valid key."""
    return split_key(text.strip()) if re.fullmatch(_DOTTED, text.strip()) else None
