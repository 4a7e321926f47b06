"""The Slurm launcher with pretended programs: what it asks of them, and what their answers mean."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmctl.errors import PluginError
from mmctl.launchers._slurm_states import meaning
from mmctl.launchers._slurm_tools import SlurmJob
from mmctl.launchers.slurm import Slurm
from mmctl.plugin import JobState, Limits
from mmctl.registry.parameters import shape

FAKE = """#!/bin/sh
# Notes how it was asked, and answers with a file, if there is one.
me=$(basename "$0") here={here}
echo "$@" >> $here/$me.asked
[ "$me" = sbatch ] && [ "$1" != --version ] && cp "$1" $here/script && env > $here/env
[ -e $here/$me.out ] && cat $here/$me.out
[ -e $here/$me.err ] && cat $here/$me.err >&2 && exit 1
exit 0
"""
Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Programs of Slurm that answer with a given text, or fail with one."""
    here = tmp_path / "bin"
    here.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
        (here / name).write_text(FAKE.format(here=here))
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=os.pathsep)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def say(program: str, out: str = "", error: str = "") -> None:
        (here / f"{program}.out").write_text(out)
        if error:
            (here / f"{program}.err").write_text(error)

    say("sbatch", "Submitted batch job 77\n")
    return say


def asked(tmp_path: Path, program: str) -> list[str]:
    """How a program was asked."""
    path = tmp_path / "bin" / f"{program}.asked"
    return path.read_text().splitlines() if path.exists() else []


def runs(tmp_path: Path, *names: str) -> list[Path]:
    folders = [tmp_path / "runs" / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def options(tmp_path: Path) -> set[str]:
    """The options in the script of the last submission."""
    lines = (tmp_path / "bin" / "script").read_text().splitlines()
    return {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}


@pytest.mark.usefixtures("says")
def test_an_array_gets_one_id_for_each_run(tmp_path: Path) -> None:
    folders = runs(tmp_path, "a", "b")
    assert Slurm(parallel=7, signal_seconds=200).start(folders, "mmctl-1a") == ["77_0", "77_1"]
    assert options(tmp_path) == {
        "--array=0-1%2", "--comment='2 runs of mmctl'", "--error=/dev/null", "--job-name=mmctl-1a", "--nodes=1",
        "--ntasks-per-node=1", "--open-mode=append", "--output=/dev/null", "--requeue", "--signal=USR2@200",
        "--time=240",
    }  # fmt: skip
    assert len(asked(tmp_path, "sbatch")) == 2, "--version, and one submission"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"partition": "gpu", "account": "a-1", "qos": "low"}, {"--partition=gpu", "--account=a-1", "--qos=low"}),
        ({"gpus": 2, "cpus": 6}, {"--gpus-per-node=2", "--ntasks-per-node=2", "--cpus-per-task=6"}),
        ({"mem": "16G", "minutes": 30}, {"--mem=16G", "--time=30"}),
        ({"exclude": "n[1-3]", "constraint": "a100"}, {"--exclude='n[1-3]'", "--constraint=a100"}),
        ({"extra": {"licenses": "m:1", "exclusive": True, "nice": 5}}, {"--licenses=m:1", "--exclusive", "--nice=5"}),
        ({"parallel": 1}, {"--array=0-1%1"}),
    ],
)
@pytest.mark.usefixtures("says")
def test_a_parameter_is_an_option_of_sbatch(given: dict[str, Any], wanted: set[str], tmp_path: Path) -> None:
    Slurm(**given).start(runs(tmp_path, "a", "b"), "mmctl-1a")
    assert wanted <= options(tmp_path)


