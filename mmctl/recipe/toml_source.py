"""TOML with line numbers: reading within limits, where each key stands, how a value is written.

`tomllib` tells no positions, so that a second, small look at the text finds the line of each header and key.
"""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.errors import RecipeError
from mmctl.text import display_path, dotted, printable

MAX_BYTES, MAX_LINE, MAX_DEPTH, MAX_KEYS = 64 * 1024, 2048, 8, 500
"""Limits on untrusted text; one dotted key of 20,000 parts would cost tomllib 19 seconds."""

KeyPath = tuple[str, ...]
"""Where a value stands: ("loss", "margin", "weight")."""

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')
_AT = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


class Problem(NamedTuple):
    """One thing wrong with a recipe; line 0 = no line (the command line, a missing file)."""

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
        """The line of a key, or of the longest part of its path that is known; 1 if nothing is."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_toml(path: Path) -> Source:
    """One file as data with lines; every way it can be unreadable is a RecipeError."""
    label = display_path(path)
    try:
        if not path.is_file():
            raise RecipeError([f"{label}: {'is not a file' if path.exists() else 'no such file'}"])
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise RecipeError([f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    return parse_toml(raw, label)


def parse_toml(raw: bytes, label: str) -> Source:
    """Bytes of TOML as data with lines, within the limits."""

    def wrong(line: int, message: str) -> RecipeError:
        return RecipeError([str(Problem(label, line, "", message))])

    if len(raw) > MAX_BYTES:
        raise wrong(0, f"is larger than {MAX_BYTES // 1024} KiB, which no recipe needs to be")
    for number, bytes_ in enumerate(raw.split(b"\n"), 1):
        if len(bytes_) > MAX_LINE:
            raise wrong(number, f"line is longer than {MAX_LINE} bytes")
    try:
        text = raw.decode("utf-8-sig")  # some editors write a byte order mark, which TOML does not know
    except UnicodeDecodeError as error:
        raise wrong(raw.count(b"\n", 0, error.start) + 1, "is not UTF-8 text") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        line = int(at[1]) if at and at[1] else text.count("\n") + (not text.endswith("\n"))
        raise wrong(line, f"is not TOML: {printable(_AT.sub('', str(error)))}") from error
    except (RecursionError, ValueError) as error:
        raise wrong(0, "is not TOML that can be read: nested too deeply, or a number is too long") from error
    source = Source(label, text, data, dict(reversed([*scan(text)])))  # a repeated [[table]] is where it begins
    for path, message in broken_limits(data):
        raise wrong(source.line(path), f"{dotted(path)}: {message}")
    return source


def broken_limits(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What TOML allows and a recipe does not: depth, number of keys, dates, integers beyond 64 bits."""
    keys = 0
    stack: list[tuple[KeyPath, Any, int]] = [((), data, 0)]
    while stack:
        path, value, depth = stack.pop()
        if depth > MAX_DEPTH:
            yield path, f"is nested more than {MAX_DEPTH} deep"
        elif isinstance(value, dict):
            keys += len(value)
            if keys > MAX_KEYS:
                yield path, f"is more than {MAX_KEYS} keys, which no recipe needs"
                return
            stack += [((*path, key), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(path, inner, depth + 1) for inner in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield path, "is an integer of more than 64 bits"
        elif isinstance(value, datetime.date | datetime.time):
            yield path, "is a date; recipes hold none (quote it if it is a text)"


def scan(text: str) -> Iterator[tuple[KeyPath, int]]:
    """The line of each header and of each `key =`; keys inside an inline table have none of their own."""
    table: KeyPath = ()
    inside = ""  # the quotes of a text over several lines that has not ended yet
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
    """The parts of a dotted TOML key, quotes taken off."""

    def plain(part: str) -> str:
        if part[0] == "'":
            return part[1:-1]
        try:
            return str(json.loads(part)) if part[0] == '"' else part
        except ValueError:
            return part[1:-1]

    return tuple(plain(part) for part in re.findall(_PART, dotted_key))


def key_path(text: str) -> KeyPath | None:
    """The path that `--set a.b=...` names, or None where it is no key."""
    return split_key(text.strip()) if re.fullmatch(_DOTTED, text.strip()) else None
