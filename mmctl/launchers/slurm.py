"""The launcher for Slurm clusters: job arrays that save, queue again and continue when the cluster needs the machine.

What is asked of Slurm is in _slurm_tools.py, what its answers mean in _slurm_states.py, the job in _slurm_job.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mmctl.launchers._slurm_job import OWN, Job, submit
from mmctl.launchers._slurm_states import meaning
from mmctl.launchers._slurm_tools import array_of, array_size, ask, jobs
from mmctl.plugin import JobState, Limits, PluginError, launcher

CHUNK = 1000
"""Most runs in one array: a script with more paths only gets harder to read."""
START_UP = 120
"""Seconds that a run needs at least before it is asked to save, of which a cold disk takes most."""


def _like(pattern: str, words: str) -> AfterValidator:
    """Texts of this pattern; pydantic's own message would show the pattern."""

    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(checked)


Word = Annotated[str, _like(r"[^\s'\"`$\\]{1,1000}", "one word without quotes, $ and \\")]
"""An option of a script: without anything that a shell could take for more."""
Memory = Annotated[str, _like(r"[1-9][0-9]*[KMGT]?", "a number of MB, or one with K, M, G or T, such as 16G")]
Option = Annotated[str, _like(r"[a-z][a-z-]*", "the long name of an option of sbatch, such as licenses")]


@launcher("slurm")
class Slurm:
    """Hands runs to the queue of a Slurm cluster, as job arrays; needs `pip install 'mmctl[slurm]'`.

    Before its time limit, and where the site asks for it before a more urgent job takes the machine, a run saves a
    checkpoint and waits in the queue again. docs/slurm.md says more. A job reads the shell file that MMCTL_SLURM_SETUP
    names before it starts the run.

    Args:
        partition: Partition. By default, that of the site.
        account: Account that pays.
        qos: Quality of service.
        constraint: Features that the nodes must have, such as "a100".
        exclude: Nodes that are not used, such as "n3,n[5-7]".
        minutes: Time limit of a job. A run that needs longer goes on in further jobs.
        gpus: GPUs of a run, each with a process of its own.
        cpus: CPU cores of each process. By default, as many as the site gives.
        mem: Main memory of a run on each node, such as "16G". By default, as much as the site gives.
        parallel: Most runs of one submission at a time.
        most_queued: Most jobs that the site lets you have in its queue (MaxSubmitJobs); the other runs wait here, and
            later commands of mmctl hand them over. By default, all runs are handed over at once.
        signal_seconds: Seconds before the time limit at which a run is asked to save: more than its longest step and
            the saving take together.
        extra: Further options of sbatch, such as {licenses = "matlab:1"}.
    """

    lasting = True

    def __init__(
        self,
        *,
        partition: Word | None = None,
        account: Word | None = None,
        qos: Word | None = None,
        constraint: Word | None = None,
        exclude: Word | None = None,
        minutes: Annotated[int, Field(ge=4, le=10**6)] = 240,
        gpus: Annotated[int, Field(ge=0, le=64)] = 0,
        cpus: Annotated[int, Field(ge=1, le=1024)] | None = None,
        mem: Memory | None = None,
        parallel: Annotated[int, Field(ge=1, le=10**6)] | None = None,
        most_queued: Annotated[int, Field(ge=1, le=10**6)] | None = None,
        signal_seconds: Annotated[int, Field(ge=30, le=60000)] = 120,
        extra: dict[Option, Word | int | bool] = {},  # noqa: B006  unchanged
    ) -> None:
        for name in extra:
            if name in OWN:
                raise PluginError(f"launcher.extra.{name}: cannot be set; {OWN[name]}.")
        if 60 * minutes < signal_seconds + START_UP:
            raise PluginError(
                f"launcher.minutes = {minutes}: a run would be asked to save {signal_seconds} s before that, less than "
                f"{START_UP} s after its start. Set minutes to at least {-(-(signal_seconds + START_UP) // 60)}, or "
                "lower launcher.signal_seconds."
            )
        self.parallel, self.most_queued = parallel, most_queued
        self.job = Job(
            options={
                "partition": partition, "account": account, "qos": qos, "constraint": constraint, "exclude": exclude,
                "mem": mem, "cpus_per_task": cpus, "gpus_per_node": gpus or None, "ntasks_per_node": max(1, gpus),
                "time": minutes, "signal_delay_s": signal_seconds,
            },
            extra=extra,
            parallel=parallel or CHUNK,
        )  # fmt: skip

    def start(self, run_dirs: list[Path], name: str) -> list[str]:
        """Submit the runs as one job array of this name; the id of a run is the array's with its index."""
        array = submit(self.job, [folder.resolve() for folder in run_dirs], name)
        return [f"{array}_{index}" for index in range(len(run_dirs))]

    def find(self, name: str) -> list[str]:
        """The ids of the array of this name, whether they wait, run or have ended; [] if Slurm knows none."""
        return array_of(name)

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """What Slurm says of each job, in one question; the jobs that it has forgotten are gone."""
        known = {job.id: job for job in jobs()}
        return {one: meaning(known[one]) if one in known else JobState("gone") for one in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Remove waiting jobs, and send TERM to running ones: they save a checkpoint and do not come back."""
        if real := [one for one in ids if re.fullmatch(r"\d+_\d+", one)]:
            ask("scancel", *real, fine=("Invalid job id", "already completing or completed"))

    def limits(self) -> Limits:
        """The size of an array is the site's; how many jobs are still welcome, `most_queued` says."""
        chunk = max(1, min(array_size() - 1, CHUNK))
        free = None if self.most_queued is None else max(0, self.most_queued - len(jobs(ended=False)))
        return Limits(self.parallel or 10**6, chunk, free)
