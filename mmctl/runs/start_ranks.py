"""Starts the processes ("ranks") of one run on this machine, as torchrun does, and waits for their ends.

Rank 0 writes to this terminal. What the others print is kept aside, and shown of one that fails. If one ends by
itself, the others wait for it in vain, so they are ended too.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

from mmctl.cores import available_cores
from mmctl.errors import Stopped, TrainingFailed
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.record import last_state
from mmctl.runs.progress import tell
from mmctl.runs.signals import StopSignal

PAUSE = 0.05
GRACE = 20.0
"""Seconds that the other ranks have to notice by themselves that one has ended, and to say so in the journal."""
ENDED_WELL = (0, Stopped.exit_code)


class Rank(NamedTuple):
    """One process of the run, and what it prints; None = to this terminal."""

    number: int
    popen: subprocess.Popen[bytes]
    output: IO[bytes] | None


def train_on_ranks(folder: Path, count: int, options: Sequence[str], stop: StopSignal) -> int:
    """Train the run in this folder in so many processes of this machine; returns the exit code of rank 0.

    options: those of `mmctl exec`. Rank 0 has told how the run ended, unless it was killed: then TrainingFailed is
    raised here, or Stopped if the run was to stop before it had begun.
    """
    stop.doing = ""  # rank 0 says it
    with ExitStack() as files:
        outputs = [None, *(files.enter_context(tempfile.TemporaryFile()) for _ in range(count - 1))]
        environment = _environment(count)
        ranks = [_start(folder, n, output, environment, options) for n, output in enumerate(outputs)]
        try:
            first = _wait(ranks, stop)
        except KeyboardInterrupt:
            _signal(ranks[:1], signal.SIGINT)  # when it ends, so do the others
            first = _wait(ranks, stop, hurry=True)
        finally:
            _signal(ranks, signal.SIGKILL)
        code = ranks[0].popen.wait()
        if first is not None and (first.number or code < 0):
            tell(f"mmctl: process {first.number} of {count} {_how(first)}")
        if code >= 0:
            return code
        if stop() and last_state(folder) is None:
            reason = "stopped before its first step"
            journal.append(folder, State(state="interrupted", reason=reason, code=Stopped.exit_code, step=0))
            raise Stopped(f"{reason}. Continue with:  mmctl resume {folder.name} --gpus {count}")
        raise TrainingFailed(
            f"{folder.name}: the process that writes the run was ended. "
            f"`mmctl resume {folder.name} --gpus {count}` continues from the newest checkpoint."
        )


def _environment(count: int) -> dict[str, str]:
    """What torch.distributed reads, as torchrun sets it; all traffic stays on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    own = {"OMP_NUM_THREADS": str(max(1, available_cores() // count))}
    if sys.platform == "linux":
        own["GLOO_SOCKET_IFNAME"] = "lo"
    return {**own, **os.environ, **found}


def _start(
    folder: Path, number: int, output: IO[bytes] | None, environment: dict[str, str], options: Sequence[str]
) -> Rank:
    popen = subprocess.Popen(
        [sys.executable, "-m", "mmctl", "exec", str(folder), *options],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        env={**environment, "RANK": str(number), "LOCAL_RANK": str(number)},
        start_new_session=True,  # Ctrl-C reaches only this process, which tells rank 0
    )
    return Rank(number, popen, output)


def _wait(ranks: Sequence[Rank], stop: StopSignal, hurry: bool = False) -> Rank | None:
    """Wait until all ranks have ended, or must have; returns the one that failed first."""
    failed: Rank | None = None
    told, until = hurry, time.monotonic() + GRACE
    while any(rank.popen.poll() is None for rank in ranks):
        if failed is None:
            failed = _failure(ranks)
            until = until if hurry or failed is None else time.monotonic() + GRACE
        if (failed or hurry) and time.monotonic() > until:
            break
        if stop() and not told:
            told = True
            _signal(ranks[:1], signal.SIGTERM)  # it tells the others
        time.sleep(PAUSE)
    return failed or _failure(ranks)


def _failure(ranks: Sequence[Rank]) -> Rank | None:
    """A rank that has failed: one that was killed before the others, which fail because of it."""
    failed = [rank for rank in ranks if rank.popen.poll() not in (None, *ENDED_WELL)]
    return min(failed, key=lambda rank: (rank.popen.returncode >= 0, rank.number), default=None)


def _signal(ranks: Sequence[Rank], number: signal.Signals) -> None:
    for rank in ranks:
        if rank.popen.poll() is None:
            rank.popen.send_signal(number)


def _how(rank: Rank) -> str:
    """How a rank failed, and the last line that it printed."""
    code, said = rank.popen.returncode, ""
    if rank.output is not None:
        rank.output.seek(max(0, rank.output.seek(0, os.SEEK_END) - 4096))
        lines = rank.output.read().decode("utf-8", "replace").split("\n")
        said = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}{said}"
    return f"ended with exit code {code}{said}"
