"""What a run folder says of its run: the record made before the first step, and how the journal ends."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from mmctl.errors import UserError
from mmctl.filesystem import read_file
from mmctl.run_folder import journal
from mmctl.run_folder.events import Points, State
from mmctl.run_folder.upgrade import FORMAT, Config, upgrade_record
from mmctl.run_folder.values import DEPTH, deeper_than


class Component(TypedDict):
    """A component that a run is made of."""

    kind: str
    slot: str | None
    name: str
    origin: str
    version: str | None
    file: str | None
    file_hash: str | None
    params: NotRequired[Config]
    helpers: NotRequired[dict[str, str]]  # file that a plugin imports -> its hash; absent in records of older versions


class Parent(TypedDict):
    """The run that a run extends, and the step of its checkpoint from which it started."""

    uid: str
    step: int
    config_id: str
    exact: bool  # whether the run was exact up to that step


class Origin(TypedDict):
    """Where a run of another program was imported from."""

    program: str
    id: str  # in that program
    project: str
    file: str
    imported: int  # milliseconds since 1970, UTC
    points: int
    state: str  # in that file
    first: NotRequired[Config]  # the point of a curve that was logged first
    more: Config  # what has no place in a run of mmctl


class RunRecord(TypedDict):
    """run.json: everything that is known of a run before its first step."""

    format: int
    uid: str
    name: str
    recipe: str
    method: str
    labeler: str | None
    seed: int
    config_id: str  # the same for runs that differ only in their seed
    config: Config
    tags: list[str]
    note: str | None
    created: int  # milliseconds since 1970, UTC
    total_steps: int
    primary: str  # full name of the metric that ranks runs
    published: Config | None
    command: list[str]
    code: str  # hash of mmctl's own source files
    components: list[Component]
    environment: Config
    git: Config | None
    parent: NotRequired[Parent]
    origin: NotRequired[Origin]  # of a run of another program
    identity: NotRequired[str]  # verify.identity_hash of this record
    recipe_hash: NotRequired[str]  # SHA-256 of recipe.toml


SIZE = 2**26
"""A larger run.json is not read, in bytes."""
NEEDED = {"uid": str, "config": dict, "components": list, "primary": str, "total_steps": int}
"""Keys without which a run can be neither resumed nor evaluated."""


def read_record(folder: Path) -> RunRecord:
    """The run.json of a run folder, in today's format; UserError where there is none that can be read."""
    try:
        found = load_record(folder)
        made = found.get("format")
        if isinstance(made, int) and made > FORMAT:
            raise UserError(
                f"{folder}: made by a newer mmctl (run.json has format {made}, this mmctl reads {FORMAT}). "
                "Upgrade mmctl."
            )
        record = upgrade_record(found)
        for key, kind in NEEDED.items():
            if not isinstance(record.get(key), kind):
                raise ValueError(f'"{key}" is missing or has the wrong type')
        if "parent" in record and not _is_parent(record["parent"]):
            raise ValueError('"parent" has the wrong type')
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a run folder (run.json: {error}).") from error
    return cast(RunRecord, record)


def check_own(about: RunRecord, what: str) -> None:
    """UserError if a run is that of another program: it has no recipe and no checkpoint, so it cannot be `what`."""
    if "origin" in about:
        program = origin.get("program") if isinstance(origin := about["origin"], dict) else "another program"
        raise UserError(
            f"{about['uid']}: was imported from {program}, without recipe and checkpoint: it cannot be {what}."
        )


def _is_parent(found: object) -> bool:
    kinds = {"uid": str, "step": int, "config_id": str, "exact": bool}
    return isinstance(found, dict) and all(type(found.get(key)) is kind for key, kind in kinds.items())


def load_record(folder: Path) -> Config:
    """The JSON object in run.json as it is written there; OSError or ValueError where there is none."""
    try:
        found = json.loads(read_file(folder / "run.json", SIZE))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    if deeper_than(found, DEPTH):
        raise ValueError("nested too deeply")
    return found


def command_again(recipe: Path, parent: str | None, steps: int | None) -> str:
    """The command that trains a run again from the recipe in its folder; parent: the run that it extends, if any."""
    words = [str(recipe)] if parent is None else ["--extend", parent, "--set", f"train.steps={steps}"]
    return shlex.join(["mmctl", "run", *words, "--force"])


def states(folder: Path) -> list[str]:
    """The states of the run that its journals name, in their order."""
    return [event.state for event in journal.read_events(folder, State)]


def last_state(folder: Path) -> str | None:
    """The state that the journal ends with."""
    return next(reversed(states(folder)), None)


def last_scores(folder: Path) -> str:
    """Accuracy and balanced accuracy of the primary network at the last evaluation, for a line of text."""
    split, weights, predictor, _ = read_record(folder)["primary"].split("/")
    found: dict[str, object] = {}
    for event in journal.read_events(folder, Points):
        found |= event.values
    accuracy, balanced = (found.get(f"{split}/{weights}/{predictor}/{m}") for m in ("accuracy", "balanced_accuracy"))
    if not isinstance(accuracy, float) or not isinstance(balanced, float):
        return ""
    return f", {split} accuracy {100 * accuracy:.1f} %, balanced {100 * balanced:.1f} %"


def best_metric(config: Config) -> str | None:
    """The full name of the metric by which a run with this config keeps its best checkpoint; None = it keeps none."""
    train = config.get("train")
    metric = train.get("keep_best") if isinstance(train, dict) else None
    return full_metric_name(metric, primary_weights(config)) if isinstance(metric, str) else None


def primary_weights(config: Config) -> str:
    """The weights that a metric means that names none: the averaged ones, if the run has them."""
    average = config.get("average")
    return "raw" if isinstance(average, dict) and average.get("kind") == "none" else "ema"


def full_metric_name(metric: str, weights: str) -> str:
    """The full name of a metric: test/accuracy -> test/ema/head/accuracy."""
    split, *middle, last = metric.split("/")
    return "/".join((split, *(middle or (weights, "head")), last))
