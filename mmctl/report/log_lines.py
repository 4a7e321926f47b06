"""What happened in a run, line by line, from its journals: what `mmctl logs` prints."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import UserError
from mmctl.report.console import figure, file_size
from mmctl.run_folder import journal
from mmctl.run_folder.events import (
    Alert,
    Attempt,
    Checkpoint,
    Data,
    Evaluation,
    Event,
    Note,
    Notice,
    Points,
    State,
    Sweep,
    Tag,
)  # fmt: skip
from mmctl.run_folder.values import Json, number
from mmctl.text import hardware_line, local_time, printable

SHOWN = ("accuracy", "balanced_accuracy")
"""The metrics of an evaluation that its line has."""
MAIN = ("train/loss", "train/labeled", "train/unlabeled", "train/guess_accuracy", "train/guess_kept", "lr")
"""The training metrics that a line has, and those with which it begins if it has all."""
OUTPUTS = ("log.txt", "pack.txt")
"""What the process of a run printed, if it had no terminal; pack.txt is of several runs in one process."""
TAIL = 20
"""Lines of output that are shown of a run that died."""


class LogLine(NamedTuple):
    """One event: its attempt (0 = from outside of training), its JSON, and its text for people, "" if it has none."""

    attempt: int
    raw: Mapping[str, Json]
    text: str


class JournalReader:
    """Reads the journals of a run from where it stopped reading the last time."""

    def __init__(self, folder: Path, everything: bool = False) -> None:
        """everything: the lines have all training metrics."""
        self.folder, self.everything = folder, everything
        self.state = "queued"  # as the last event says; the process may be gone since
        self.step = 0
        self._offsets: dict[int, int] = {}

    def read(self) -> list[LogLine]:
        """What is new: attempt by attempt, and what came from outside after the attempt that it followed."""
        by_attempt: dict[int, list[LogLine]] = {}
        outside: list[tuple[int, LogLine]] = []
        for attempt in journal.attempts(self.folder):
            path = journal.path_of(self.folder, attempt)
            try:
                for line in journal.read_lines(path, self._offsets.get(attempt, 0)):
                    self._offsets[attempt] = line.offset
                    made = self._line(attempt, line)
                    if made is not None and attempt == 0 and line.event is not None:
                        outside.append((line.event.after or 0, made))
                    elif made is not None:
                        by_attempt.setdefault(attempt, []).append(made)
            except ValueError as error:  # too large, or no file
                raise UserError(f"{path}: not a journal ({error}). Restore it from a copy, or remove it.") from None
        found = [made for after, made in outside if after == 0]
        for attempt in sorted({*by_attempt, *(after for after, _ in outside if after)}):
            found += by_attempt.get(attempt, []) + [made for after, made in outside if after == attempt]
        return found

    def _line(self, attempt: int, line: journal.Line) -> LogLine | None:
        if line.fault:
            return LogLine(attempt, {"fault": line.fault}, f"{'':19}  damaged line of the journal: {line.fault}")
        if line.event is None:
            return None
        if isinstance(line.event, State):
            self.state = line.event.state
        step = getattr(line.event, "step", None)
        self.step = max(self.step, step) if isinstance(step, int) else self.step
        text = event_text(line.event, attempt, self.everything)
        return LogLine(
            attempt, json.loads(line.raw), f"{local_time(line.event.t, seconds=True):19}  {text}" if text else ""
        )


def event_text(event: Event, attempt: int, everything: bool = False) -> str:
    """An event in words; "" for one that says nothing new to people."""
    match event:
        case Attempt(number=n, start=start):
            known = ("device", "isa", "threads", "processes", "precision")
            facts = hardware_line({key: getattr(event, key) for key in known})
            resumed = f" from step {start}" if start else ""
            return f"attempt {n}{resumed} on {printable(event.host)}, process {event.pid}: {facts}"
        case State(state=state):
            step = f" at step {event.step}" if event.step is not None else ""
            reason = f": {printable(event.reason)}" if event.reason else ""
            return "" if state == "running" else f"{printable(state)}{step}{reason}"
        case Data():
            counts = {"labelled": event.labeled, "unlabelled": event.unlabeled, "val": event.val, "test": event.test}
            parts = [f"{count} {word}" for word, count in counts.items() if count]
            return f"images: {', '.join(parts)}; {len(event.classes)} classes"
        case Points():
            return _points(event, everything)
        case Evaluation() if attempt == 0:
            where = f"{printable(event.split)} {printable(event.weights)} {printable(event.predictor)}"
            values = {f"{where.replace(' ', '/')}/{name}": value for name, value in event.metrics.items()}
            return f"evaluated: {_points(Points(step=event.step, values=values))}"
        case Checkpoint():
            size = f", {file_size(event.bytes)}" if event.bytes else ""
            return f"step {event.step}  checkpoint ({printable(event.reason)}{size}): {printable(event.path)}"
        case Alert():
            return f"step {event.step}  warning, {printable(event.name)}: {printable(event.text)}"
        case Notice():
            return f"step {event.step}  note: {printable(event.text)}"
        case Tag():
            return "tags: " + printable(" ".join([*(f"+{one}" for one in event.add), *(f"-{o}" for o in event.remove)]))
        case Sweep(name=name):
            return f"sweep: {printable(name)}"
        case Note():
            return f"note: {printable(event.text)}"
    return ""


def _points(event: Points, everything: bool = False) -> str:
    """Training metrics one after the other; of evaluations the main metrics, by network and predictor."""
    training = {name: value for name, value in event.values.items() if name.count("/") < 2}
    if training:
        order = [name for name in MAIN if name in training]
        order += [name for name in training if name not in MAIN] if everything or not order else []
        parts = [f"{printable(name.removeprefix('train/'))} {_value(training[name], name)}" for name in order]
        return f"step {event.step}  {'  '.join(parts)}"
    groups: dict[str, list[str]] = {}
    for name, value in event.values.items():
        where, _, metric = name.rpartition("/")
        if metric in SHOWN:
            groups.setdefault(where.replace("/", " "), []).append(f"{metric} {_value(value, metric)}")
    parts = [f"{printable(where)}: {', '.join(values)}" for where, values in groups.items()]
    return f"step {event.step}  {'; '.join(parts)}" if parts else ""


def _value(value: Json, name: str) -> str:
    found = number(value)
    return figure(found, name) if found is not None else "nan" if value is None else printable(value)


def output_file(folder: Path) -> Path | None:
    """The file with what the process of a run printed; None if it had a terminal."""
    return next((folder / name for name in OUTPUTS if (folder / name).is_file()), None)


class OutputReader:
    """Reads whole lines of a file from where it stopped reading the last time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self, most: int | None = None) -> list[str]:
        """What is new, at most the last `most` lines."""
        lines: deque[str] = deque(maxlen=most)
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._offset += len(line)
                lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        return list(lines)
