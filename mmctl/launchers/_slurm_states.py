"""From the state of a Slurm job to that of its run."""

from __future__ import annotations

from mmctl.launchers._slurm_tools import SlurmJob
from mmctl.plugin import JobState

WORDS = {
    "PENDING": "queued", "CONFIGURING": "queued", "REQUEUED": "queued", "REQUEUE_FED": "queued",
    "RUNNING": "running", "COMPLETING": "running", "SUSPENDED": "running", "STOPPED": "running",
    "SIGNALING": "running", "STAGE_OUT": "running", "RESIZING": "running",
    "REQUEUE_HOLD": "held", "SPECIAL_EXIT": "held", "RESV_DEL_HOLD": "held",
    "COMPLETED": "completed",
    "CANCELLED": "interrupted", "REVOKED": "interrupted", "PREEMPTED": "interrupted", "NODE_FAIL": "interrupted",
    "TIMEOUT": "interrupted",
}  # fmt: skip
"""State of a job -> word of its run; all others are failed."""
ENDS = {
    "CANCELLED": "cancelled", "PREEMPTED": "preempted", "NODE_FAIL": "the node failed", "TIMEOUT": "time limit reached",
    "OUT_OF_MEMORY": "out of memory: raise launcher.mem", "BOOT_FAIL": "the node did not start",
    "DEADLINE": "deadline reached",
}  # fmt: skip
"""State of a job that has ended -> why."""
STOPPED = (75, 130, 143)
"""Exit codes of a run that was stopped and can be continued; the last is that of SIGTERM before a run handles it."""
RELEASE = "release it with: scontrol release {id}"
REMEDIES = {
    "JobHeldUser": RELEASE,
    "JobHeldAdmin": "ask the administrator to release it, or cancel it with: scancel {id}",
    "launch failed requeued held": "its node could not start it; " + RELEASE,
    "JobLaunchFailure": "its node could not start it; " + RELEASE,
    "job requeued in held state": RELEASE,
    "BadConstraints": "no node has what [launcher] asks for; cancel it with: scancel {id}",
    "InvalidAccount": "correct it with: scontrol update JobId={id} Account=NAME",
    "InvalidQOS": "correct it with: scontrol update JobId={id} QOS=NAME",
    "DependencyNeverSatisfied": "cancel it with: scancel {id}",
    "PartitionTimeLimit": "launcher.minutes is above the limit of the partition; lower it with: scontrol update "
    "JobId={id} TimeLimit=MINUTES",
}
"""Reason of a job that waits until somebody acts -> what to do."""


def meaning(job: SlurmJob) -> JobState:
    """The state of the run of a job."""
    reason = "" if job.reason == "None" else job.reason
    word = WORDS.get(job.state, "failed")
    if word == "queued":
        remedy = next((text for key, text in REMEDIES.items() if reason.startswith(key)), None)
        return JobState("held", f"{reason}: {remedy.format(id=job.id)}") if remedy else JobState("queued", reason)
    if word == "held":
        return JobState("held", f"{reason or job.state}: {RELEASE.format(id=job.id)}")
    if word == "running":
        return JobState("running", "suspended" if job.state == "SUSPENDED" else "")
    if job.state != "FAILED":
        return JobState(word, ENDS.get(job.state, "" if word == "completed" else reason or job.state))
    code, signal = divmod(job.exit_code, 256)
    signal = signal or max(0, code - 128)  # srun's exit code for a process that a signal ended
    if code in STOPPED:
        return JobState("interrupted", f"exit code {code}")
    return JobState("failed", f"killed by signal {signal}" if signal else f"exit code {code}" if code else reason)
