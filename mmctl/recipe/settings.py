"""The settings of a run that belong to mmctl itself: one model for each fixed table of a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from mmctl.registry.parameters import CONFIG

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Ramp = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]
Length = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0)]


def _like(pattern: str, words: str) -> AfterValidator:
    """A text of that form; pydantic's own message would show the pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(check)


class Table(BaseModel):
    """A table of a recipe: unknown keys, wrong types and values out of bounds are refused."""

    model_config = CONFIG | {"frozen": True}


class Split(Table):
    """Which training pictures keep their labels."""

    labels: Positive | Literal["all"] = Field("all", description="Labelled pictures over all classes.")
    rule: Literal["balanced", "natural", "file"] = Field(
        "balanced", description="Same count for each class, the data's own shares, or the rows that a file names."
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(None, description="Seed of the split; absent = the run's seed.")
    on_shortage: Literal["redistribute", "cap", "error"] = Field(
        "redistribute", description="What happens when a class has too few pictures."
    )
    unlabeled: Literal["rest", "all"] = Field("rest", description="all = the labelled pictures serve unlabelled too.")
    val: Annotated[int, Field(ge=0)] | Share = Field(
        0, description="Pictures (or share) of train held out where the data set has no validation split."
    )
    file: str | None = Field(None, description='The split file, for rule = "file".')


class Centroids(Table):
    """The shared class centroids: how they are estimated and how distance is measured."""

    estimator: Literal["running", "ema", "batch", "memory", "learned", "exact"] = Field(
        "running", description="How means are found."
    )
    rate: float = Field(0.5, ge=0, le=1, description="Share of the new batch in a running mean.")
    every: int = Field(20, ge=1, description="Steps between two exact refits.")
    images: int = Field(4096, ge=1, description="At most that many labelled pictures in a refit.")
    network: Literal["model", "ema"] = Field("model", description="Whose embeddings are averaged.")
    normalize_embeddings: bool = Field(True, description="Scale embeddings to length 1 before distances are measured.")
    normalize_centroids: bool = Field(True, description="Scale centroids to length 1 before distances are measured.")
    distance: Literal["squared", "plain"] = Field("squared", description="Squared or plain Euclidean distance.")


class Optimizer(Table):
    """How gradients become steps; weight decay touches only tensors of more than one axis."""

    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="The rule.")
    lr: float = Field(0.03, gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(True, description="Nesterov's form of momentum (sgd).")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="Decays of adam and adamw."
    )
    eps: float = Field(1e-8, gt=0, description="Added to the denominator of adam and adamw.")
    weight_decay: float = Field(5e-4, ge=0, description="Weight decay.")
    clip: Annotated[float, Field(gt=0)] | None = Field(None, description="Largest norm of all gradients together.")


class Schedule(Table):
    """The learning rate as a function of the step."""

    name: Literal["cosine", "seven_sixteenths", "constant", "cyclic"] = Field(
        "cosine", description="Its form after warm-up."
    )
    warmup: Ramp = Field(0, description="Linear warm-up: an integer is steps, a fraction is of the run.")
    final: float = Field(0.0, ge=0, description="Learning rate at the end (cosine).")
    horizon: Length | None = Field(None, description="cyclic: where its cosine would reach 0.")
    start: Length | None = Field(None, description="cyclic: where it leaves that cosine and cycles begin.")
    cycle: Length | None = Field(None, description="cyclic: length of a cycle, which repeats the one before `start`.")


class Average(Table):
    """The averaged copy of the network that is evaluated beside it."""

    kind: Literal["ema", "swa", "none"] = Field(
        "ema", description="Exponential moving average, equal mean of some steps (SWA), or no average."
    )
    decay: float = Field(0.999, ge=0, lt=1, description="What is kept of the average in each step.")
    warmup: bool = Field(True, description="Decay starts low: min(decay, (1 + t) / (10 + t)).")
    buffers: Literal["copy", "average", "recompute"] = Field(
        "copy", description="Batch-norm statistics: the live ones, averaged too, or found anew for each evaluation."
    )
    start: Length | None = Field(None, description="swa: steps, or share of the run, before the first network counts.")
    every: Length | None = Field(None, description="swa: steps, or share of the run, from one that counts to the next.")


