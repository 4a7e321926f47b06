"""Trains several runs in one process, one step of each in turn, which uses a GPU better than one small run.

Each run has its own random generators, CUDA stream and CUDA graph, so that its results are the same as alone. The data
set is on the device once. If a run fails, the others continue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path

import torch

from mmctl.errors import MmctlError, os_error
from mmctl.runs.build import Shared
from mmctl.runs.execute import attempt
from mmctl.runs.recorder import Outcome
from mmctl.training.loop import Event
from mmctl.training.state import Training

Watch = Callable[[Path, Event, Training], None]


def execute_pack(folders: Sequence[Path], stop: Callable[[], bool], watch: Watch) -> dict[Path, Outcome | MmctlError]:
    """Train the runs in these folders until their ends or until stop() is true; returns each run's outcome or error."""
    shared: Shared = {}
    active = {folder: attempt(folder, stop, partial(watch, folder), shared=shared) for folder in folders}
    streams = {folder: _stream() for folder in folders}
    ended: dict[Path, Outcome | MmctlError] = {}
    while active:
        for folder, steps in list(active.items()):
            try:
                with streams[folder]():
                    next(steps)
            except StopIteration as end:
                ended[folder] = end.value
            except MmctlError as error:
                ended[folder] = error
            except OSError as error:
                ended[folder] = os_error(error, folder)
            except Exception as error:  # before the first step; later errors are handled by RunRecorder
                ended[folder] = MmctlError(f"a bug in mmctl: {type(error).__name__}: {error}")
            except KeyboardInterrupt:
                # The current run has logged its end; let the others do so too.
                for other in active.values():
                    with suppress(KeyboardInterrupt, StopIteration, MmctlError):
                        other.throw(KeyboardInterrupt())
                raise
            if folder in ended:
                del active[folder]
    return ended


def _stream() -> Callable[[], AbstractContextManager[object]]:
    if not torch.cuda.is_available():
        return nullcontext
    return partial(torch.cuda.stream, torch.cuda.Stream())  # type: ignore[no-untyped-call]
