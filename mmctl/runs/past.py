"""What the journals of a run say of its training so far, to check its files against it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmctl.errors import ResumeRefused
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Checkpoint, Data, Event
from mmctl.run_folder.record import RunRecord
from mmctl.run_folder.verify import alterations
from mmctl.training.manifest import Identity


@dataclass(frozen=True)
class Past:
    """Since the run last started from step 0: step of its newest checkpoint (0 = none), and what all of them share."""

    newest: int
    identity: Identity


def past_of(folder: Path, about: RunRecord) -> Past:
    """Read the journals of a run; a run that never trained has step 0 and an identity without hashes."""
    newest = about["parent"]["step"] if "parent" in about else 0
    facts: dict[str, Any] = {}
    manifests: dict[int, str] = {}
    for event in journal.read_events(folder, Event):
        match event:
            case Attempt(start=start, threads=threads, precision=precision):
                newest = start or 0
                facts = facts if newest else {}
                manifests = {step: own for step, own in manifests.items() if step <= newest}
                facts.setdefault("threads", threads)
                facts.setdefault("precision", precision)
            case Data(data_hash=data, split_hash=split):
                facts.setdefault("data", data)
                facts.setdefault("split", split)
            case Checkpoint(step=step, manifest=own):
                newest = step
                manifests |= {step: own} if own else {}
    return Past(newest, Identity(about["uid"], about["total_steps"], **facts, manifests=manifests))


def accepted_changes(folder: Path, about: RunRecord, command: str, accept: bool) -> list[str]:
    """What was edited in the folder of a run; ResumeRefused if there is something and the user does not accept it."""
    found = alterations(folder, about)
    split = any(text.startswith("split.json") for text in found)  # never accepted: another split is another run
    if found and (split or not accept):
        more = f" (and {len(found) - 4} more)" if len(found) > 4 else ""
        raise ResumeRefused(
            f"{folder.name}: edited since the run was created: {'; '.join(found[:4])}{more}. "
            + (
                "Restore it: another split is another run."
                if split
                else f"Restore it, or `mmctl {command} {folder.name} --accept-changes` uses it as it is, and says that "
                "the result is not exact."
            )
        )
    return found


def check_nothing_lost(folder: Path, past: Past, newest: int | None, accept_changes: bool) -> None:
    """Raise ResumeRefused if checkpoints or the split of a run are gone; newest: step of the checkpoint that is there.

    Without this, the run would start from step 0 or draw another split without a word.
    """
    remedy = f"Restore it, or train again from step 0 with `mmctl resume {folder.name} --from-start`."
    if newest is None and past.newest:
        raise ResumeRefused(
            f"{folder / 'checkpoints'}: has no checkpoint, but the journal says that one was saved at step "
            f"{past.newest}. {remedy}"
        )
    if past.identity.split and not (folder / "split.json").exists() and not accept_changes:
        raise ResumeRefused(
            f"{folder / 'split.json'}: is missing, but the run has trained with it. {remedy} `--accept-changes` draws "
            "it again by the recipe's rule and goes on if it is the same."
        )