class Train(Table):
    """Length, batches, precision, device, and what is kept."""

    steps: int = Field(1000, ge=1, le=10**8, description="Optimizer steps.")
    batch: int = Field(64, ge=1, description="Labelled pictures a step.")
    unlabeled_batch: int = Field(64, ge=1, description="Unlabelled pictures a step.")
    sampling: Literal["uniform", "balanced"] = Field(
        "uniform", description="Labelled batches at random, or with as many pictures of each class."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("fp32", description="Arithmetic of the network's passes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where training runs.")
    capture: Literal["auto", "off"] = Field("auto", description="Whole steps as CUDA graphs, where they can be.")
    compile: bool = Field(False, description="Fuse the network's small operations with torch.compile (for a GPU).")
    threads: Positive | None = Field(None, description="CPU threads; absent = every core, or one on a busy machine.")
    log_every: int = Field(50, ge=1, description="Steps between two points of the training curves.")
    save_every: int = Field(1000, ge=1, description="Steps between two checkpoints.")
    keep: int = Field(2, ge=2, description="Checkpoints kept.")
    on_collapse: Literal["warn", "stop"] = Field("warn", description="What an alarm does.")


class Eval(Table):
    """When and on what the networks are evaluated."""

    every: int = Field(500, ge=1, description="Steps between two evaluations.")
    batch: int = Field(512, ge=1, description="Pictures a pass.")
    splits: list[Annotated[str, _like(r"[a-z][a-z0-9_]*", "the name of a split")]] = Field(
        ["val", "test"], min_length=1, description="Splits evaluated, those that the data has."
    )
    primary: Annotated[
        str,
        _like(
            r"[a-z][a-z0-9_]*(/(ema|raw)/(head|centroid))?/[a-z][a-z0-9_]*",
            "SPLIT/METRIC or SPLIT/ema|raw/head|centroid/METRIC",
        ),
    ] = Field("test/accuracy", description="The series that ranks runs.")


class PublishedFigure(Table):
    """The published figure of the same recipe with some values changed."""

    set: list[str] = Field(min_length=1, description="The changed values, as --set words.")
    value: float = Field(description="The figure.")
    std: Annotated[float, Field(ge=0)] | None = Field(None, description="Its spread over seeds.")
    note: str | None = Field(None, description="What a reader must know.")


class Published(Table):
    """The figure that a recipe is meant to reproduce."""

    value: float | None = Field(None, description="The figure; may be absent where figures are given.")
    std: Annotated[float, Field(ge=0)] | None = Field(None, description="Its spread over seeds.")
    figures: list[PublishedFigure] = Field([], description="Figures of this recipe with other --set words.")
    unit: str = Field("accuracy %", description="What it counts.")
    metric: str = Field("test/accuracy", description="The series of ours that answers to it.")
    selection: str = Field(description="Which checkpoint it is of: median20, last, unstated, ...")
    source: str = Field(description="Where it was published.")
    note: str | None = Field(None, description="What a reader must know.")


class LossTable(Table):
    """mmctl's own keys of a [loss.SLOT] table; the method's LossTerm gives the defaults."""

    weight: float = Field(1.0, ge=0, description="Its factor in the sum; 0 = reported, not added.")
    rampup: Ramp = Field(0, description="The weight grows from 0: an integer is steps, a fraction is of the run.")
    ramp: Literal["linear", "sigmoid"] = Field("linear", description="The form of that growth.")


class Top(Table):
    """The keys above all tables."""

    name: Annotated[
        str,
        _like(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", "at most 80 letters, digits and . _ + -, a letter or digit first"),
    ] = Field(description="Display name; absent = the file's name.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    note: str | None = Field(None, description="A sentence for people.")


@dataclass(frozen=True)
class Settings:
    """The fixed tables of one recipe, checked."""

    top: Top
    split: Split
    centroids: Centroids
    optimizer: Optimizer
    schedule: Schedule
    average: Average
    train: Train
    eval: Eval
    published: Published | None = None


TABLES: dict[str, type[Table]] = {
    "split": Split,
    "centroids": Centroids,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "average": Average,
    "train": Train,
    "eval": Eval,
    "published": Published,
}
"""The fixed tables; [published] alone may be absent."""

ORDER = (
    "extends", "name", "seed", "note", "requires", "dataset", "split", "backbone", "method", "labeler", "centroids",
    "loss", "augment", "optimizer", "schedule", "average", "train", "eval", "launcher", "published",
)  # fmt: skip
"""Every top-level key of a recipe, in the order in which a resolved one is written."""

COMPONENTS = ("dataset", "backbone", "method", "labeler", "launcher")
"""Tables that name one component; [augment.NAME] and [loss.SLOT] name one each."""


def ordered(data: dict[str, Any]) -> dict[str, Any]:
    """The same recipe, top-level keys in the order of ORDER."""
    return {key: data[key] for key in ORDER if key in data}
