"""A run of another program, as its files tell it: what every reader of this room gives."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from operator import itemgetter
from pathlib import Path

from mmctl.errors import UserError
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import DEPTH, Json, deeper_than, text
from mmctl.text import json_safe

SERIES, KEYS, LONGEST = 100_000, 20_000, 2_000
"""Curves of a run, settings of a run, and characters of a name: what is beyond is left out or refused."""
DAMAGED = "`--damaged` imports what comes before it."
TRUTH = {"true": True, "True": True, "false": False, "False": False, "None": None, "null": None}


class BadSource(UserError):
    """A file or folder that cannot be imported; the message names it and says what to do."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file or folder into BadSource."""
    try:
        yield
    except (OSError, ValueError) as error:
        where, why = getattr(error, "filename", None) or path, getattr(error, "strerror", None) or error
        raise BadSource(f"{where}: cannot be read ({why}).") from None


class Curve:
    """The points of one series: added as they were logged, and read when all of them are there."""

    def __init__(self) -> None:
        self.steps, self.values, self.times = array("q"), array("d"), array("q")
        self.rising = True  # each step is larger than the one before it
        self.first: tuple[int, float] | None = None  # step and value of the point that was logged first

    def add(self, step: int, value: float, t: int) -> None:
        """Add a point, with its time in milliseconds or 0."""
        self.first = self.first or (step, value)
        self.rising = self.rising and (not self.steps or step > self.steps[-1])
        self.steps.append(step)
        self.values.append(value)
        self.times.append(t)

    def settle(self) -> Curve:
        """Bring the steps in order; of several points of a step, the one logged last stays.

        Several points that all have step 0 were logged without steps: they are numbered in the order of their times.
        """
        if not self.rising:
            rows: Iterable[tuple[int, float, int]] = zip(self.steps, self.values, self.times, strict=True)
            if set(self.steps) == {0}:
                rows = ((n, value, t) for n, (_, value, t) in enumerate(sorted(rows, key=itemgetter(2))))
            else:
                rows = sorted({row[0]: row for row in rows}.values())
            steps, values, times = zip(*rows, strict=True)
            self.steps, self.values, self.times = array("q", steps), array("d", values), array("q", times)
            self.rising = True
        return self

    def rows(self) -> Iterator[tuple[int, float, int]]:
        """Step, value and time of each step, in order."""
        self.settle()
        return zip(self.steps, self.values, self.times, strict=True)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.settle().steps)


@dataclass
class ForeignRun:
    """What is known of a run; times are milliseconds since 1970, UTC."""

    program: str  # as people write it: MLflow
    id: str  # the same wherever the files lie
    file: str
    name: str = ""
    project: str = ""
    created: int | None = None
    ended: int | None = None
    state: str = "completed"
    reason: str | None = None
    config: Config = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    note: str | None = None
    host: str | None = None
    more: Config = field(default_factory=dict)  # what has no place in a run of mmctl, kept in its record
    notices: list[str] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    strange: int = 0  # points whose step is no number from 0 to 2**62

    def add(self, name: str, step: object, value: float, t: int = 0) -> None:
        """Add a point; ValueError where a run has too many curves."""
        if not isinstance(step, int) or not 0 <= step < 2**62:
            self.strange += 1
            return
        curve = self.curves.get(name)
        if curve is None:
            if len(self.curves) >= SERIES:
                raise ValueError(f"more than {SERIES} curves in a run")
            curve = self.curves[name] = Curve()
        curve.add(step, value, t if 0 < t < 2**62 else 0)

    def damage(self, what: str, damaged: bool, why: str = "") -> None:
        """Note a damage, after which nothing is read; BadSource unless `damaged`: what comes before it is wanted."""
        if not damaged:
            raise BadSource(f"{what}{why}. {DAMAGED}")
        self.notices.append(what)

    def cut(self, step: int) -> None:
        """Drop the points from a step on: the program was started again there."""
        for name, curve in list(self.curves.items()):
            self.curves[name] = Curve()
            for at, value, t in zip(curve.steps, curve.values, curve.times, strict=True):
                if at < step:
                    self.curves[name].add(at, value, t)

    def steps(self) -> Iterator[tuple[int, int, dict[str, float]]]:
        """Each step with the time of its last point and the values of its curves."""

        def rows(name: str, curve: Curve) -> Iterator[tuple[int, str, float, int]]:
            return ((step, name, value, t) for step, value, t in curve.rows())

        now, last, values = -1, 0, dict[str, float]()
        for step, name, value, t in merge(*(rows(*one) for one in self.curves.items())):
            if step != now and values:
                yield now, last, values
                last, values = 0, {}
            now, last = step, max(last, t)
            values[name] = value
        if values:
            yield now, last, values


