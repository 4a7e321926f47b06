"""The interface of each kind of component, and of what mmctl supplies; mmctl.plugin offers all of it.

Pages of docs/plugins/ are made from these docstrings (`make docs`), so that they are written for authors of plugins.

B labelled batch, U unlabelled batch, C channels, H height, W width, D embedding, K classes, N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from torch import Tensor

    from mmctl.component_types import Batch, Images, JobState, Limits, LossTerm, Output, PseudoLabels, StepOutput


ARGUMENTS: dict[str, str] = {
    "in_channels": "int: C, channels of the images; 1 or 3 in all data sets of mmctl.",
    "image_size": "int if the images are square, else (H, W).",
    "root": "Path: the folder of the data set, `dataset.root` of the recipe, else `data/NAME` in the project.",
    "augments": "dict: the policies of the recipe's [augment.NAME] tables by name; an augmentation gets those built "
    "before it, which are at least those that it comes `after`.",
    "num_classes": "int: K.",
    "embed_dim": "int: D, the size of the backbone's embedding.",
    "num_labeled": "int: labelled training images; `batch.index_x` is below it.",
    "num_unlabeled": "int: unlabelled training images; `batch.index_u` is below it, so it is the length of a memory "
    "with a row for each of them.",
    "prior_K": "Tensor K: class frequencies of the labelled images, on the device; they sum to 1.",
    "std_C": "Tensor C: the standard deviation of the pixels (scale 0 to 1) that each channel was divided by, on the "
    "device: a step of size e in a normalised image is e * std_C in pixels.",
    "steps": "int: training steps of the run.",
    "model": "Network: the network that is trained, the backbone with a linear head.",
    "ema": "Network: the average of its weights (table [average]), without gradient; for teachers. A method that also "
    "works without one gives the argument a default, `ema: Network | None = None`, and gets None with `average.kind = "
    '"none"`; without a default, such a recipe is refused.',
    "centroids": "Centroids: class centroids as the table [centroids] says; labelers, losses and method share them.",
    "losses": "namespace: `losses.NAME` is the loss of the slot NAME, as the recipe chose it; slots whose LossTerm has "
    "no loss are absent.",
    "labeler": "Labeler: the one of the recipe's [labeler], else `default_labeler`.",
}
"""Supplied argument -> its type and meaning; SUPPLIED in mmctl.plugin says which kind may ask for which."""


class Network(Protocol):
    """What a method gets as `model` and `ema`: normalised images in, logits and embedding out.

    It casts to the precision of the recipe itself, and its outputs are float32: a method needs no autocast. It is
    moved to the device, saved and averaged by mmctl. Each forward says with `bn` what its batch norm layers do:

    - `"update"`: statistics of the batch; the running statistics follow it. Usual for the labelled images.
    - `"batch"`: statistics of the batch; the running statistics stay. For pseudo-labels, teachers, extra views.
    - `"running"`: the running statistics, as in evaluation (eval mode: dropout is off too). For predictions.
    """

    embed_dim: int
    """D."""

    def __call__(self, x_BCHW: Tensor, *, bn: Literal["update", "batch", "running"]) -> Output:
        """One forward pass. `bn` has no default: which forward moves the running statistics is a choice of method."""
        ...

    def branches(
        self,
        *xs: Tensor,
        bn: Literal["update", "batch", "running", "first", "last"],
        bn_groups: Literal["each", "joint", "interleave"] = "each",
    ) -> tuple[Output, ...]:
        """Outputs of several batches, one for each.

        `bn_groups`: `"each"` is a forward per batch; `"joint"` one forward of all, whose batch norm statistics they
        share; `"interleave"` swaps slices as MixMatch does, then a forward per batch (they must be equally large).
        `bn = "first"` or `"last"`: only that forward updates the running statistics, the others are `"batch"`.
        """
        ...

    def fp32(self) -> AbstractContextManager[None]:
        """`with model.fp32():` switches autocast off, for arithmetic that bf16 is too coarse for."""
        ...


class Centroids(Protocol):
    """Class centroids in the embedding space, with the estimator and distance of the table [centroids].

    Losses and labelers read them; the method calls `update` in each step. Without gradient, unless they are learned.
    """

    estimator: str
    """As in the recipe: running, ema, batch, memory, learned or exact."""
    per_step: bool
    """Whether the method must call `update`; false for exact and learned centroids, where it does nothing."""
    seen_K: Tensor
    """bool K: the classes that have a centroid; a distance to another class means nothing."""

    def update(self, emb_BD: Tensor, target_BK: Tensor, index_B: Tensor | None = None) -> None:
        """Move the centroids by the labelled embeddings of a step; `index_B` = `batch.index_x`, for "memory"."""
        ...

    def centers(self, unit: bool | None = None) -> Tensor:
        """The centroids KD, scaled to length 1 if `unit`; None = as the recipe says."""
        ...

    def normalized(self, emb_BD: Tensor, unit: bool | None = None) -> Tensor:
        """The embeddings that distances are computed from."""
        ...

    def squared(self, emb_BD: Tensor, unit_e: bool | None = None, unit_c: bool | None = None) -> Tensor:
        """Squared distances BK to all centroids."""
        ...

    def distance(self, emb_BD: Tensor, unit_e: bool | None = None, unit_c: bool | None = None) -> Tensor:
        """Distances BK for losses, squared or not as the recipe says; the gradient is finite, also at distance 0."""
        ...

    def membership(self, emb_BD: Tensor) -> Tensor:
        """Fuzzy memberships BK, rows sum to 1 (MarginMix, eq. 6); 0 for a class without a centroid."""
        ...


class Backbone(Protocol):
    """A network from images to embeddings: nn.Module(supplied arguments, *, parameters of the recipe).

    mmctl puts the linear head on top of it, casts, moves and averages it. It refuses images that it cannot take with
    DataError in `__init__`. Optional attributes `mean` and `std`, one number (0 to 1) for each channel: what its
    pretrained weights expect; without them, images are normalised by the training pixels.
    """

    embed_dim: int
    """D, the size of the embedding: set it in `__init__`."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised float images BCHW, channels last -> the embedding BD, under autocast if the recipe says bf16."""
        ...


