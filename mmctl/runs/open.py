"""Loads a run folder: builds the objects of its run and restores a checkpoint, for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mmctl import environment
from mmctl.data.split import load_split
from mmctl.errors import PluginError, ResumeRefused
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.run_folder.record import RunRecord
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.build import Data, Shared, build_training, read_data
from mmctl.runs.hardware import use_hardware
from mmctl.training import checkpoint
from mmctl.training.manifest import Identity
from mmctl.training.state import Training

FACTS = {
    "threads": "the number of threads", "precision": "the precision", "device": "the device",
    "isa": "the CPU's instruction set", "versions": "Python or a package", "code": "the code of mmctl",
}  # fmt: skip
"""What can change the results of a run apart from its folder, in words."""


@dataclass
class OpenRun:
    """A loaded run."""

    folder: Path
    about: RunRecord
    recipe: Recipe
    data: Data
    training: Training
    facts: dict[str, Any]  # threads, precision, device, versions and code of this process
    changes: list[str]  # why results can differ from those of an uninterrupted run; empty = they cannot

    @property
    def exact(self) -> bool:
        """Whether nothing that can change its results has changed since its first attempt."""
        return not self.changes


def open_run(
    folder: Path,
    about: RunRecord,
    saved: checkpoint.Checkpoint | None,
    accept_changes: bool = False,
    shared: Shared | None = None,
    identity: Identity | None = None,
) -> OpenRun:
    """Build the run in this folder and restore the checkpoint `saved`, if there is one.

    about: its run.json; accept_changes: allow changed plugins; identity: what its journal says.
    Raises ResumeRefused if plugins, data set or split are not those of the run.
    """
    check_installed(about)
    recipe = load_stored(folder / "recipe.toml", upgrade_recipe)
    changes = changed_components(about, recipe)
    if changes and not accept_changes:
        raise ResumeRefused(
            f"{folder.name}: {'; '.join(changes)} since the run began. Restore it, or resume with `--accept-changes`, "
            "which marks the run as not exact."
        )
    before = saved.manifest["environment"] if saved else None
    hardware = use_hardware(recipe.settings.train, before)
    split_file = folder / "split.json"
    data = read_data(recipe, load_split(split_file) if split_file.exists() else None, shared)
    if saved:
        check_data(folder, data, saved.manifest["data"], saved.manifest["split"])
    elif identity:
        check_data(folder, data, identity.data, identity.split)
    training = build_training(recipe, data, hardware.device, hardware.dtype)
    facts = {**hardware.facts(), "versions": environment.versions(), "code": environment.code()}
    if before is not None:
        changes += [f"{FACTS[k]} changed since the last attempt" for k, v in facts.items() if before.get(k) != v]
    if saved:
        if unsaved := saved.manifest["training"].get("unsaved"):
            changes.append(f"{', '.join(unsaved)} changes in training, but no checkpoint saves it")
        checkpoint.copy_into(training.restore(saved.step, saved.manifest["training"]), saved.tensors, saved.folder)
    return OpenRun(folder, about, recipe, data, training, facts, changes)


def check_data(folder: Path, data: Data, digest: str | None, split: str | None) -> None:
    """Raise ResumeRefused if the data set or the split is not that of the run; None = not known."""
    for what, now, then in (("data set", data.digest, digest), ("split", data.split.sha256, split)):
        if then and now != then:
            raise ResumeRefused(
                f"{folder.name}: the {what} has changed since the run began (its hash differs). Restore it, or "
                "start a new run with `mmctl run`."
            )


def check_installed(about: RunRecord) -> None:
    """Raise PluginError for the first package of the run's components that is not installed any more."""
    for part in about["components"]:
        if part.get("origin") in (None, "mmctl", "plugins"):
            continue
        try:
            metadata.version(part["origin"])
        except metadata.PackageNotFoundError:
            named = f"{part['origin']} {part.get('version') or ''}".strip()
            raise PluginError(
                f"{about['uid']}: {named} is not installed, and {part['kind']} {part['name']} comes from it. Install "
                f"it: pip install {named.replace(' ', '==')}"
            ) from None


def changed_components(about: RunRecord, recipe: Recipe) -> list[str]:
    """The plugins that have changed since the run began, each with a text that says so."""
    then = {(c["kind"], c["slot"]): c for c in about["components"]}
    changed = []
    for now in recipe.components():
        was = then.get((now["kind"], now["slot"]), now)
        if was["file_hash"] != now["file_hash"] or (now["origin"] != "mmctl" and was["version"] != now["version"]):
            changed.append(f"{now['kind']} {now['name']} has changed")
    return changed
