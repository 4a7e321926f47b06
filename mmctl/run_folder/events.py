"""What happens in a run: one class for each kind of journal line, and the only encoder and decoder of these lines.

A line is a JSON object with the kind under "e" and the time (milliseconds since 1970, UTC) under "t". Run folders come
from anywhere, so that decoding never trusts a type: a value that does not fit becomes None or empty, and a line without
what its kind cannot do without is no event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from mmctl.run_folder.lease import now
from mmctl.run_folder.values import DEPTH, Json, deeper_than, number, text, whole, words
from mmctl.text import to_json


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all kinds share; `kind` is the word in the file, `keys` the fields that have another name there."""

    kind: ClassVar[str]
    keys: ClassVar[Mapping[str, str]] = {}
    needs: ClassVar[Sequence[str]] = ()  # fields without which a line is no event of this kind

    t: int | None = None  # when, for people; None = the moment of writing. Order comes from attempts and offsets
    after: int | None = None  # of an event from outside training: the last attempt at that time


@dataclass(frozen=True, kw_only=True)
class State(Event):
    """The run is running, completed, interrupted, failed or nc (not converged) from now on."""

    kind: ClassVar[str] = "state"
    keys: ClassVar[Mapping[str, str]] = {"state": "s"}

    state: str = "running"
    reason: str | None = None
    code: int | None = None  # exit code
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt(Event):
    """Training starts, from step `start`: what earlier attempts wrote after that step no longer counts."""

    kind: ClassVar[str] = "attempt"
    keys: ClassVar[Mapping[str, str]] = {"number": "n", "start": "from"}

    number: int | None
    start: int | None
    host: str | None = None
    boot: str | None = None  # names one start of the machine
    pid: int | None = None
    device: str | None = None
    isa: str | None = None  # the CPU's instruction set
    threads: int | None = None
    processes: int | None = None  # that share the run; None = one
    precision: str | None = None
    versions: Mapping[str, Json] = field(default_factory=dict)
    exact: bool = True  # continues bit for bit what came before
    overrides: Mapping[str, Json] = field(default_factory=dict)
    identity: str | None = None  # verify.identity_hash of the record that this attempt trained from


@dataclass(frozen=True, kw_only=True)
class Data(Event):
    """Hashes of data and split, number of images in each part, labelled images of each class, damaged images."""

    kind: ClassVar[str] = "data"

    data_hash: str | None
    split_hash: str | None
    train: int | None = None
    labeled: int | None = None
    unlabeled: int | None = None
    val: int | None = None
    test: int | None = None
    counts: Sequence[int] = field(default_factory=list)
    classes: Sequence[str] = field(default_factory=list)
    skipped: Sequence[str] = field(default_factory=list)  # images that were left out, and why


@dataclass(frozen=True, kw_only=True)
class Points(Event):
    """Values of curves at one step, by full name such as test/ema/head/accuracy."""

    kind: ClassVar[str] = "points"
    keys: ClassVar[Mapping[str, str]] = {"values": "v"}
    needs: ClassVar[Sequence[str]] = ("step", "values")

    step: int
    values: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Event):
    """Everything that one network with one predictor scored on one split."""

    kind: ClassVar[str] = "evaluation"
    needs: ClassVar[Sequence[str]] = ("step", "metrics")

    step: int
    split: str | None
    weights: str | None  # raw or ema
    predictor: str | None  # head or centroid
    metrics: Mapping[str, Json]
    checkpoint: str | None = None  # its path in the run folder
    per_class: Sequence[Json] | None = None  # recall of each class
    confusion: Sequence[Json] | None = None  # [true][predicted]
    n: int | None = None  # images
    predictions: str | None = None  # the file of what was predicted for each image, in the run folder


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Event):
    """A checkpoint was written; `reason` is periodic, best, last, interrupt, or start (of an extension)."""

    kind: ClassVar[str] = "checkpoint"
    keys: ClassVar[Mapping[str, str]] = {"reason": "kind"}
    needs: ClassVar[Sequence[str]] = ("step",)

    step: int
    reason: str | None = None
    path: str | None = None
    bytes: int | None = None
    sha256: str | None = None  # of its tensors
    manifest: str | None = None  # SHA-256 of its manifest


@dataclass(frozen=True, kw_only=True)
class Pace(Event):
    """How long this attempt has taken up to a step: wall clock and CPU seconds."""

    kind: ClassVar[str] = "pace"
    needs: ClassVar[Sequence[str]] = ("step",)

    step: int
    seconds: float | None
    cpu: float | None