class Dataset(Protocol):
    """Images with labels: a function(root, *, parameters of the recipe); leave `root` out if nothing is read.

    It returns the same images in the same order at every call and draws no global random numbers: shuffle only with a
    seed from a parameter. It raises DataError, with what to download or to put where, if files are missing or wrong.

    The `fingerprint` of each split stands in every result: a run is resumed, and two runs are compared, only on the
    same data. It must change when a pixel, a label, an id or a class name does. `Images.of` computes one from images
    in memory; a data set in a memory map may use the hash of its archive and its parameters.
    """

    def __call__(self, root: Path) -> dict[str, Images]:
        """`train` (all training images, labelled or not), `test` and optionally `val`; a run needs test or val."""
        ...


class Augment(Protocol):
    """A random change of images, a policy: class(supplied arguments, *, parameters of the recipe).

    mmctl calls `draw` on the CPU, ahead of the step, and `apply` on the device: so a step is the same on each device,
    after a resume and over several processes. Images reach it as uint8, before they are normalised. A policy that
    learns is an nn.Module, whose buffers are saved; the method changes it, as `remixmatch` does for `ctaugment`.

    `on_cpu = True` says that `apply` reads its numbers or the images on the CPU: then a GPU waits in each step, which
    cannot be a CUDA graph.
    """

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """Random numbers for n images, from `rng` alone: name -> numeric array, axis 0 is the image."""
        ...

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """The changed images, uint8 of the same shape, each from its own numbers; `x_BCHW` stays as it is."""
        ...


