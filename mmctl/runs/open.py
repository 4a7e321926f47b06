"""A run folder becomes the objects of its run: what training and evaluation both begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmctl import environment
from mmctl.data.split import load_split, save_split
from mmctl.errors import ResumeRefused
from mmctl.recipe.recipe import Recipe, load
from mmctl.run_folder.record import RunRecord, read_record
from mmctl.runs.build import Data, Shared, build_training, read_data
from mmctl.runs.hardware import use_hardware
from mmctl.training import checkpoint
from mmctl.training.state import Training


@dataclass
class OpenRun:
    """A run folder read back: what execute and evaluate both need."""

    folder: Path
    about: RunRecord
    recipe: Recipe
    data: Data
    training: Training
    facts: dict[str, Any]  # threads, precision, device: as recorded at the first attempt where that decides bits
    exact: bool


def open_run(
    folder: Path, saved: checkpoint.Checkpoint | None, accept: bool = False, shared: Shared | None = None
) -> OpenRun:
    """Build everything that the run in this folder is made of, and put the checkpoint's state into it."""
    about = read_record(folder)
    recipe = load(folder / "recipe.toml")
    if not accept:
        check_components(folder, about, recipe)
    before = saved.manifest["environment"] if saved else {}
    hardware = use_hardware(recipe.settings.train, before)
    split_file = folder / "split.json"
    data = read_data(recipe, load_split(split_file) if split_file.exists() else None, shared)
    if not split_file.exists():
        save_split(split_file, data.split)
    training = build_training(recipe, data, hardware.device, hardware.dtype)
    facts = {
        "threads": hardware.threads,
        "precision": hardware.precision,
        "device": hardware.device_name,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "versions": environment.versions(),
        "code": environment.code(),
    }
    exact = all(before.get(k, v) == v for k, v in facts.items())
    if saved:
        if saved.manifest["run"] != about["uid"]:
            raise ResumeRefused(f"{saved.folder}: belongs to run {saved.manifest['run']}, not to {about['uid']}.")
        if saved.manifest["data"] != data.digest or saved.manifest["split"] != data.split.sha256:
            what = "data set" if saved.manifest["data"] != data.digest else "split"
            raise ResumeRefused(
                f"{folder.name}: the {what} is no longer the one it was trained on (its hash differs). Put the old "
                "one back, or start a new run with `mmctl run`."
            )
        checkpoint.copy_into(training.restore(saved.step, saved.manifest["training"]), saved.tensors, saved.folder)
    return OpenRun(folder, about, recipe, data, training, facts, exact)


def check_components(folder: Path, about: RunRecord, recipe: Recipe) -> None:
    """Refuse to go on with other plugins than the run began with."""
    then = {(c["kind"], c["slot"]): c for c in about["components"]}
    for now in recipe.components():
        was = then.get((now["kind"], now["slot"]), now)
        if was["file_hash"] != now["file_hash"] or (now["origin"] != "mmctl" and was["version"] != now["version"]):
            raise ResumeRefused(
                f"{folder.name}: {now['kind']} {now['name']} has changed since the run began. Put it back, or go on "
                "with `--accept-changes`, which marks the run as not exact."
            )
