"""What the engines said last of their jobs: kept for some seconds, so that many commands ask once, and for `ls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mmctl.filesystem import write_atomic
from mmctl.plugin import JobState
from mmctl.run_folder import lease, queue
from mmctl.text import to_json

FRESH = 15_000
"""Milliseconds for which an answer counts."""


def recent(runs: Path, ids: Sequence[str]) -> bool:
    """Whether the engines were asked a few seconds ago for all of these jobs."""
    kept = queue.read_said(runs)
    return 0 <= lease.now() - kept.t < FRESH and set(ids) <= kept.states.keys()


def keep(runs: Path, states: Mapping[str, JobState]) -> None:
    """Keep an answer beside those of other engines."""
    known = {job: list(said) for job, said in queue.read_said(runs).states.items()}
    known |= {job: [said.word, said.reason] for job, said in states.items()}
    with suppress(OSError):
        write_atomic(queue.said_file(runs), to_json({"t": lease.now(), "states": known}).encode(), sync=False)