class Labeler(Protocol):
    """Pseudo-labels of unlabelled images: nn.Module(supplied arguments, *, parameters of the recipe).

    Three class (or instance) attributes say what it gives:

    - `masks = True`: weights may be below 1, down to 0 = the image is left out. Without it all weights must be 1, and
      with it the labeler is refused under a method that mixes all pseudo-labels (`mixes = True`).
    - `unnormalized = True`: rows of its targets need not sum to 1.
    - `not_state = ("name", ...)`: attributes that change but are no state, such as a cache.

    State (averages, thresholds, memories) lies in buffers that are changed in place, and means over the batch are
    `mmctl.ops.global_mean`: then it is saved, resumed and equal over several processes.
    """

    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Pseudo-labels from the outputs for the views of the same U images, without gradient.

        `labeled`: the outputs for the labelled images of the step, if the method has them already; else None.
        """
        ...


class Loss(Protocol):
    """One loss: a function(supplied arguments, *, parameters) that returns a callable, or an nn.Module with forward.

    A method calls it as `losses.NAME(out, target_BK, weight_B)`; which loss a NAME is, and its weight in the total,
    is the recipe's choice. What has state in checkpoints is an nn.Module. Its parameters are trained, with the settings
    of [optimizer] or, if the module (in a component of any kind) has an attribute `optim`, with these:
    `{"lr": 0.01, "momentum": 0.0, "weight_decay": 0.0}`.
    """

    def __call__(self, out: Output, target_BK: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """0-d: the mean of loss * weight over the global batch; a row of weight 0 counts as a zero.

        Targets are distributions, not only one-hot. Return `mmctl.ops.global_mean(loss_B * weight_B)`, and do not
        divide by the sum of the weights.
        """
        ...


class Method(Protocol):
    """The losses of one training step: nn.Module(supplied arguments, *, parameters of the recipe).

    It assigns the supplied `model`, `ema`, `labeler` ... to attributes and uses them in `step`; the training loop
    weights the losses, adds them, and does backward pass, optimizer, average, evaluation and checkpoints. No class
    attribute may have the name of a supplied argument: it would hide the submodule of that name. `views` and `slots`
    are class attributes; `__init__` may set `self.views` if they depend on a parameter. `mixes = True` says that it
    uses every pseudo-label and ignores the weights: labelers that mask are then refused.

    A method with centroids calls `centroids.update(x.emb, batch.y, batch.index_x)` in each step.
    """

    views: dict[str, tuple[str, ...]]
    """Branch -> the policy of each view: `{"x": ("weak",), "u": ("weak", "strong")}` gives `batch.x` one tensor and
    `batch.u` two. A name is a table [augment.NAME] of the recipe, or "clean" = no augmentation. No "u": supervised."""
    slots: dict[str, LossTerm]
    """The terms of the total loss; the table [loss.NAME] of a recipe changes loss, weight and ramp of one."""
    default_labeler: str | None
    """The labeler if the recipe names none; None = the recipe must name one, if the method asks for `labeler`."""

    def step(self, batch: Batch) -> StepOutput:
        """The losses of one training step, one for each slot, unweighted.

        Nothing in it waits for the device: no `.item()`, no `if` on a tensor, no shape that depends on values.
        """
        ...

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """Optional: random numbers of a step, from `rng` alone; they come back on the device as `batch.draws`.

        x, u: labelled and unlabelled images of the global batch (u = 0 without unlabelled views). Values are numpy
        arrays or dicts of them, of the same shapes in each step. `mmctl.ops.draw_mixup` draws MixUp's.
        """
        ...


class Launcher(Protocol):
    """Starts runs as processes `mmctl exec RUN_DIR`, here or in the queue of a cluster: class(*, parameters).

    How a run ended is read from its folder, not from what a launcher answers. Exit codes of the command:
    0 = completed, 75 = stopped at a checkpoint, 2 = wrong recipe or data, 3 = training failed, 4 = disk or machine.

    `--jobs N` sets its parameter `slots`; without such a parameter, --jobs is refused.
    """

    lasting: bool
    """Whether runs outlive mmctl, as on a cluster. Optional, False without it.

    False: processes of this machine. A process of mmctl in the background keeps the launcher and asks `states` a few
    times a second. True: mmctl hands the runs over and returns; each later command builds the launcher and asks once.
    """

    def start(self, run_dirs: list[Path], name: str) -> list[str]:
        """Start the runs; returns one id, a string, for each, in the same order. At most `limits().chunk` of them.

        name: short and unique, of letters, digits and `-`; the jobs of an engine must be found by it.
        """
        ...

    def find(self, name: str) -> list[str]:
        """Only of a lasting launcher: the ids that `start` gave to the runs of this name, or would have given.

        mmctl asks if a command was killed between `start` and noting the ids. [] if none was handed over.
        """
        ...

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """The state of each id, with one question to the engine for all of them.

        The words: queued, running, completed (exit code 0), interrupted (75, or cancelled), failed (any other code),
        held (waits until somebody acts; the reason says what to do), gone (the engine does not know the id any more).
        """
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the runs at a checkpoint: send SIGTERM. Runs that wait are never started, and interrupted.

        Ids of runs that have ended, and unknown ones, change nothing.
        """
        ...

    def limits(self) -> Limits:
        """How many runs can run in parallel, and how many can be handed over."""
        ...
