"""What the journal says of a run whose job on a cluster made room: the reason of its state, and what it waits for."""

from __future__ import annotations

WAITS = "waits to restart"
"""The cluster has the job in its queue and starts it again."""
RESUBMIT = "waits to be submitted again"


def resubmit_reason(problem: str) -> str:
    """The reason of a run whose job could not put itself back into the queue: the next command of mmctl has to."""
    return f"{RESUBMIT}: {problem}"


def to_resubmit(reason: str | None) -> bool:
    """Whether the last reason of an interrupted run asks to submit it again."""
    return (reason or "").startswith(RESUBMIT)
