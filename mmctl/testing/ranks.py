"""Several processes in one: threads that take the part of ranks, so that a contract can compare them with one process.

Only collective operations of mmctl.ops are answered; a component that uses torch.distributed itself is not covered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmctl import ops


class _World:
    """The part of torch.distributed that mmctl.ops uses."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.local = size, threading.Barrier(size, timeout=60), threading.local()
        self.given: list[Any] = [None] * size

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return hasattr(self.local, "rank")

    def get_rank(self) -> int:
        return int(self.local.rank)

    def get_world_size(self) -> int:
        return self.size

    def _exchange(self, t: Tensor) -> list[Tensor]:
        self.given[self.local.rank] = t.detach().clone()
        self.barrier.wait()
        everything = list(self.given)
        self.barrier.wait()
        return everything

    def all_reduce(self, t: Tensor) -> None:
        t.copy_(torch.stack(self._exchange(t)).sum(0).to(t.dtype))

    def all_gather(self, parts: list[Tensor], t: Tensor) -> None:
        for part, one in zip(parts, self._exchange(t), strict=True):
            part.copy_(one)


def on_ranks(size: int, work: Callable[[Callable[[Tensor], Tensor]], Any]) -> list[Any]:
    """What `work` gives on each of `size` ranks; it is called with a function that deals out the rows of a rank."""
    world, results, errors = _World(size), [None] * size, list[BaseException]()

    def run(rank: int) -> None:
        world.local.rank = rank
        try:
            results[rank] = work(lambda t: ops.local_rows(t).contiguous())
        except BaseException as error:
            errors.append(error)
            world.barrier.abort()

    kept, ops.dist = ops.dist, world  # type: ignore[assignment, attr-defined]
    try:
        # Backward functions run in the thread that called backward, so a rank stays the same there.
        threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        ops.dist = kept  # type: ignore[attr-defined]
    real = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
    if errors:
        raise (real or errors)[0]
    return results
