"""The tables of a recipe with fixed keys, one pydantic model each; descriptions are shown by editors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from mmctl.metric_names import checked_metric
from mmctl.registry.parameters import CONFIG
from mmctl.text import NAME_RULE

MOST = 10**9
"""Most steps or images; a larger number is a mistake."""
Count = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
BatchSize = Annotated[int, Field(ge=1, le=2**20)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Ramp = Count | Annotated[float, Field(ge=0, le=1)]
Length = Positive | Annotated[float, Field(gt=0, le=1000)]
MetricName = Annotated[str, AfterValidator(checked_metric)]


@dataclass(frozen=True)
class _Like:
    """Strings of this pattern; pydantic's own message would show the regular expression."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core) | {"pattern": f"^(?:{self.pattern})$"}

    def _checked(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"must be {self.words}")
        return text


class Table(BaseModel):
    """Base of all tables: unknown keys, wrong types and values out of range are errors."""

    model_config = CONFIG | {"frozen": True}


class Split(Table):
    """Which training images are labelled and which are unlabelled."""

    labels: Positive | Literal["all"] = Field("all", description="Number of labelled images of all classes together.")
    rule: Literal["balanced", "natural", "file", "official"] = Field(
        "balanced",
        description="balanced: equal numbers per class; natural: as in the data set; file: read from `file`; official: "
        "a choice that the data set publishes.",
    )
    fold: Count | None = Field(
        None, description="official: number of the choice, from 0. Default: the seed, modulo their number."
    )
    seed: Seed | None = Field(None, description="Seed of the split. Default: the seed of the run.")
    on_shortage: Literal["redistribute", "cap", "error"] = Field(
        "redistribute",
        description="If a class is too small: label more of other classes, use fewer labels, or stop.",
    )
    unlabeled: Literal["rest", "all", "without_label"] = Field(
        "rest",
        description="Unlabelled images: the rest without labels, all including the labelled images, or only those for "
        "which the data set has no label.",
    )
    val: Count | Share = Field(
        0,
        description="Training images (number or fraction) held out for validation, if the data set has no val split.",
    )
    file: str | None = Field(
        None,
        description='Split file to read, for rule = "file": JSON with lists of image ids or row numbers, "labeled", '
        'and if you like "val" and "left_out".',
    )


class Centroids(Table):
    """The class centroids that labelers and losses share: how they are estimated, and the distance to them."""

    estimator: Literal["running", "ema", "batch", "memory", "learned", "exact"] = Field(
        "running", description="How the class means of the embeddings are estimated."
    )
    rate: float = Field(
        0.5, ge=0, le=1, description="Weight of the new batch in a running mean; learning rate of learned centroids."
    )
    every: Positive = Field(20, description="exact: steps between two recomputations.")
    images: Positive = Field(4096, description="exact: largest number of labelled images in a recomputation.")
    network: Literal["model", "ema"] = Field(
        "model", description="exact: the network (or its EMA) that computes the embeddings."
    )
    normalize_embeddings: bool = Field(True, description="Scale embeddings to length 1 before distances are computed.")
    normalize_centroids: bool = Field(True, description="Scale centroids to length 1 before distances are computed.")
    distance: Literal["squared", "plain"] = Field("squared", description="Squared or plain Euclidean distance.")


class Optimizer(Table):
    """The optimizer; weight decay applies only to tensors of more than one dimension."""

    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="Optimizer.")
    lr: float = Field(0.03, gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: momentum.")
    nesterov: bool = Field(True, description="sgd: Nesterov momentum.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="adam, adamw: decay rates of the two moments."
    )
    eps: float = Field(1e-8, gt=0, description="adam, adamw: number added to the denominator.")
    weight_decay: float = Field(
        5e-4, ge=0, description="Weight decay: L2 in the gradient (sgd, adam) or decoupled (adamw)."
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Gradient clipping: largest norm of all gradients together. Default: no clipping."
    )


class Schedule(Table):
    """The learning rate schedule."""

    name: Literal["cosine", "seven_sixteenths", "constant", "cyclic"] = Field(
        "cosine", description="Schedule after the warm-up."
    )
    warmup: Ramp = Field(0, description="Linear warm-up: number of steps, or fraction of the run.")
    final: float = Field(0.0, ge=0, description="cosine: learning rate at the end.")
    horizon: Length | None = Field(
        None, description="cyclic: step (or fraction of the run) at which the cosine would reach 0."
    )
    start: Length | None = Field(None, description="cyclic: step (or fraction of the run) at which the cycles begin.")
    cycle: Length | None = Field(
        None, description="cyclic: length of a cycle, which repeats the part of the cosine before `start`."
    )


class Average(Table):
    """The average of the network's weights over training steps, which is evaluated too."""

    kind: Literal["ema", "swa", "none"] = Field(
        "ema", description="Exponential moving average (EMA), stochastic weight averaging (SWA), or no average."
    )
    decay: float = Field(
        0.999, ge=0, lt=1, description="ema: decay; the share of the old average that is kept in each step."
    )
    warmup: bool = Field(True, description="ema: start with a lower decay, min(decay, (1 + t) / (10 + t)) at step t.")
    buffers: Literal["copy", "average", "recompute"] = Field(
        "copy",
        description="Batch-norm statistics: copied from the network, averaged, or recomputed for evaluations.",
    )
    start: Length | None = Field(None, description="swa: step (or fraction of the run) of the first averaged network.")
    every: Length | None = Field(None, description="swa: steps (or fraction of the run) between two averaged networks.")


class Train(Table):
    """Training: number of steps, batch sizes, precision, device, logging and checkpoints."""

    steps: int = Field(1000, ge=1, le=10**8, description="Number of training steps.")
    batch: BatchSize = Field(64, description="Labelled images per step.")
    unlabeled_batch: BatchSize = Field(64, description="Unlabelled images per step.")
    sampling: Literal["uniform", "balanced"] = Field(
        "uniform", description="Labelled batches: random, or with equal numbers of each class."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32",
        description="Precision of forward and backward passes. bf16 uses autocast; auto = bf16 if the processor has "
        "instructions for it (a GPU; a CPU with AMX or AVX512_BF16), else fp32.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device for training; auto = CUDA if available.")
    capture: Literal["auto", "off"] = Field("auto", description="CUDA graphs: auto = capture whole steps if possible.")
    compile: bool = Field(False, description="Compile the backbone with torch.compile (faster on a GPU).")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="CPU threads. Default: all cores, shared by parallel runs."
    )
    log_every: Positive = Field(50, description="Steps between two logged points of the training curves.")
    save_every: Positive = Field(1000, description="Steps between two checkpoints.")
    keep: int = Field(2, ge=2, le=10**6, description="Number of newest checkpoints to keep.")
    keep_best: MetricName | None = Field(
        None,
        description="Metric, such as val/accuracy: the checkpoint of the best evaluation is saved and kept too. "
        "Default: none.",
    )
    on_collapse: Literal["warn", "stop"] = Field(
        "warn", description="If training collapses: only warn, or stop the run as not converged (nc)."
    )


