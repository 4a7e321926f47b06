"""The job array that trains runs: its script, which submitit writes and submits.

Its pickled functions are not used: a job is `mmctl exec FOLDER` and nothing else. So its exit code is the run's, and no
job waits for a file of a submission that was cut off.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mmctl.launchers._slurm_tools import ask, comment
from mmctl.plugin import PluginError

OWN = {
    "array": "launcher.parallel limits the runs at a time",
    "time": "set launcher.minutes",
    "signal": "set launcher.signal_seconds",
    "chdir": "jobs run in the folder of the command",
    **{name: f"set launcher.{name}" for name in ("account", "constraint", "exclude", "mem", "partition", "qos")},
    **dict.fromkeys(
        ("cpus-per-task", "gpus", "gpus-per-node", "gpus-per-task", "nodes", "ntasks", "ntasks-per-node"),
        "set launcher.gpus and launcher.cpus",
    ),
    **dict.fromkeys(("comment", "job-name", "requeue", "no-requeue"), "mmctl finds and queues its jobs by it"),
    **dict.fromkeys(("output", "error", "open-mode"), "a job writes to log.txt in the folder of its run"),
    **dict.fromkeys(
        ("export", "export-file", "get-user-env", "wrap", "parsable", "test-only"),
        "it would change what a job runs or how it answers",
    ),
}
"""Options of sbatch that [launcher.extra] may not set, and why."""
SETUP = "MMCTL_SLURM_SETUP"
"""Environment variable: a shell file that jobs read first. No key of a recipe: recipes never hold code."""


class Job(NamedTuple):
    """What all jobs of a launcher ask for."""

    options: Mapping[str, str | int | None]  # of submitit; None = as the site has it
    extra: Mapping[str, str | int | bool]  # of sbatch
    parallel: int  # jobs of an array at a time


def submit(job: Job, folders: Sequence[Path], name: str) -> str:
    """Submit runs as one array; returns its id. PluginError if Slurm or submitit is not there, or refuses it."""
    ask("sbatch", "--version")
    try:
        from submitit import SlurmExecutor
    except ImportError:
        raise PluginError("launcher slurm: needs submitit. Install it with: pip install 'mmctl[slurm]'") from None
    setup, command = _setup(folders), _command()
    with tempfile.TemporaryDirectory() as scratch:
        executor = SlurmExecutor(scratch)
        executor.update_parameters(
            job_name=name, comment=comment(len(folders)), array_parallelism=job.parallel, setup=setup, use_srun=False,
            wckey=None, **{key: value for key, value in job.options.items() if value is not None},
            additional_parameters={"output": "/dev/null", "error": "/dev/null", "requeue": True, **job.extra},
        )  # fmt: skip
        executor.parameters["map_count"] = len(folders)
        try:
            with _outside_of_jobs():
                return str(executor._submit_command(command).job_id)
        except Exception as error:  # submitit has errors of several kinds
            said = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
            raise PluginError(f"launcher slurm: sbatch refused the jobs: {said[-1].strip()}") from error


def _setup(folders: Sequence[Path]) -> list[str]:
    """The lines before the command: the folder of this job's run, and its log, to which all output goes."""
    lines = ["runs=(", *(shlex.quote(str(folder)) for folder in folders), ")"]
    lines += ["run=${runs[$SLURM_ARRAY_TASK_ID]}", 'exec >>"$run/log.txt" 2>&1', "export MMCTL_ENGINE=slurm"]
    if given := os.environ.get(SETUP):
        path = Path(given).absolute()
        if not path.is_file():
            raise PluginError(f"{SETUP}={given}: there is no such file. Correct the variable, or unset it.")
        lines.append(f". {shlex.quote(str(path))}")
    return lines


def _command() -> str:
    # With srun, the signals of Slurm reach the run; when one process of several ends badly, the others end too.
    srun = "exec srun --unbuffered --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK}"
    return f'{srun} {shlex.quote(sys.executable)} -m mmctl exec "$run"'


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the job in which this command runs, if any: another one would inherit its settings.

    What says where the cluster is, and a user's own defaults for sbatch, stay.
    """
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    from submitit.helpers import clean_env

    kept = {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or key.startswith("SBATCH_")}
    with clean_env():
        os.environ.update(kept)
        yield
