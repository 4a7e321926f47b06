"""Saves checkpoints in a background thread: training waits only until its tensors are copied, not for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import torch
from torch import Tensor

Work = Callable[[dict[str, Tensor]], None]


class AsyncSaver:
    """Copies tensors immediately and gives the copies to a thread; only one save runs at a time."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Memory for the copies is allocated now, so that the first save is as fast as the others."""
        self._copies = {name: _empty_copy(t) for name, t in tensors.items()}
        self._idle = threading.Event()
        self._idle.set()
        self._error: BaseException | None = None

    def save(self, tensors: Mapping[str, Tensor], work: Work) -> None:
        """Copy the tensors to the CPU and call `work(copies)` in a thread; raises the error of the previous save."""
        self.join()
        copied = self._copy(tensors)

        def run() -> None:
            try:
                if copied is not None:
                    copied.synchronize()
                work(self._copies)
            except BaseException as error:  # raised again by join, in the training thread
                self._error = error
            finally:
                self._idle.set()

        self._idle.clear()
        try:
            threading.Thread(target=run, name="checkpoint").start()
        except BaseException:
            self._idle.set()  # otherwise join would wait for a thread that does not exist
            raise

    def join(self) -> None:
        """Wait until the running save has ended; raises its error, once."""
        # Not Thread.join: after a Ctrl-C in it, Python believes that the thread has ended.
        self._idle.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def settle(self) -> None:
        """Wait until the running save has ended, and ignore its error; a Ctrl-C does not end the wait."""
        while not self._idle.is_set():
            with suppress(KeyboardInterrupt):
                self._idle.wait()
        self._error = None

    @torch.no_grad()
    def _copy(self, tensors: Mapping[str, Tensor]) -> torch.cuda.Event | None:
        copies: dict[str, Tensor] = {}
        for name, live in tensors.items():
            copy = self._copies.get(name)
            if copy is None or copy.shape != live.shape or copy.dtype != live.dtype:
                copy = _empty_copy(live)
            # From a GPU this only queues the copy; the next training step is queued after it.
            copies[name] = copy.copy_(live.detach(), non_blocking=True)
        self._copies = copies
        if not any(t.is_cuda for t in tensors.values()):
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event


def _empty_copy(t: Tensor) -> Tensor:
    """CPU memory with the layout of the tensor, so that a copy is one block of bytes; pinned for a GPU."""
    copy = torch.empty_like(t, device="cpu", pin_memory=t.is_cuda, requires_grad=False)
    return copy if t.is_cuda else copy.zero_()  # writing zeros makes the system allocate the memory now
