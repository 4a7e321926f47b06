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

from collections.abc import Callable
from typing import Any, TypeVar

from mmctl.component_types import (
    Batch,
    Images,
    JobState,
    Limits,
    LossTerm,
    Output,
    PseudoLabels,
    Split,
    StepOutput,
)
from mmctl.cores import available_cores
from mmctl.errors import DataError, PluginError
from mmctl.kinds import (
    ARGUMENTS,
    Augment,
    Backbone,
    Centroids,
    Dataset,
    Labeler,
    Launcher,
    Loss,
    Method,
    Network,
)

__all__ = [
    "API",
    "ARGUMENTS",
    "KINDS",
    "SUPPLIED",
    "Augment",
    "Backbone",
    "Batch",
    "Centroids",
    "DataError",
    "Dataset",
    "Images",
    "JobState",
    "Labeler",
    "Launcher",
    "Limits",
    "Loss",
    "LossTerm",
    "Method",
    "Network",
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
"""Version of this interface, which rises with each breaking change; see `MMCTL_API` in docs/trust.md."""

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

ARGUMENTS says what each of them is.
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