class Eval(Table):
    """When, on which splits and by which metric the networks are evaluated."""

    every: Positive = Field(500, description="Steps between two evaluations.")
    batch: BatchSize = Field(512, description="Batch size of evaluations.")
    splits: list[Annotated[str, _Like(r"[a-z][a-z0-9_]*", "the name of a split")]] = Field(
        ["val", "test"],
        min_length=1,
        description="Splits to evaluate; those that the data set does not have are skipped.",
    )
    primary: MetricName = Field("test/accuracy", description="The metric by which runs are ranked.")
    nc_as: Literal["chance"] | Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description='What a run that did not converge counts in accuracies: "chance" (1 / number of classes) or a '
        "number from 0 to 1. `mmctl compare` shows the mean over all runs then. Default: it is only counted.",
    )


class PublishedFigure(Table):
    """A published result of the same recipe with some values changed."""

    set: list[str] = Field(min_length=1, description="The changed values, each as in --set.")
    value: float = Field(description="The published value.")
    std: Annotated[float, Field(ge=0)] | None = Field(None, description="Standard deviation over seeds.")
    note: str | None = Field(None, description="Note about the result.")


class Published(Table):
    """The published result that a recipe should reproduce."""

    value: float | None = Field(None, description="The published value; optional if `figures` is set.")
    std: Annotated[float, Field(ge=0)] | None = Field(None, description="Standard deviation over seeds.")
    figures: list[PublishedFigure] = Field([], description="Published results of this recipe with other values.")
    unit: str = Field("accuracy %", description="Unit of the value.")
    metric: MetricName = Field("test/accuracy", description="The metric of mmctl that is compared with it.")
    selection: str = Field(description="How the checkpoint was selected: median20, last, unstated, ...")
    source: str = Field(description="Where it was published.")
    note: str | None = Field(None, description="Note about the result.")


class LossTable(Table):
    """The keys of every [loss.SLOT] table; their defaults come from the method."""

    weight: float = Field(1.0, ge=0, description="Weight in the total loss; 0 = computed and reported only.")
    rampup: Ramp = Field(0, description="Steps (or fraction of the run) in which the weight grows from 0.")
    ramp: Literal["linear", "sigmoid"] = Field("linear", description="Shape of the ramp-up.")


class Top(Table):
    """The keys before the first table."""

    name: Annotated[
        str,
        _Like(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", NAME_RULE),
    ] = Field(description="Name of the recipe in lists; not inherited. Default: the file name.")
    seed: Seed = Field(0, description="Seed of all random numbers.")
    note: str | None = Field(None, description="Note about the recipe; not inherited.")


@dataclass(frozen=True)
class Settings:
    """The checked tables of one recipe."""

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
"""The tables with fixed keys; only [published] may be absent."""

ORDER = (
    "extends", "name", "seed", "note", "requires", "dataset", "split", "backbone", "method", "labeler", "centroids",
    "loss", "augment", "optimizer", "schedule", "average", "train", "eval", "launcher", "published",
)  # fmt: skip
"""All top-level keys of a recipe, in the order in which they are written."""

COMPONENTS = ("dataset", "backbone", "method", "labeler", "launcher")
"""Tables of a single component; each [augment.NAME] and [loss.SLOT] is one too."""


def ordered(data: dict[str, Any]) -> dict[str, Any]:
    """The data with its top-level keys in the order of ORDER."""
    return {key: data[key] for key in ORDER if key in data}
