"""Loads a run folder: builds the objects of its run and restores a checkpoint, for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mmctl import environment, ops
from mmctl.data.split import load_split
from mmctl.errors import PluginError, RecipeError, ResumeRefused
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.recipe.resolve import unmet
from mmctl.registry.index import Index
from mmctl.run_folder.record import RunRecord
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.build import Data, Shared, build_training, read_data
from mmctl.runs.hardware import use_hardware
from mmctl.text import display_path
from mmctl.training import checkpoint
from mmctl.training.cuda_graph import uses_device_rng
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
    changes = changed_plugins(about, index := Index())
    if changes and not accept_changes:
        raise ResumeRefused(
            f"{folder.name}: {'; '.join(changes)}. Restore it, or resume with `--accept-changes`, which marks the run "
            "as not exact."
        )
    try:
        recipe = load_stored(folder / "recipe.toml", upgrade_recipe, index)
    except RecipeError as error:
        raise RecipeError([*error.problems, *(f"{folder.name}: {text}" for text in changes)]) from error
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
    if (world := ops.world_size()) > 1:
        facts["processes"] = world
        if random := uses_device_rng(training.parts):
            changes.append(f"{random}, which depend on the number of processes")
    if before is not None:
        if before.get("processes", 1) != world:
            changes.append("the number of processes changed since the last attempt")
        changes += [
            f"{FACTS[k]} changed since the last attempt" for k, v in facts.items() if k in FACTS and before.get(k) != v
        ]
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


def changed_plugins(about: RunRecord, index: Index) -> list[str]:
    """What has changed in the plugins and the packages that a run needs, since it began: a text for each."""
    changed = []
    for was in about["components"]:
        if was.get("origin") in (None, "mmctl"):
            continue
        try:
            now = index.find(was["kind"], was["name"])
        except PluginError:
            continue  # the recipe cannot be read then, which says why
        where = []
        if now.version != was.get("version"):
            where.append(f"version {was.get('version')}; {now.version} is installed")
        # A record of an older version has no hash of a package in editable mode, and none of imported files.
        if was.get("file_hash") and now.sha256 and now.sha256 != was["file_hash"] and now.file:
            where.append(display_path(now.file))
        then, helpers = was.get("helpers"), index.helpers(now)
        if then is not None:
            names = sorted(name for name in {*then, *helpers} if then.get(name) != helpers.get(name))
            where += [f"{name}, which it imports" for name in names]
        if where:
            changed.append(f"{was['kind']} {was['name']} has changed since the run began ({'; '.join(where)})")
    requires = about["config"].get("requires")
    for name, text in unmet(requires if isinstance(requires, dict) else {}).items():
        changed.append(f"requires.{name}: {text}")
    return changed
