"""The rows that the store gives: what each query answers with, key by key."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import text, whole


class ParentRow(TypedDict):
    """The run that a run extends, and the step from which it started."""

    uid: str
    step: int


def parent_row(parent: object) -> ParentRow | None:
    """The `parent` of a run.json, which may come from anywhere; None if there is none."""
    if not isinstance(parent, dict):
        return None
    uid, step = text(parent.get("uid")), whole(parent.get("step"))
    return {"uid": uid, "step": step} if uid and step is not None else None


class RunFacts(TypedDict):
    """What the index knows about a run; times are milliseconds since 1970, UTC."""

    number: int
    uid: str
    name: str
    recipe: str
    method: str
    labeler: str | None
    seed: int | None
    config_id: str
    created: int
    total_steps: int | None
    state: str
    reason: str | None
    code: int | None
    step: int
    attempt: int
    started: int | None
    ended: int | None
    host: str | None
    device: str | None  # of the last attempt, as precision and threads
    precision: str | None
    threads: int | None
    data_hash: str | None
    split_hash: str | None
    labeled: int | None
    tags: list[str]
    sweeps: list[str]
    starred: bool
    archived: bool  # hidden from listings and comparisons
    silent: int | None  # seconds without a heartbeat, of a run on another machine
    unreadable: str | None  # what is wrong with the folder; the state is "unreadable", the rest what is still known
    altered: list[str]  # what was edited in the folder; then config_id is the uid


class RunRow(RunFacts):
    """One run as `ls` and filters see it."""

    id: int
    primary_metric: str
    exact: int


class StoredRecord(TypedDict):
    """A run.json as the index keeps it: it may come from anywhere, but its tables are tables."""

    config: Config
    components: list[Config]
    environment: Config | None
    git: Config | None
    published: Config | None
    note: NotRequired[Setting]
    command: NotRequired[Setting]
    code: NotRequired[Setting]
    origin: NotRequired[Setting]  # of a run of another program


class TwinRow(TypedDict):
    """A run of the same configuration, seed, data, split and code."""

    uid: str
    state: str
    step: int
    total_steps: int | None
    exact: int


class CurveSummary(TypedDict):
    """The summary of one curve; mean20 and median20 are over its last twenty points."""

    name: str
    n: int
    nans: int
    first_step: int | None
    first: float | None
    last_step: int
    last: float | None
    min_step: int | None
    min: float | None
    max_step: int | None
    max: float | None
    mean20: float | None
    median20: float | None


class SeriesRow(CurveSummary):
    """The summary of one curve of one run."""

    id: int
    run: int


class SavedCheckpoint(TypedDict):
    """A checkpoint that was saved; its files may have been removed since."""

    step: int
    path: str
    attempt: int
    t: int
    bytes: int | None
    sha256: str | None
    kind: str | None


class CheckpointRow(SavedCheckpoint):
    """A checkpoint of one run."""

    run: int


class EvaluationRow(TypedDict):
    """One network by one predictor on one split; attempt 0 = evaluated after training."""

    run: int
    attempt: int
    offset: int
    t: int
    step: int
    checkpoint: str | None
    split: str
    weights: str
    predictor: str
    n: int | None
    metrics: dict[str, float | None]
    per_class: list[float | None] | None
    confusion: list[list[int]] | None
    predictions: str | None


class EventRow(TypedDict):
    """A line of a journal (state, attempt, data, alert, tag, sweep, note or mark); `body` is the line as written."""

    run: int
    attempt: int
    offset: int
    t: int
    kind: str
    step: int | None
    body: Config


class AttemptRow(TypedDict):
    """One start of a run; `dropped` points of earlier attempts came after its first step and no longer count."""

    run: int
    n: int
    t: int
    from_step: int
    dropped: int
    body: Config
