"""A plan's numbers on their way to the device: views of the host's arrays on a CPU, one copy on a GPU.

On a GPU every array of a step, and its learning rate, share and weights, lie end to end in one pinned buffer: a single
copy that does not wait. The views into its twin on the device stay where they are from step to step, which is what a
captured graph reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGN = 16
"""Bytes; every number type, and loads of four numbers at once, start at a multiple of it."""
SLOTS = 3
"""Host buffers in turn: the host may be two steps ahead before it has to look whether a copy is done."""


@dataclass
class Plan:
    """All of a step that is decided on the host; numpy arrays of this rank's rows, draws of the global batch."""

    step: int
    index_x: np.ndarray  # B, rows of split.labeled
    index_u: np.ndarray  # U, rows of split.unlabeled
    view_draws: dict[str, dict[str, dict[str, np.ndarray]]]  # "x0" -> policy -> arrays
    draws: dict[str, Any]
    pixels: dict[str, np.ndarray] = field(default_factory=dict)  # gathered here when they do not live on the device
    lr: float = 0.0
    share: float = 0.0
    weight: dict[str, float] = field(default_factory=dict)


@dataclass
class DevicePlan:
    """A plan whose arrays are tensors of the device; numbers are 0-d tensors there, and plain on a CPU."""

    step: Tensor  # 0-d int64
    index_x: Tensor
    index_u: Tensor
    view_draws: dict[str, dict[str, dict[str, Tensor]]]
    draws: dict[str, Any]
    pixels: dict[str, Tensor]
    lr: float | Tensor
    share: float | Tensor
    weight: dict[str, float | Tensor]


class Transfer:
    """Plans in, staged plans out; in the packed form all of them are views of the same memory."""

    def __init__(self, device: torch.device, packed: bool | None = None) -> None:
        """`packed` None: where the device is a GPU."""
        self.device = device
        self.packed = device.type == "cuda" if packed is None else packed
        self.form: tuple[Any, ...] = ()
        """Types and shapes of all arrays, and everything else that a plan holds."""
        self._starts: list[int] = []
        self._host: list[Tensor] = []
        self._views: list[Tensor] = []
        self._copied: list[Any] = []  # CUDA events: when the copy out of each host buffer was done
        self._turn = 0

    def __call__(self, plan: Plan) -> DevicePlan:
        """The plan on the device."""
        if not self.packed:
            loose = (torch.from_numpy(np.ascontiguousarray(leaf)) for leaf in _arrays(_moved(plan)))
            weight: dict[str, float | Tensor] = {**plan.weight}
            there = _rebuilt(_moved(plan), loose)
            return DevicePlan(**there, step=torch.tensor(plan.step), lr=plan.lr, share=plan.share, weight=weight)
        tree = {
            **_moved(plan),
            "step": np.asarray(plan.step, np.int64),
            "lr": np.asarray(plan.lr, np.float32),
            "share": np.asarray(plan.share, np.float32),
            "weight": {k: np.asarray(w, np.float32) for k, w in plan.weight.items()},
        }
        form = tuple(_form(tree))
        if form != self.form:
            self._lay_out(tree)
            self.form = form
        self._turn = (self._turn + 1) % SLOTS
        if self._copied:
            self._copied[self._turn].synchronize()
        host = self._host[self._turn]
        into = host.numpy()
        for start, leaf in zip(self._starts, _arrays(tree), strict=True):
            flat = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
            into[start : start + flat.size] = flat
        self._there.copy_(host, non_blocking=True)
        if self._copied:
            self._copied[self._turn].record()
        return DevicePlan(**_rebuilt(tree, iter(self._views)))

    def _lay_out(self, tree: dict[str, Any]) -> None:
        cuda = self.device.type == "cuda"
        arrays = list(_arrays(tree))
        self._starts, size = [], 0
        for array in arrays:
            self._starts.append(size)
            size += -(-array.nbytes // ALIGN) * ALIGN
        self._host = [torch.empty(size, dtype=torch.uint8, pin_memory=cuda) for _ in range(SLOTS)]
        self._there = torch.empty(size, dtype=torch.uint8, device=self.device)
        self._copied = [torch.cuda.Event() for _ in range(SLOTS)] if cuda else []  # type: ignore[no-untyped-call]
        self._turn = 0
        self._views = [
            self._there[start : start + array.nbytes].view(_dtype(array)).view(array.shape)
            for start, array in zip(self._starts, arrays, strict=True)
        ]


def _moved(plan: Plan) -> dict[str, Any]:
    names = ("index_x", "index_u", "view_draws", "draws", "pixels")
    return {name: getattr(plan, name) for name in names}


def _dtype(array: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


def _arrays(tree: Any) -> Iterator[np.ndarray]:
    if isinstance(tree, dict):
        for inner in tree.values():
            yield from _arrays(inner)
    elif isinstance(tree, np.ndarray):
        yield tree


def _form(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield key
            yield from _form(inner)
    else:
        # What is no array reaches the step as it is, so that a graph holds its value.
        yield (tree.dtype.str, tree.shape) if isinstance(tree, np.ndarray) else tree


def _rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(tree, dict):
        return {key: _rebuilt(inner, tensors) for key, inner in tree.items()}
    return next(tensors) if isinstance(tree, np.ndarray) else tree
