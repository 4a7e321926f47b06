"""Formats values: TOML literals, keys, paths, durations, JSON, and text without terminal control codes."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def printable(value: object) -> str:
    """A text with control characters escaped as `\\u001b`, so that it cannot control the terminal; None is ""."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escape(c) for c in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines: newlines and tabs are kept."""
    if text.replace("\n", "").replace("\t", "").isprintable():  # nearly all output, and much faster
        return text
    return re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text)


def one_line(text: str) -> str:
    """A text as one printable line: a name or a foreign error message cannot add lines to a message of mmctl."""
    return printable(re.sub(r"\s*[\r\n]\s*", " ", text.rstrip()))


def whole_number(text: str) -> int | None:
    """The number that ASCII digits write; None for anything else, such as `1_000` or digits of other scripts."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if char < "\U00010000" else f"\\U{ord(char):08x}"


def literal(value: Any) -> str:
    """A value as one line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + printable(json.dumps(value, ensure_ascii=False)[1:-1]) + '"'
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{dotted((str(key),))} = {literal(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return str(value)


def short_literal(value: Any) -> str:
    """A value as one line of TOML, cut to 60 characters for messages."""
    text = literal(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(path: tuple[str | int, ...]) -> str:
    """A key path as a TOML key: ("loss", "margin", "weight") -> loss.margin.weight."""
    return ".".join(str(p) if isinstance(p, int) or _BARE_KEY.fullmatch(p) else literal(p) for p in path)


def display_path(path: Path) -> str:
    """A path for messages: relative to the current folder if it is inside, else as given."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except (ValueError, OSError, RuntimeError):  # elsewhere; or a path that cannot be followed
        return str(path)


_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # json.dumps makes one for each value


def to_json(value: object, indent: int | None = None) -> str:
    """Any value as JSON that every program reads, in pure ASCII: NaN is null, an infinity the text "inf" or "-inf"."""
    encoder = _COMPACT if indent is None else json.JSONEncoder(indent=indent, allow_nan=False)
    try:
        return encoder.encode(value)
    except (ValueError, TypeError):
        return encoder.encode(json_safe(value))


def json_safe(value: object) -> object:
    """The value as JSON has it: NaN is null, an infinity a text, an array a list."""
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return json_safe(value.tolist())
    return str(value)


def hardware_line(facts: Mapping[str, Any]) -> str:
    """What a run computes on, as far as its facts tell: `cpu (AVX2), fp32, 2 threads`."""
    device, isa, threads = (facts.get(key) for key in ("device", "isa", "threads"))
    where = f"{device} ({isa})" if device == "cpu" and isa else device
    count = f"{threads} {'' if device == 'cpu' else 'CPU '}thread{'s' * (threads != 1)}" if threads else None
    shared = f"{facts['processes']} processes" if facts.get("processes") else None
    return ", ".join(printable(part) for part in (where, facts.get("precision"), count, shared) if part)


def local_time(t: int | None, seconds: bool = False) -> str:
    """A time in milliseconds since 1970 as the local date and time; empty if it is none, or beyond the calendar."""
    from datetime import datetime

    try:
        return f"{datetime.fromtimestamp(t / 1000):%Y-%m-%d %H:%M{':%S' * seconds}}" if t else ""
    except (ValueError, OverflowError, OSError):
        return ""


def duration(seconds: float) -> str:
    """Seconds for people: 42s, 3m05s, 7h12m, 2d03h."""
    s = round(max(0.0, seconds))
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 86400}d{s % 86400 // 3600:02d}h"


NAME_RULE = "at most 80 letters, digits and . _ + -, starting with a letter or digit"


def is_name(text: str) -> bool:
    """Whether a text can be the name of a run: a file name that needs no quotes in a shell or a filter (NAME_RULE)."""
    return re.fullmatch(r"[^\W_][\w.+-]{0,79}", text) is not None


def is_utf8(text: str) -> bool:
    """False for an argument with bytes that are not UTF-8, which Python keeps as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