@pytest.mark.usefixtures("says")
def test_a_job_trains_its_run_and_logs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.sh").write_text("export SITE=loaded\necho setup\n")
    monkeypatch.setenv("MMCTL_SLURM_SETUP", "site.sh")
    monkeypatch.chdir(tmp_path)
    folders = runs(tmp_path, "a", "b 'c' $d")
    (folders[1] / "log.txt").write_text("before\n")
    Slurm().start(folders, "mmctl-1a")
    srun = tmp_path / "bin" / "srun"
    srun.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done; echo "$SITE $MMCTL_ENGINE" >&2; exit 75\n')
    env = {**os.environ, "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "3"}
    assert subprocess.run(["bash", tmp_path / "bin" / "script"], env=env, cwd="/").returncode == 75
    words = [
        "--unbuffered",
        "--kill-on-bad-exit=1",
        "--cpus-per-task=3",
        sys.executable,
        "-m",
        "mmctl",
        "exec",
        str(folders[1]),
    ]
    lines = ["before", "setup", *(f"<{word}>" for word in words), "loaded slurm"]
    assert (folders[1] / "log.txt").read_text().splitlines() == lines


@pytest.mark.usefixtures("says")
def test_from_inside_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_CONF", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "5")
    before = dict(os.environ)
    Slurm().start(runs(tmp_path, "a"), "mmctl-1a")
    seen = {line.partition("=")[0] for line in (tmp_path / "bin" / "env").read_text().splitlines()}
    assert {name for name in seen if name.startswith(("SLURM_", "SBATCH_"))} == {"SLURM_CONF", "SBATCH_ACCOUNT"}
    assert dict(os.environ) == before


def test_what_is_refused(tmp_path: Path, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match=r"launcher\.extra\.signal: cannot be set; set launcher\.signal_seconds\."):
        Slurm(extra={"signal": "USR1@5"})
    with pytest.raises(PluginError, match=r"minutes = 5: .* 200 s before that, .* Set minutes to at least 6, or"):
        Slurm(minutes=5, signal_seconds=200)
    Slurm(minutes=4, signal_seconds=120)
    folders = runs(tmp_path, "a")
    monkeypatch.setenv("MMCTL_SLURM_SETUP", "nowhere.sh")
    with pytest.raises(PluginError, match=r"MMCTL_SLURM_SETUP=nowhere\.sh: there is no such file"):
        Slurm().start(folders, "mmctl-1a")
    monkeypatch.delenv("MMCTL_SLURM_SETUP")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(PluginError, match=r"needs submitit\. Install it with: pip install 'mmctl\[slurm\]'"):
            Slurm().start(folders, "mmctl-1a")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(PluginError, match=r"there is no sbatch on this machine\. Run this command on a login node"):
            Slurm().start(folders, "mmctl-1a")
        with pytest.raises(PluginError, match="there is no scontrol on this machine"):
            Slurm().limits()
    (tmp_path / "bin" / "sbatch").write_text(
        '#!/bin/sh\n[ "$1" = --version ] || { echo "sbatch: error: invalid partition specified: x" >&2; exit 1; }\n'
    )
    with pytest.raises(PluginError, match="sbatch refused the jobs: sbatch: error: invalid partition specified: x"):
        Slurm().start(folders, "mmctl-1a")


@pytest.mark.parametrize("value", ["a b", "a\n#SBATCH --output=x", "$(touch x)", "`id`", "a'b", ""])
def test_an_option_is_one_word(value: str) -> None:
    model = shape(Slurm, "launcher").model
    model.model_validate({"partition": "n[1-3],a&b"})
    for table in ({"partition": value}, {"mem": value}, {"extra": {"licenses": value}}, {"extra": {value: "x"}}):
        with pytest.raises(ValueError, match="must be"):
            model.model_validate(table)


def line(id: str, state: str, reason: str = "None", code: int = 0) -> str:
    """A line of squeue."""
    return f"{id:60}{state:20}{reason:120}{code:<12}\n"


def test_one_question_for_all_states(tmp_path: Path, says: Says) -> None:
    says("squeue", line("8", "RUNNING") + line("9_1", "PENDING", "Priority") + line("9_0", "FAILED", "x", 256 * 3))
    ids = ["9_0", "9_1", "7_0"]
    wanted = [JobState("failed", "exit code 3"), JobState("queued", "Priority"), JobState("gone")]
    assert Slurm().states(ids) == dict(zip(ids, wanted, strict=True))
    (question,) = asked(tmp_path, "squeue")
    assert question.startswith(f"-h -r -t all -u {os.getuid()} -O JobArrayID:60,State:20,")
    says("squeue", error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(PluginError, match=r"squeue failed: slurm_load_jobs error: Unable to contact slurm controller"):
        Slurm().states(ids)


@pytest.mark.parametrize(
    ("state", "reason", "code", "word", "said"),
    [
        ("PENDING", "None", 0, "queued", ""),
        ("PENDING", "BeginTime", 0, "queued", "BeginTime"),
        ("PENDING", "JobHeldUser", 0, "held", "scontrol release 5_1"),
        ("PENDING", "launch failed requeued held", 0, "held", "scontrol release 5_1"),
        ("PENDING", "InvalidQOS", 0, "held", "scontrol update JobId=5_1 QOS=NAME"),
        ("PENDING", "BadConstraints", 0, "held", "scancel 5_1"),
        ("SPECIAL_EXIT", "None", 0, "held", "scontrol release 5_1"),
        ("CONFIGURING", "None", 0, "queued", ""),
        ("RUNNING", "None", 0, "running", ""),
        ("COMPLETING", "None", 0, "running", ""),
        ("SUSPENDED", "None", 0, "running", "suspended"),
        ("COMPLETED", "None", 0, "completed", ""),
        ("FAILED", "NonZeroExitCode", 2 * 256, "failed", "exit code 2"),
        ("FAILED", "NonZeroExitCode", 75 * 256, "interrupted", "exit code 75"),
        ("FAILED", "NonZeroExitCode", 143 * 256, "interrupted", "exit code 143"),
        ("FAILED", "NonZeroExitCode", 9, "failed", "killed by signal 9"),
        ("FAILED", "NonZeroExitCode", 137 * 256, "failed", "killed by signal 9"),
        ("FAILED", "JobLaunchFailure", 0, "failed", "JobLaunchFailure"),
        ("CANCELLED", "None", 15, "interrupted", "cancelled"),
        ("TIMEOUT", "TimeLimit", 15, "interrupted", "time limit reached"),
        ("PREEMPTED", "None", 0, "interrupted", "preempted"),
        ("NODE_FAIL", "NodeDown", 0, "interrupted", "the node failed"),
        ("OUT_OF_MEMORY", "OutOfMemory", 0, "failed", "out of memory: raise launcher.mem"),
        ("BOOT_FAIL", "None", 0, "failed", "the node did not start"),
        ("SOMETHING_NEW", "Why", 0, "failed", "Why"),
    ],
)
def test_what_a_state_means(state: str, reason: str, code: int, word: str, said: str) -> None:
    found = meaning(SlurmJob("5_1", state, reason, code))
    assert found.word == word
    assert said in found.reason if word == "held" else found.reason == said


def test_an_array_is_found_by_its_name_when_some_of_it_is_forgotten(tmp_path: Path, says: Says) -> None:
    says("squeue", "88 3 runs of mmctl\n")
    assert Slurm().find("mmctl-1a") == ["88_0", "88_1", "88_2"]
    assert asked(tmp_path, "squeue") == [f"-h -r -t all -u {os.getuid()} -n mmctl-1a -o %F %k"]
    says("squeue", "88 1 run of mmctl\n")
    assert Slurm().find("mmctl-1a") == ["88_0"]
    says("squeue", "88 (null)\n")
    assert Slurm().find("mmctl-1a") == []


def test_cancel(tmp_path: Path, says: Says) -> None:
    Slurm().cancel([])
    Slurm().cancel(["no-such-job"])
    assert asked(tmp_path, "scancel") == []
    says("scancel", error="scancel: error: Kill job error on job id 9_1: Invalid job id specified\n")
    Slurm().cancel(["9_0", "9_1", "--all"])
    assert asked(tmp_path, "scancel") == ["9_0 9_1"]
    says("scancel", error="scancel: error: Kill job error on job id 9_1: Access/permission denied\n")
    with pytest.raises(PluginError, match=r"scancel failed: Kill job error on job id 9_1: Access/permission denied"):
        Slurm().cancel(["9_1"])


def test_limits(says: Says) -> None:
    says("scontrol", "Configuration data as of now\nMaxArraySize            = 1001\nMaxJobCount = 10000\n")
    assert Slurm().limits() == Limits(10**6, 1000, None)
    says("scontrol", "MaxArraySize            = 11\n")
    says("squeue", line("8", "RUNNING") + line("9_1", "PENDING"))
    assert Slurm(parallel=3, most_queued=5).limits() == Limits(3, 10, 3)
    assert Slurm(most_queued=1).limits().submitted == 0