def plain(value: str) -> Setting:
    """A setting that a program keeps as text: a number, true, false or none where it is one, else the text."""
    if value in TRUTH:
        return TRUTH[value]
    try:
        if re.fullmatch(r"-?[0-9]{1,18}", value):
            return int(value)
        if re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{0,30})?(e[-+]?[0-9]{1,3})?", value):
            return float(value)
    except ValueError:
        pass
    return text(value)


def parsed(body: str | bytes) -> Json:
    """A JSON value of a foreign file; ValueError where it is none, or is nested too deeply."""
    try:
        found: Json = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if deeper_than(found, DEPTH - 10):
        raise ValueError("nested too deeply")
    return found


def table(value: object) -> Config:
    """A JSON object as settings: texts that a database takes, no NaN; anything else is an empty table."""
    made = json_safe(value) if isinstance(value, dict) else {}
    kept = _settled(made)
    return kept if isinstance(kept, dict) else {}


def _settled(value: object) -> Setting:
    if isinstance(value, dict):
        return {text(key)[:LONGEST]: _settled(one) for key, one in list(value.items())[:KEYS]}
    if isinstance(value, list):
        return [_settled(one) for one in value[:KEYS]]
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return float(value) if abs(value) < 2**1023 else str(value)[:LONGEST]
    return value if isinstance(value, (bool, int, float)) else None


def numbers(found: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a logged object, those of nested ones under `a.b`; texts, media and truth values are none."""
    for key, value in found.items():
        name = text(f"{prefix}{key}")[:LONGEST]
        if isinstance(value, dict):
            if "_type" not in value:  # media, histograms and tables name their type
                yield from numbers(value, f"{name}.")
        elif value in ("NaN", "Infinity", "-Infinity"):
            yield name, float(str(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                yield name, float(value)
            except OverflowError:
                continue


def milliseconds(value: object) -> int | None:
    """A time as ISO text, or in seconds since 1970, in milliseconds; None if it is neither."""
    try:
        if isinstance(value, str):
            made = datetime.fromisoformat(value)
            return int(1000 * (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp())
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**40:
            return int(1000 * value)
    except (ValueError, OverflowError):
        pass
    return None


def seed_of(settings: Mapping[str, Setting]) -> tuple[str | None, int | None]:
    """The setting that holds the seed, and the seed."""
    for key in ("seed", "random_seed", "random_state", "manual_seed"):
        value = settings.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return key, value
    return None, None


def best_name(names: Iterable[str]) -> str:
    """The curve that ranks a run whose program does not say which: accuracy on test, else validation, else the first.

    Empty without any.
    """

    def rank(name: str) -> tuple[int, int, int, str]:
        words = set(re.findall(r"[a-z]+", name.lower().replace("_", " ")))
        what = next((n for n, good in enumerate(({"accuracy", "acc", "top"}, {"f", "auc", "map"})) if words & good), 2)
        where = next(
            (n for n, part in enumerate(({"test"}, {"val", "valid", "validation", "eval"})) if words & part), 2
        )
        return what, where + 4 * ("train" in words), len(name), name

    return min(names, key=rank, default="")
