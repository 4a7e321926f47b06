"""Saves in the background: training waits for a copy of its tensors, and not for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import torch
from torch import Tensor

Work = Callable[[dict[str, Tensor]], None]


class AsyncSaver:
    """Copies tensors at once and gives the copies to a thread; one save is under way at a time."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Memory for copies of these is made now, so that the first save is as short as the others."""
        self._copies = {name: _twin(t) for name, t in tensors.items()}
        self._idle = threading.Event()
        self._idle.set()
        self._fault: BaseException | None = None

    def save(self, tensors: Mapping[str, Tensor], work: Work) -> None:
        """Copy, and let `work` have the copies (on the CPU) in a thread; raises what the save before it raised."""
        self.join()
        done = self._copy(tensors)

        def act() -> None:
            try:
                if done is not None:
                    done.synchronize()
                work(self._copies)
            except BaseException as error:  # raised again by join, in the thread that trains
                self._fault = error
            finally:
                self._idle.set()

        self._idle.clear()
        try:
            threading.Thread(target=act, name="checkpoint").start()
        except BaseException:
            self._idle.set()  # or join would wait for a thread that there is not
            raise

    def join(self) -> None:
        """Wait for the save under way; raises what it raised, once."""
        # Not Thread.join: a Ctrl-C in it makes Python take the thread for ended.
        self._idle.wait()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def settle(self) -> None:
        """Wait for the save under way, whatever it raises, and for all of it: a Ctrl-C does not cut the wait short."""
        while not self._idle.is_set():
            with suppress(KeyboardInterrupt):
                self._idle.wait()
        self._fault = None

    @torch.no_grad()
    def _copy(self, tensors: Mapping[str, Tensor]) -> torch.cuda.Event | None:
        copies: dict[str, Tensor] = {}
        for name, live in tensors.items():
            twin = self._copies.get(name)
            if twin is None or twin.shape != live.shape or twin.dtype != live.dtype:
                twin = _twin(live)
            # From a GPU this only queues the copy; the step after it is queued behind.
            copies[name] = twin.copy_(live.detach(), non_blocking=True)
        self._copies = copies
        if not any(t.is_cuda for t in tensors.values()):
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event


def _twin(t: Tensor) -> Tensor:
    """Memory on the CPU in the order of the tensor's own, so that a copy is one stretch of bytes; pinned for a GPU."""
    twin = torch.empty_like(t, device="cpu", pin_memory=t.is_cuda, requires_grad=False)
    return twin if t.is_cuda else twin.zero_()  # zeroed: the pages are there before the first copy
