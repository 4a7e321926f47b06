"""Loads a run folder: builds the objects of its run and restores a checkpoint, for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmctl import environment
from mmctl.data.split import load_split, save_split
from mmctl.errors import ResumeRefused
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.run_folder.record import RunRecord, read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.build import Data, Shared, build_training, read_data
from mmctl.runs.hardware import use_hardware
from mmctl.training import checkpoint
from mmctl.training.state import Training


@dataclass
class OpenRun:
    """A loaded run; exact: no change of hardware or software since its first attempt can change its results."""

    folder: Path
    about: RunRecord
    recipe: Recipe
    data: Data
    training: Training
    facts: dict[str, Any]  # threads, precision, device, versions and code of this process
    exact: bool


def open_run(
    folder: Path, saved: checkpoint.Checkpoint | None, accept_changes: bool = False, shared: Shared | None = None
) -> OpenRun:
    """Build the run in this folder and restore the checkpoint `saved`, if there is one.

    accept_changes: allow changed plugins. Raises ResumeRefused if plugins, data set or split are not those of the run.
    """
    about = read_record(folder)
    recipe = load_stored(folder / "recipe.toml", upgrade_recipe)
    if not accept_changes:
        check_components(folder, about, recipe)
    before = saved.manifest["environment"] if saved else {}
    hardware = use_hardware(recipe.settings.train, before)
    split_file = folder / "split.json"
    data = read_data(recipe, load_split(split_file) if split_file.exists() else None, shared)
    if not split_file.exists():
        save_split(split_file, data.split)
    training = build_training(recipe, data, hardware.device, hardware.dtype)
    facts = {**hardware.facts(), "versions": environment.versions(), "code": environment.code()}
    exact = all(before.get(k, v) == v for k, v in facts.items())
    if saved:
        if saved.manifest["run"] != about["uid"]:
            raise ResumeRefused(
                f"{saved.folder}: is a checkpoint of run {saved.manifest['run']}, not of {about['uid']}."
            )
        if saved.manifest["data"] != data.digest or saved.manifest["split"] != data.split.sha256:
            what = "data set" if saved.manifest["data"] != data.digest else "split"
            raise ResumeRefused(
                f"{folder.name}: the {what} has changed since the run began (its hash differs). Restore it, or "
                "start a new run with `mmctl run`."
            )
        checkpoint.copy_into(training.restore(saved.step, saved.manifest["training"]), saved.tensors, saved.folder)
    return OpenRun(folder, about, recipe, data, training, facts, exact)


def check_components(folder: Path, about: RunRecord, recipe: Recipe) -> None:
    """Raise ResumeRefused if a plugin has changed since the run began."""
    then = {(c["kind"], c["slot"]): c for c in about["components"]}
    for now in recipe.components():
        was = then.get((now["kind"], now["slot"]), now)
        if was["file_hash"] != now["file_hash"] or (now["origin"] != "mmctl" and was["version"] != now["version"]):
            raise ResumeRefused(
                f"{folder.name}: {now['kind']} {now['name']} has changed since the run began. Restore it, or "
                "resume with `--accept-changes`, which marks the run as not exact."
            )
