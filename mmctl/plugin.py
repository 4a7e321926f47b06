"""Public: how to declare a component, and the interface of each kind of component.

A component is an ordinary class or function with a decorator, its mark:

    @labeler("mine")
    class Mine(nn.Module):
        '''One sentence for `mmctl plugins list`.

        Args:
            power: One sentence for `mmctl plugins show`.
        '''
        def __init__(self, num_classes, *, power: float = 2.0): ...

mmctl supplies the arguments before the `*` (see SUPPLIED for the possible names); the recipe sets those after it.
A mark registers nothing: files can be imported twice and in any order.

B labelled batch, U unlabelled batch, C channels, H height, W width, D embedding, K classes, N images.
Batch sizes in a recipe and in draw() are those of the global batch, over all processes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from mmctl.errors import DataError, PluginError

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from torch import Tensor

__all__ = [
    "API",
    "KINDS",
    "SUPPLIED",
    "Augment",
    "Backbone",
    "Batch",
    "DataError",
    "Dataset",
    "Images",
    "Labeler",
    "Launcher",
    "Limits",
    "Loss",
    "LossTerm",
    "Method",
    "Output",
    "PluginError",
    "PseudoLabels",
    "Split",
    "StepOutput",
    "augment",
    "available_cores",
    "backbone",
    "dataset",
    "labeler",
    "launcher",
    "loss",
    "method",
]

API = 1
"""Version of this interface: it rises when a supplied argument is removed or an interface changes."""

KINDS = ("backbone", "dataset", "augment", "labeler", "loss", "method", "launcher")

SUPPLIED: dict[str, tuple[str, ...]] = {
    "backbone": ("in_channels", "image_size"),
    "dataset": ("root",),
    "augment": ("in_channels", "image_size", "augments"),
    "labeler": ("num_classes", "embed_dim", "num_labeled", "num_unlabeled", "prior_K", "steps", "centroids"),
    "loss": ("num_classes", "embed_dim", "centroids"),
    "method": (
        "in_channels", "image_size", "num_classes", "embed_dim", "num_labeled", "num_unlabeled", "prior_K", "std_C",
        "steps", "augments", "model", "ema", "centroids", "losses", "labeler",
    ),
    "launcher": (),
}  # fmt: skip
"""Argument names that a component of each kind may have before its `*`; mmctl supplies those that it names.

prior_K: class frequencies of the labelled images; std_C: the standard deviation of the pixels (0 to 1) of each channel,
which images are divided by.
"""

Component = TypeVar("Component", bound=Callable[..., Any])


def _mark(kind: str) -> Callable[[str], Callable[[Component], Component]]:
    def named(name: str) -> Callable[[Component], Component]:
        def mark(component: Component) -> Component:
            component.__mmctl__ = (kind, name)  # type: ignore[attr-defined]
            return component

        return mark

    return named


backbone, dataset, augment, labeler, loss, method, launcher = map(_mark, KINDS)


_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Number of CPU cores that this process may use, also by the limit of its container (`docker run --cpus 4`).

    A launcher's default number of parallel runs on a CPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a limit: "max 100000"
        quota, period = map(int, _CPU_LIMIT.read_text().split())
        cores = min(cores, max(1, -(-quota // period)))
    return cores


class Output(NamedTuple):
    """The output of a network for a batch. Always float32, also with mixed precision."""

    logits: Tensor  # BK
    emb: Tensor  # BD

    @property
    def probs(self) -> Tensor:
        """Softmax of the logits, BK."""
        return self.logits.softmax(-1)


class PseudoLabels(NamedTuple):
    """Pseudo-labels of unlabelled images, without gradient."""

    target: Tensor  # UK, rows sum to 1 (see Labeler)
    weight: Tensor  # U, from 0 to 1; 0 = the image is not used


class LossTerm(NamedTuple):
    """One loss term of a method, with its default settings; a recipe can change each of them."""

    loss: str | None  # default component; None = the method computes this term
    weight: float = 1.0  # 0 = the term is logged but not trained
    rampup: int | float = 0  # int: steps; float: fraction of the run
    ramp: Literal["linear", "sigmoid"] = "linear"


@dataclass
class StepOutput:
    """The result of one training step."""

    losses: dict[str, Tensor]  # slot -> 0-d
    metrics: dict[str, Tensor] = field(default_factory=dict)  # other metrics of the method; 0-d, on the device
    pseudo_labels: PseudoLabels | None = None  # the train loop compares them with the hidden labels


@dataclass
class Batch:
    """The data of one step, on the device."""

    x: tuple[Tensor, ...]  # normalised labelled images, one BCHW for each view
    u: tuple[Tensor, ...]  # normalised unlabelled images, one UCHW for each view
    y: Tensor  # BK, rows sum to 1
    index_x: Tensor  # B, row in split.labeled
    index_u: Tensor  # U, row in split.unlabeled; use it as the key if you store values per image
    step: Tensor  # 0-d int64
    draws: dict[str, Any]  # the result of method.draw, for the whole global batch
    view_draws: dict[str, Any]  # the random numbers of each view: "x1" -> policy -> arrays


@dataclass(frozen=True)
class Images:
    """One split of a data set."""

    pixels: Any  # uint8 NCHW: array, tensor or memory map
    targets: np.ndarray  # int64 N, -1 = no label; or float32 NK, a row of zeros = no label
    classes: tuple[str, ...]
    ids: Sequence[str]  # file name or row number of each image
    fingerprint: str  # changes when a pixel, a label, an id or a class name changes

    @staticmethod
    def of(pixels_NCHW: np.ndarray, targets: np.ndarray, classes: Sequence[str], ids: Sequence[str]) -> Images:
        """Images in memory; the fingerprint is a SHA-256 of all pixels, targets, ids and class names."""
        digest = hashlib.sha256()
        for array in (pixels_NCHW, targets):
            digest.update(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update((array if array.flags.c_contiguous else array.copy()).data)
        for names in (ids, classes):
            digest.update(f"{len(names)}\n".encode())
            digest.update("\0".join(names).encode("utf-8", "surrogateescape"))
        return Images(pixels_NCHW, targets, tuple(classes), tuple(ids), digest.hexdigest())


@dataclass(frozen=True)
class Split:
    """Row numbers of the training images that keep their labels, lose them, or are held out for validation."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    val: np.ndarray
    rule: str
    seed: int
    counts: tuple[int, ...]  # labelled images of each class
    sha256: str