@dataclass(frozen=True, kw_only=True)
class Alert(Event):
    """Something that a person should look at, such as a collapse."""

    kind: ClassVar[str] = "alert"
    keys: ClassVar[Mapping[str, str]] = {"name": "kind"}

    step: int | None
    name: str | None
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something worth knowing that is no cause for alarm."""

    kind: ClassVar[str] = "notice"

    step: int | None
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Tag(Event):
    """Tags that a person added to a run or removed from it."""

    kind: ClassVar[str] = "tag"

    add: Sequence[str] = field(default_factory=list)
    remove: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Sweep(Event):
    """The run is one of this sweep."""

    kind: ClassVar[str] = "sweep"
    needs: ClassVar[Sequence[str]] = ("name",)

    name: str


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """A person's note on a run."""

    kind: ClassVar[str] = "note"

    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mark(Event):
    """What a person decided about a run: its name, whether it has a star, whether it is archived; None = as before."""

    kind: ClassVar[str] = "mark"

    name: str | None = None
    star: bool | None = None
    archived: bool | None = None


KINDS: dict[str, type[Event]] = {
    one.kind: one
    for one in (State, Attempt, Data, Points, Evaluation, Checkpoint, Pace, Alert, Notice, Tag, Sweep, Note, Mark)
}  # fmt: skip


def encode(event: Event, t: int | None = None) -> bytes:
    """One line of a journal; NaN becomes null, infinity the text "inf" or "-inf". t: of an event that has none."""
    line: dict[str, object] = {"e": event.kind}
    for name, key, *_ in _FIELDS[type(event)]:
        line[key] = getattr(event, name)
    if event.after is None:
        del line["after"]
    line["t"] = event.t if event.t is not None else now() if t is None else t
    return to_json(line).encode() + b"\n"


def decode(line: bytes | str) -> Event | None:
    """The event of a line; None for another kind (of a newer mmctl), or where the line is damaged."""
    try:
        return parse(line)
    except ValueError:
        return None


def parse(line: bytes | str) -> Event | None:
    """The event of a line; None for a kind of a newer mmctl, ValueError that says what is wrong with a damaged line."""
    content = line if isinstance(line, str) else line.decode("utf-8", "surrogatepass")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(found, dict) or not isinstance(found.get("e"), str):
        raise ValueError('no JSON object with a kind "e"')
    if (made := KINDS.get(found["e"])) is None:
        return None
    if content.count("[") + content.count("{") > DEPTH and deeper_than(found, DEPTH):
        raise ValueError("nested too deeply")
    given: dict[str, Any] = dict(_EMPTY[made])
    given["t"] = whole(found.get("t"))
    for name, key, convert, has_default in _FIELDS[made]:
        value = found.get(key)
        if value is not None:
            value = convert(value)
        if value is not None:
            given[name] = value
        elif name in made.needs:
            raise ValueError(f'"{found["e"]}" without "{key}"')
        elif not has_default:
            given[name] = convert(None)
    event = object.__new__(made)  # several times as fast as the constructor of a frozen dataclass
    event.__dict__.update(given)
    return event


_CONVERT: dict[str, Callable[[object], object]] = {
    "str": lambda value: text(value) or None,
    "str | None": text,
    "int": whole,
    "int | None": whole,
    "float | None": number,
    "bool": lambda value: value is not False,
    "bool | None": lambda value: value if isinstance(value, bool) else None,
    "Sequence[str]": words,
    "Sequence[int]": lambda value: [n for n in value if whole(n) is not None] if isinstance(value, list) else [],
    "Sequence[Json] | None": lambda value: value if isinstance(value, list) else None,
    "Mapping[str, Json]": lambda value: value if isinstance(value, dict) else None,
}
"""How a value from a file is made to fit a field, by the field's annotation."""


_FIELDS = {
    kind: [
        (
            one.name,
            kind.keys.get(one.name, one.name),
            _CONVERT[str(one.type)],
            one.default is not MISSING or one.default_factory is not MISSING,
        )
        for one in fields(kind)
        if one.name != "t"
    ]
    for kind in KINDS.values()
}
"""(field, key in the file, conversion, whether it has a default) of each kind, without the time."""

_EMPTY = {
    kind: {one.name: one.default for one in fields(kind) if one.default is not MISSING}
    | {one.name: one.default_factory() for one in fields(kind) if one.default_factory is not MISSING}
    for kind in KINDS.values()
}
"""The defaults of each kind; nobody changes them."""
