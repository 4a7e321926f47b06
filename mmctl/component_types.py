"""The types that components get and give; mmctl.plugin offers all of them, and docs/plugins/ explains them.

B labelled batch, U unlabelled batch, C channels, H height, W width, D embedding, K classes, N images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


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
    ramp: Literal["linear", "sigmoid"] = "linear"  # shape of the ramp-up from 0 to the weight


@dataclass
class StepOutput:
    """The result of one training step."""

    losses: dict[str, Tensor]  # slot -> 0-d, unweighted; a key for each slot
    metrics: dict[str, Tensor] = field(default_factory=dict)  # other metrics of the method; 0-d, on the device
    pseudo_labels: PseudoLabels | None = None  # what the labeler gave: the loop compares them with the hidden labels


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
    classes: tuple[str, ...]  # K names, the same in each split
    ids: Sequence[str]  # file name or row number of each image
    fingerprint: str  # changes when a pixel, a label, an id or a class name changes
    skipped: Mapping[str, str] = field(default_factory=dict)  # id of each image that was left out -> what is wrong
    official: Sequence[np.ndarray] = ()  # rows of published choices of labelled images: split.rule = "official"
    notes: Sequence[str] = ()  # what a user should know about the images, such as how they were converted; shown once

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


JOB_WORDS = ("queued", "running", "completed", "failed", "interrupted", "held", "gone")


class JobState(NamedTuple):
    """What a launcher says of a run that it was given."""

    word: str  # queued, running, completed, failed, interrupted, held (until somebody acts) or gone (not known)
    reason: str = ""  # for people: "Priority", "out of memory", "exit code 1"; of a held one what to do


class Limits(NamedTuple):
    """How much a launcher can run."""

    slots: int  # runs in parallel, at least 1
    chunk: int | None = None  # most runs in one call of start; None = any number
    submitted: int | None = None  # how many more runs may be handed over now; None = any number
