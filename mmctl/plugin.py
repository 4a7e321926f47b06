"""Public: how a component is declared, and what each kind of component takes and gives.

A component is an ordinary class or function with a mark:

    @labeler("mine")
    class Mine(nn.Module):
        '''One sentence for `mmctl plugins list`.

        Args:
            power: One sentence for `mmctl plugins show`.
        '''
        def __init__(self, num_classes, *, power: float = 2.0): ...

Arguments before the `*` come from mmctl (a closed list, see SUPPLIED), those after it are the recipe's.
A mark registers nothing: importing a file twice, or in any order, changes nothing.

B labelled batch, U unlabelled batch, C channels, H height, W width, D embedding, K classes, N images.
Sizes in a recipe and in draw() are of the global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    "backbone",
    "dataset",
    "labeler",
    "launcher",
    "loss",
    "method",
]

API = 1
"""Rises when a supplied argument is removed or a contract changes; adding one does not."""

KINDS = ("backbone", "dataset", "augment", "labeler", "loss", "method", "launcher")

SUPPLIED: dict[str, tuple[str, ...]] = {
    "backbone": ("in_channels", "image_size"),
    "dataset": ("root",),
    "augment": ("in_channels", "image_size", "augments"),
    "labeler": ("num_classes", "embed_dim", "num_labeled", "num_unlabeled", "prior_K", "steps", "centroids"),
    "loss": ("num_classes", "embed_dim", "centroids"),
    "method": (
        "in_channels", "image_size", "num_classes", "embed_dim", "num_labeled", "num_unlabeled", "prior_K",
        "steps", "augments", "model", "ema", "centroids", "losses", "labeler",
    ),
    "launcher": (),
}  # fmt: skip
"""Names a component of each kind may have before its `*`. Naming one is asking for it."""

Component = TypeVar("Component", bound=Callable[..., Any])


def _mark(kind: str) -> Callable[[str], Callable[[Component], Component]]:
    def named(name: str) -> Callable[[Component], Component]:
        def mark(component: Component) -> Component:
            component.__mmctl__ = (kind, name)  # type: ignore[attr-defined]
            return component

        return mark

    return named


backbone, dataset, augment, labeler, loss, method, launcher = map(_mark, KINDS)


class Output(NamedTuple):
    """What a network says of a batch; always float32, whatever precision ran inside."""

    logits: Tensor  # BK
    emb: Tensor  # BD

    @property
    def probs(self) -> Tensor:
        """Softmax of the logits, BK."""
        return self.logits.softmax(-1)


class PseudoLabels(NamedTuple):
    """Guessed labels of unlabelled images; no gradient flows into them."""

    target: Tensor  # UK, rows sum to 1
    weight: Tensor  # U, in 0..1; 0 = the image is not used


class LossTerm(NamedTuple):
    """One loss term of a method, with the method's own constants; a recipe may change each of them."""

    loss: str | None  # default component; None = the method computes this term and the recipe only weights it
    weight: float = 1.0  # 0 = reported, not added
    rampup: int | float = 0  # int: steps; float: fraction of the run
    ramp: Literal["linear", "sigmoid"] = "linear"


@dataclass
class StepOutput:
    """What one training step gives back."""

    losses: dict[str, Tensor]  # slot -> 0-d
    metrics: dict[str, Tensor] = field(default_factory=dict)  # what is special to the method; 0-d, on the device
    pseudo_labels: PseudoLabels | None = None  # scored against hidden labels by the train loop, which alone sees them


@dataclass
class Batch:
    """One step's data on the device."""

    x: tuple[Tensor, ...]  # normalised labelled images, one BCHW per declared view
    u: tuple[Tensor, ...]  # normalised unlabelled images, one UCHW per declared view
    y: Tensor  # BK, always a distribution
    index_x: Tensor  # B, row in split.labeled
    index_u: Tensor  # U, row in split.unlabeled: the key of a per-sample memory
    step: Tensor  # 0-d int64
    draws: dict[str, Any]  # what method.draw gave, for the whole global batch
    view_draws: dict[str, Any]  # what each view was drawn with: "x1" -> policy -> arrays


@dataclass(frozen=True)
class Images:
    """One split of a data set."""

    pixels: Any  # uint8 NCHW: tensor or memory map
    targets: np.ndarray  # int64 N, -1 = no label; or float32 NK, a zero row = no label
    classes: tuple[str, ...]
    ids: Sequence[str]  # file name or row, one for each image
    fingerprint: str  # changes when a pixel, a label, an id or a class name changes
    folds: tuple[np.ndarray, ...] = ()  # official labelled subsets, if the data set has them


@dataclass(frozen=True)
class Split:
    """Which rows of the training images keep their labels; rows of Images "train"."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    val: np.ndarray
    rule: str
    seed: int
    counts: tuple[int, ...]  # labelled images per class, as realised
    sha256: str


class Limits(NamedTuple):
    """What a launcher can hold."""

    slots: int  # runs at a time
    minutes: int | None = None  # wall time of one run, None = no limit


class Backbone(Protocol):
    """nn.Module(in_channels, image_size, *, ...); optional `mean`, `std` (0..1) of its pretrained weights."""

    embed_dim: int

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Embedding BD."""
        ...


class Dataset(Protocol):
    """function(root, *, ...)."""

    def __call__(self, root: Path) -> dict[str, Images]:
        """`train` (every training picture, labelled or not), `test`, optionally `val`."""
        ...


class Augment(Protocol):
    """class(in_channels, image_size, augments, *, ...); an nn.Module if it learns."""

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Random numbers for n images; axis 0 is the sample."""
        ...

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """uint8 in, uint8 out, same shape."""
        ...


class Labeler(Protocol):
    """nn.Module(num_classes, embed_dim, num_unlabeled, prior_K, steps, centroids, *, ...)."""

    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Guessed labels from the views of the same images, averaged; without gradient."""
        ...


class Loss(Protocol):
    """Callable or nn.Module(num_classes, embed_dim, centroids, *, ...)."""

    def __call__(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """0-d: mean over the global batch of loss * weight; a row of weight 0 counts as zero."""
        ...


class Method(Protocol):
    """nn.Module(model, ema, labeler, losses, centroids, augments, num_..., steps, *, ...).

    No class attribute may bear a supplied name: it would hide the submodule of that name.
    """

    views: dict[str, tuple[str, ...]]  # {"x": ("weak", "clean"), "u": ("weak", "weak")}; clean = as it is
    slots: dict[str, LossTerm]
    default_labeler: str | None

    def step(self, batch: Batch) -> StepOutput:
        """One training step up to its losses."""
        ...


class Launcher(Protocol):
    """class(*, ...): starts `mmctl exec RUN_DIR` somewhere."""

    def start(self, run_dirs: list[Path]) -> list[str]:
        """Start the runs; one id for each."""
        ...

    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """id -> queued, running, completed, failed, interrupted."""
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """Ask the runs to stop at a checkpoint."""
        ...

    def requeue(self, ids: Sequence[str]) -> None:
        """Start stopped runs again, from their checkpoints."""
        ...

    def limits(self) -> Limits:
        """How many runs fit at a time."""
        ...
