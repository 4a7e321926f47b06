"""The manifest of a checkpoint: its exact types and bounds, and what it must have in common with its run.

A run folder may come from anywhere, so a manifest is untrusted. What does not fit is treated like a damaged checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_THREADS = max(1024, 4 * (os.cpu_count() or 1))
"""More threads are a mistake: torch ends the process with a segmentation fault when it cannot start them."""

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Step = Annotated[int, Field(ge=1, lt=2**53)]
Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    # Keys of a newer mmctl with the same format are allowed. Strict: true, "2" and 2.0 are no integers.
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class Environment(_Strict):
    """Hardware and software of the attempt that saved the checkpoint; a resumed run keeps threads and precision."""

    threads: int = Field(ge=1, le=MAX_THREADS)
    precision: Literal["fp32", "bf16"]
    device: Text
    isa: Text
    versions: dict[str, str] = Field(min_length=1)
    code: Text


class TrainingFacts(_Strict):
    """The plain values of `Training.facts`."""

    tally: list[str]
    judged: int = Field(ge=-1)
    collapsed: str
    in_a_row: int = Field(ge=0)
    told: list[str]
    unsaved: list[str] = []


class Manifest(_Strict):
    """All that manifest.json must have."""

    format: int = Field(ge=1)
    step: Step
    sha256: Hash
    bytes: int = Field(ge=8, lt=2**53)
    tensors: dict[str, tuple[str, list[Annotated[int, Field(ge=0, lt=2**53)]]]]
    run: Text
    attempt: int = Field(ge=1)
    reason: Literal["periodic", "best", "last", "interrupt"]
    mmctl: Text
    data: Hash
    split: Hash
    environment: Environment
    training: TrainingFacts


@dataclass(frozen=True)
class Identity:
    """What all checkpoints of a run have in common; None = not known, because the journal does not say."""

    run: str
    total_steps: int
    data: str | None = None
    split: str | None = None
    threads: int | None = None
    precision: str | None = None
    manifests: Mapping[int, str] = field(default_factory=dict)  # SHA-256 of the manifest of a step


def check_manifest(text: bytes, step: int, run: Identity | None = None) -> None:
    """Raise ValueError if a manifest has a wrong type or value, or is not of this step (the folder's name) and run."""
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    used, facts = found.environment, found.training
    wanted: dict[str, tuple[object, object]] = {"step": (found.step, step)}
    if run is not None:
        wanted |= {"run": (found.run, run.run), "data": (found.data, run.data), "split": (found.split, run.split)}
        wanted |= {"threads": (used.threads, run.threads), "precision": (used.precision, run.precision)}
        if step > run.total_steps:
            raise ValueError(f"step is {step}, but the run has {run.total_steps} steps")
    for key, (said, right) in wanted.items():
        if right is not None and said != right:
            raise ValueError(f"{key} is {said!r}, but in the run it is {right!r}")
    if facts.judged > step or facts.in_a_row > step or (facts.collapsed and not facts.told):
        raise ValueError("training: its counts are not those of this step")
    if len(set(facts.tally)) != len(facts.tally) or [len(facts.tally)] != found.tensors.get("tally.sums", ("", []))[1]:
        raise ValueError("training.tally: not the names of the saved sums")
