"""A captured graph on a CPU: the operations of one call, done again on the same memory without any Python of it.

What a CUDA graph does: nothing between the operations is run again, so a number that the host has read, a branch that
it has taken, a tensor that it has made anew are frozen as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

HOST = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::equal")
"""Operations whose result the host waits for."""


class Tape(TorchDispatchMode):
    """Records while it is entered; `replay` does it again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.read: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.name in HOST:
            self.read.append(func._schema.name)
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Every operation again, in order; what was made on the tape is made anew, all else is where it was."""
        made: dict[int, Tensor] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value) if isinstance(value, Tensor) else value

        for func, args, kwargs, out in self.calls:
            got = func(*tree_map(now, args), **tree_map(now, kwargs))
            for then, here in zip(tree_flatten(out)[0], tree_flatten(got)[0], strict=True):
                if isinstance(then, Tensor) and then is not here:
                    made[id(then)] = here


def record(step: Callable[[], None]) -> Tape:
    """The tape of one call."""
    with Tape() as tape:
        step()
    return tape
