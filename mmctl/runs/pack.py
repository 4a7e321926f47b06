"""Several runs in one process, a step of each in turn: on a GPU they fill what one alone leaves idle.

Each run has its own generators, its own CUDA stream and its own graph, so that it computes what it computes alone; the
data set is on the device once. What ends one of them, short of the process itself, leaves the others be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path

import torch

from mmctl.errors import MmctlError
from mmctl.runs.build import Shared
from mmctl.runs.execute import attempt
from mmctl.runs.recorder import Outcome
from mmctl.training.loop import Event
from mmctl.training.state import Training

Watch = Callable[[Path, Event, Training], None]


def execute_pack(folders: Sequence[Path], stop: Callable[[], bool], watch: Watch) -> dict[Path, Outcome | MmctlError]:
    """Train the runs in these folders to their ends, or until `stop`; how each ended, or what ended it."""
    shared: Shared = {}
    going = {folder: attempt(folder, stop, partial(watch, folder), shared=shared) for folder in folders}
    streams = {folder: _stream() for folder in folders}
    ended: dict[Path, Outcome | MmctlError] = {}
    while going:
        for folder, steps in list(going.items()):
            try:
                with streams[folder]():
                    next(steps)
            except StopIteration as end:
                ended[folder] = end.value
            except MmctlError as error:
                ended[folder] = error
            except Exception as error:  # before its first step: the loop itself tells what it meets
                ended[folder] = MmctlError(f"a bug in mmctl: {type(error).__name__}: {error}")
            except KeyboardInterrupt:
                # Each is to write its own end down; this one has.
                for other in going.values():
                    with suppress(KeyboardInterrupt, StopIteration, MmctlError):
                        other.throw(KeyboardInterrupt())
                raise
            if folder in ended:
                del going[folder]
    return ended


def _stream() -> Callable[[], AbstractContextManager[object]]:
    if not torch.cuda.is_available():
        return nullcontext
    return partial(torch.cuda.stream, torch.cuda.Stream())  # type: ignore[no-untyped-call]
