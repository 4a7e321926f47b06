"""What the journals of a run say of its training so far, to check its files against it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmctl.errors import ResumeRefused
from mmctl.recipe.recipe import Recipe
from mmctl.report.results import as_number
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Checkpoint, Data, Event, Points, State
from mmctl.run_folder.record import RunRecord, best_metric
from mmctl.run_folder.verify import Logged, alterations, logged_in
from mmctl.store.metrics import LOWER
from mmctl.training.best import Best
from mmctl.training.manifest import Identity


@dataclass(frozen=True)
class Past:
    """What one reading of the journals tells; `newest` and `identity` since the run last started from step 0."""

    state: str | None  # the last one; None = never trained
    exact: bool  # whether all attempts were
    newest: int  # step of the newest checkpoint, 0 = none
    identity: Identity  # what all checkpoints share
    logged: Logged


def past_of(folder: Path, about: RunRecord) -> Past:
    """Read the journals of a run; a run that never trained has step 0 and an identity without hashes."""
    newest = about["parent"]["step"] if "parent" in about else 0
    state: str | None = None
    exact = True
    facts: dict[str, Any] = {}
    manifests: dict[int, str] = {}
    events = [e for e in journal.read_events(folder, Event) if isinstance(e, State | Attempt | Data | Checkpoint)]
    for event in events:
        match event:
            case State():
                state = event.state
            case Attempt(start=start, threads=threads, precision=precision):
                newest, exact = start or 0, exact and event.exact
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
    identity = Identity(about["uid"], about["total_steps"], **facts, manifests=manifests)
    return Past(state, exact, newest, identity, logged_in(events))


def best_so_far(folder: Path, recipe: Recipe, until: int | None = None, among: Collection[int] | None = None) -> Best:
    """The best by `train.keep_best` of the logged evaluations, up to the step `until` and `among` these steps.

    A checkpoint on disk always has its log entries, so that an attempt finds what the attempt before it knew.
    """
    metric = best_metric(recipe.data)
    if metric is None:
        return Best()
    values: dict[int, float] = {}
    for event in journal.read_events(folder, Event):
        if isinstance(event, Attempt):
            values = {step: value for step, value in values.items() if step <= (event.start or 0)}
        elif isinstance(event, Points) and metric in event.values:
            values[event.step] = as_number(event.values[metric])
    best = Best(metric, metric.endswith(LOWER))
    for step in sorted(values):
        if (until is None or step <= until) and (among is None or step in among):
            best.offer(step, {metric: values[step]})
    return best


def start_again(about: RunRecord) -> str:
    """How to train a run again whose files are lost, for messages."""
    if parent := about.get("parent"):
        steps = about["total_steps"]
        return f"extend that run again with `mmctl run --extend {parent['uid']} --set train.steps={steps}`."
    return f"train again from step 0 with `mmctl resume {about['uid']} --from-start`."


def accepted_changes(folder: Path, about: RunRecord, past: Past, command: str | None, accept: bool) -> list[str]:
    """What was edited in the folder of a run; ResumeRefused if there is something and the user does not accept it.

    command: the one that is tried; None if it cannot accept changes.
    """
    found = alterations(folder, about, past.logged)
    split = any(text.startswith("split.json") for text in found)  # never accepted: another split is another run
    if found and (split or not accept):
        more = f" (and {len(found) - 4} more)" if len(found) > 4 else ""
        raise ResumeRefused(
            f"{folder.name}: edited since the run was created: {'; '.join(found[:4])}{more}. "
            + (
                "Restore it: another split is another run."
                if split
                else "Restore it: nothing is computed here from an edited run."
                if command is None
                else f"Restore it, or `mmctl {command} {folder.name} --accept-changes` uses it as it is, and says that "
                "the result is not exact."
            )
        )
    return found


def check_nothing_lost(folder: Path, about: RunRecord, past: Past, newest: int | None, accept_changes: bool) -> None:
    """Raise ResumeRefused if checkpoints or the split of a run are gone; newest: step of the checkpoint that is there.

    Without this, the run would start from step 0 or draw another split without a word.
    """
    if newest is None and past.newest:
        raise ResumeRefused(
            f"{folder / 'checkpoints'}: has no checkpoint, but the journal says that one was saved at step "
            f"{past.newest}. Restore it, or {start_again(about)}"
        )
    if past.identity.split and not (folder / "split.json").exists() and not accept_changes:
        raise ResumeRefused(
            f"{folder / 'split.json'}: is missing, but the run has trained with it. Restore it, or "
            f"{start_again(about)} `--accept-changes` draws it again by the recipe's rule and goes on if it is the "
            "same."
        )
