"""What a run folder says of its run: the record made before the first step, and how the journal ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmctl.errors import UserError
from mmctl.run_folder import journal


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a run folder."""
    try:
        return json.loads((folder / "run.json").read_bytes())  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a run folder (run.json: {error}).") from error


def last_state(folder: Path) -> str | None:
    """The state that the journal ends with."""
    state = None
    for event in journal.events(folder, "state"):
        state = event["s"]
    return state


def last_scores(folder: Path) -> str:
    """Accuracy and balanced accuracy of the primary network at the last evaluation, for a line of text."""
    about = read_record(folder)
    split, weights, predictor, _ = about["primary"].split("/")
    found: dict[str, float] = {}
    for event in journal.events(folder, "points"):
        found |= {k: v for k, v in event["v"].items() if k.startswith(f"{split}/{weights}/{predictor}/")}
    name = f"{split}/{weights}/{predictor}/"
    if f"{name}accuracy" not in found:
        return ""
    return f", {split} accuracy {found[f'{name}accuracy']:.1%}, balanced {found[f'{name}balanced_accuracy']:.1%}"
