"""What the engines said last of their jobs: kept for some seconds, so that many commands ask once, and for `ls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mmctl.filesystem import write_atomic
from mmctl.plugin import JobState
from mmctl.run_folder import lease, queue
from mmctl.runs.launcher import GOING
from mmctl.text import to_json

FRESH = 15_000
"""Milliseconds for which an answer counts."""


def recent(runs: Path, ids: Sequence[str]) -> bool:
    """Whether the engines were asked a few seconds ago for all of these jobs."""
    kept = queue.read_said(runs)
    return 0 <= lease.now() - kept.t < FRESH and set(ids) <= kept.states.keys()


def keep(runs: Path, states: Mapping[str, JobState]) -> None:
    """Keep an answer beside those of other engines; nobody asks again for a job that is over."""
    known = {**queue.read_said(runs).states, **states}
    going = {job: list(said) for job, said in known.items() if said[0] in GOING}
    with suppress(OSError):
        write_atomic(queue.said_file(runs), to_json({"t": lease.now(), "states": going}).encode(), sync=False)
