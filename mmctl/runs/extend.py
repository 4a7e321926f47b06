"""Trains a finished run longer: a new run that starts from the last checkpoint of its parent (`mmctl run --extend`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmctl.data.split import load_split, save_split
from mmctl.errors import UserError
from mmctl.recipe.layers import parse_sets
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Checkpoint
from mmctl.run_folder.record import Parent, RunRecord, last_state, read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.run_folder.verify import alterations
from mmctl.runs.build import read_data
from mmctl.runs.check import check_before_start
from mmctl.runs.create import create_run
from mmctl.runs.open import changed_components, check_data
from mmctl.runs.past import past_of
from mmctl.runs.progress import tell
from mmctl.training import checkpoint

MAY_CHANGE = ("steps", "save_every", "log_every", "keep", "keep_best")
"""Keys of [train] that an extension may set, beside all of [eval]."""
OWN = ("format", "step", "sha256", "bytes", "tensors")
"""What a manifest says of its file; `publish` writes it anew."""


def extend_run(
    folder: Path,
    runs: Path,
    sets: Sequence[str],
    *,
    name: str | None = None,
    tags: Sequence[str] = (),
    note: str | None = None,
) -> Path:
    """Create a run with more steps that begins with a copy of the last checkpoint of the run in `folder`.

    sets: changed settings, as in --set. The new folder needs the old one no more. Raises UserError if the old run is
    not completed, was edited or has no good last checkpoint, or if another setting is to be changed.
    """
    _check_keys(sets)
    about = read_record(folder)
    if (state := last_state(folder)) != "completed":
        remedy = "" if state == "nc" else f" Finish it first: mmctl resume {folder.name}"
        raise UserError(
            f"--extend: {folder.name} is {state or 'queued'}, but only a completed run is extended.{remedy}"
        )
    if found := alterations(folder, about):
        raise UserError(
            f"--extend: {folder.name}: edited since the run was created: {'; '.join(found[:4])}. Restore it, or train "
            "its recipe with more steps from the start: mmctl run RECIPE --set train.steps=N"
        )
    past, step = past_of(folder, about), about["total_steps"]
    saved = checkpoint.read(checkpoint.folder_of(folder, step), past.identity)
    recipe = load_stored(folder / "recipe.toml", upgrade_recipe).with_sets(sets)
    if recipe.settings.train.steps <= step:
        raise UserError(
            f"--extend: {folder.name} has {step} steps; give more: --extend {folder.name} --set train.steps={2 * step}"
        )
    if changes := changed_components(about, recipe):
        raise UserError(f"--extend: {folder.name}: {'; '.join(changes)} since the run began. Restore it.")
    _check_split(folder, recipe, saved)
    parent: Parent = {
        "uid": about["uid"],
        "step": step,
        "config_id": about["config_id"],
        "exact": all(event.exact for event in journal.read_events(folder, Attempt)),
    }

    def add_start(draft: Path, uid: str) -> None:
        facts = {key: value for key, value in saved.manifest.items() if key not in OWN} | {"run": uid, "attempt": 1}
        made = checkpoint.publish(draft, step, saved.tensors, facts)
        journal.append(draft, Checkpoint(step=step, reason="start", **made))
        save_split(draft / "split.json", load_split(folder / "split.json"))

    return create_run(recipe, runs, name=name, tags=tags, note=note, parent=parent, add=add_start)


def check_start(folder: Path, about: RunRecord, saved: checkpoint.Checkpoint | None) -> list[str]:
    """Why an extended run is not exact from its start on; UserError if it has no checkpoint to start from."""
    if (parent := about.get("parent")) is None:
        return []
    if saved is None:
        raise UserError(
            f"{folder.name}: extends {parent['uid']} from step {parent['step']}, so that it cannot start from step 0. "
            f"Extend that run again: mmctl run --extend {parent['uid']} --set train.steps={about['total_steps']}"
        )
    return [] if parent["exact"] else [f"the run that it extends ({parent['uid']}) is not exact"]


def _check_keys(sets: Sequence[str]) -> None:
    for table, values in parse_sets(sets).items():
        if table == "eval":
            continue
        for key in values if isinstance(values, dict) else [""]:
            if table != "train" or key not in MAY_CHANGE:
                name = f"{table}.{key}" if key else table
                raise UserError(
                    f"--extend: {name} cannot be changed, only train.{', train.'.join(MAY_CHANGE)} and eval.*. With "
                    "another value it is another run: mmctl run RECIPE --set ..."
                )


def _check_split(folder: Path, recipe: Recipe, saved: checkpoint.Checkpoint) -> None:
    """Read the data before a folder is created; UserError if data or split are not those of the parent."""
    if not (folder / "split.json").exists():
        raise UserError(f"--extend: {folder / 'split.json'}: is missing. Restore it.")
    data = read_data(recipe, load_split(folder / "split.json"))
    check_data(folder, data, saved.manifest["data"], saved.manifest["split"])
    for line in check_before_start(recipe, data):
        tell(f"warning: {line}")
