"""Moves the plan of a step to the device: without a copy on a CPU, with a single copy on a GPU.

On a GPU all arrays of a step, its learning rate, averaging share and loss weights are packed into one pinned buffer,
which is copied asynchronously. The copy on the device has the same address at every step: a CUDA graph reads it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGN = 16
"""Bytes. Arrays start at multiples of it, which is right for all number types and for loads of four at once."""
SLOTS = 3
"""Host buffers, used in turn: the host can be two steps ahead before it must wait for a copy."""


@dataclass
class Plan:
    """What the CPU decides about a step, in numpy arrays: the rows of this rank, the draws of the global batch."""

    step: int
    index_x: np.ndarray  # B, rows of split.labeled
    index_u: np.ndarray  # U, rows of split.unlabeled
    view_draws: dict[str, dict[str, dict[str, np.ndarray]]]  # "x0" -> policy -> arrays
    draws: dict[str, Any]
    pixels: dict[str, np.ndarray] = field(default_factory=dict)  # only if pixels are not kept on the device
    lr: float = 0.0
    share: float = 0.0  # of the live weights in the average
    weight: dict[str, float] = field(default_factory=dict)


@dataclass
class DevicePlan:
    """A plan whose arrays are tensors on the device; numbers are 0-d tensors on a GPU and floats on a CPU."""

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
    """Turns a Plan into a DevicePlan; when packed, all DevicePlans are views of the same memory."""

    def __init__(self, device: torch.device, packed: bool | None = None) -> None:
        """packed: use one buffer and one copy; None = on a GPU only."""
        self.device = device
        self.packed = device.type == "cuda" if packed is None else packed
        self.form: tuple[Any, ...] = ()
        """Types and shapes of all arrays, and the value of everything else in the plan."""
        self._starts: list[int] = []
        self._host: list[Tensor] = []
        self._views: list[Tensor] = []
        self._copied: list[Any] = []  # CUDA events: when the copy out of each host buffer was done
        self._turn = 0

    def __call__(self, plan: Plan) -> DevicePlan:
        """The plan on the device."""
        if not self.packed:
            tensors = (torch.from_numpy(np.ascontiguousarray(leaf)) for leaf in _arrays(_fields(plan)))
            weight: dict[str, float | Tensor] = {**plan.weight}
            fields = _rebuilt(_fields(plan), tensors)
            return DevicePlan(**fields, step=torch.tensor(plan.step), lr=plan.lr, share=plan.share, weight=weight)
        tree = {
            **_fields(plan),
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
        self._buffer.copy_(host, non_blocking=True)
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
        self._buffer = torch.empty(size, dtype=torch.uint8, device=self.device)
        self._copied = [torch.cuda.Event() for _ in range(SLOTS)] if cuda else []  # type: ignore[no-untyped-call]
        self._turn = 0
        self._views = [
            self._buffer[start : start + array.nbytes].view(_dtype(array)).view(array.shape)
            for start, array in zip(self._starts, arrays, strict=True)
        ]


def _fields(plan: Plan) -> dict[str, Any]:
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
        # Anything but an array is passed to the step unchanged, and a CUDA graph would contain its value.
        yield (tree.dtype.str, tree.shape) if isinstance(tree, np.ndarray) else tree


def _rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(tree, dict):
        return {key: _rebuilt(inner, tensors) for key, inner in tree.items()}
    return next(tensors) if isinstance(tree, np.ndarray) else tree
