"""What the reading commands find, key by key: the objects that --json prints and that the print_* modules lay out.

Metrics are fractions (0.915), times are milliseconds since 1970 (UTC). Where a metric of a stored evaluation is NaN it
is None, and where it is infinite it is the text "inf" or "-inf", as in the journal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from mmctl.run_folder.upgrade import Config, Setting
from mmctl.store.rows import CurveSummary, ParentRow, RunFacts, SavedCheckpoint


class ListingRow(RunFacts):
    """A line of `mmctl ls`: a run with its headline figures."""

    exact: bool
    metric: str  # the run's primary metric, such as test/ema/head/accuracy
    value: float | None
    balanced_accuracy: float | None
    reducer: str | None  # how the value was taken from its curve: "median20" or "last"
    rate: float | None  # steps per second, of a run that is training
    eta: float | None  # seconds left
    parent: ParentRow | None  # the run that it extends


class Published(TypedDict):
    """A published figure that a recipe is meant to reproduce."""

    value: float
    std: float | None
    selection: str | None  # how its checkpoint was chosen
    source: str | None
    distance: NotRequired[float]  # ours minus the published one


class Evaluation(TypedDict):
    """The newest evaluation of one split, weights and predictor."""

    attempt: int | None
    t: int | None
    checkpoint: str | None
    n: int | None
    per_class: list[float | None] | None
    confusion: list[list[int]] | None
    predictions: str | None  # the file of what was predicted for each image
    split: str
    weights: str
    predictor: str
    step: int
    metrics: dict[str, float | str | None]


class Note(TypedDict):
    """A note that a user left with a run."""

    t: int
    text: str


class Best(TypedDict):
    """The best evaluation by train.keep_best, whose checkpoint is kept."""

    metric: str
    step: int
    value: float
    selected_on_test: bool


class Checkpoint(SavedCheckpoint):
    """A checkpoint that was saved, and whether it is still there."""

    present: bool


class RunDetails(ListingRow):
    """All that `mmctl show` knows about a run."""

    folder: str
    bad_lines: list[str]  # what is wrong with lines of its journals, which are left out
    seconds: float
    data: dict[str, Setting]
    attempts: list[dict[str, Setting]]
    states: list[dict[str, Setting]]
    evaluations: list[Evaluation]
    alerts: list[dict[str, Setting]]
    notes: list[Note]
    checkpoints: list[Checkpoint]
    best: Best | None
    curve: list[tuple[int, float]]
    published: Published | None
    series: list[CurveSummary]
    config: Setting
    components: Setting
    environment: Setting
    git: Setting
    provenance: Config  # its provenance.json; empty in runs of older versions
    command: Setting
    imported: Setting  # the origin of a run of another program


class Difference(TypedDict):
    """What `mmctl diff` finds: each key with its value in either run."""

    a: str
    b: str
    titles: list[str]
    same_configuration: bool
    altered: dict[str, list[str]]  # what was edited in the folder of a run
    differences: dict[str, list[Setting]]


class EvaluationResult(TypedDict):
    """What `mmctl evaluate` finds.

    logged: the metrics that training wrote down at the same step; skipped: newer checkpoints that are damaged, and why;
    changes: what was edited in the run folder or is not as in training, so that figures can differ.
    """

    run: str
    step: int
    checkpoint: str
    split: str
    weights: str
    predictor: str
    metrics: dict[str, float]
    per_class: Sequence[float | None]
    confusion: Sequence[Sequence[int]]
    n: int
    classes: list[str]
    agreement: float
    exact: bool
    logged: dict[str, float]
    skipped: list[str]
    changes: list[str]


class Projection(TypedDict):
    """Embeddings in two dimensions: a point of each image, and of each class that has a centroid, by class number."""

    name: str
    about: str  # what to know of it
    points: list[tuple[float, float]]
    centroids: dict[int, tuple[float, float]]


class EmbeddingMap(TypedDict):
    """Where a network puts n of the images of a split: what a report draws.

    silhouette: of each class, the mean of its images, from -1 to 1; nearest: the class with the nearest centroid.
    """

    run: str
    step: int
    split: str
    weights: str
    images: int  # of the split, of which some are drawn
    classes: list[str]
    true: list[int]
    predicted: list[int]
    projections: list[Projection]
    silhouette: list[float | None]
    nearest: list[int | None]


def as_number(value: object) -> float:
    """A metric from a journal as a number: there, NaN is null and infinity the text "inf" or "-inf"."""
    return float(value) if isinstance(value, (int, float)) or value in ("inf", "-inf") else math.nan