class Limits(NamedTuple):
    """How much a launcher can run."""

    slots: int  # parallel runs
    minutes: int | None = None  # longest time of one run; None = no limit


class Backbone(Protocol):
    """nn.Module(supplied arguments, *, parameters of the recipe); `mean` and `std` (0 to 1) if pretrained with them."""

    embed_dim: int

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The embedding BD."""
        ...


class Dataset(Protocol):
    """function(root, *, ...)."""

    def __call__(self, root: Path) -> dict[str, Images]:
        """`train` (all training images, labelled or not), `test` and optionally `val`."""
        ...


class Augment(Protocol):
    """class(in_channels, image_size, augments, *, ...); an nn.Module if it has state to save in checkpoints.

    `on_cpu = True` says that `apply` reads its numbers or the images on the CPU: then the GPU waits in each step, which
    cannot be a CUDA graph.
    """

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Random numbers for n images; axis 0 is the image."""
        ...

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """The changed images: uint8, same shape."""
        ...


class Labeler(Protocol):
    """nn.Module(supplied arguments, *, parameters of the recipe).

    `masks = True` says that it gives weights below 1; without it, all weights must be 1. `unnormalized = True` says
    that the rows of its labels need not sum to 1.
    """

    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Pseudo-labels from the views of the same images, without gradient."""
        ...


class Loss(Protocol):
    """Callable, or nn.Module(supplied arguments, *, parameters of the recipe)."""

    def __call__(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """0-d: the mean of loss * weight over the global batch; a row of weight 0 counts as a zero."""
        ...


class Method(Protocol):
    """nn.Module(supplied arguments, *, parameters of the recipe).

    No class attribute may have the name of a supplied argument: it would hide the submodule of that name.
    `mixes = True` says that it uses every pseudo-label and ignores the weights: labelers that mask are then refused.
    """

    views: dict[str, tuple[str, ...]]  # {"x": ("weak", "clean"), "u": ("weak", "weak")}; clean = no augmentation
    slots: dict[str, LossTerm]
    default_labeler: str | None

    def step(self, batch: Batch) -> StepOutput:
        """Compute the losses of one training step."""
        ...


class Launcher(Protocol):
    """class(*, ...): starts `mmctl exec RUN_DIR`, for example in a queue of a cluster.

    `--jobs N` sets its parameter `slots`; without such a parameter, --jobs is refused.
    """

    def start(self, run_dirs: list[Path]) -> list[str]:
        """Start the runs; returns one id for each."""
        ...

    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """id -> queued, running, completed, failed or interrupted."""
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the runs at a checkpoint."""
        ...

    def requeue(self, ids: Sequence[str]) -> None:
        """Start stopped runs again; they continue from their checkpoints."""
        ...

    def limits(self) -> Limits:
        """How many runs can run in parallel, and for how long."""
        ...
