"""Trains a finished run longer: a new run that starts from the last checkpoint of its parent (`mmctl run --extend`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmctl.data.split import load_split, save_split
from mmctl.errors import UserError
from mmctl.plugin import Split
from mmctl.recipe.layers import parse_sets
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.registry.index import Index
from mmctl.run_folder import journal
from mmctl.run_folder.events import Checkpoint
from mmctl.run_folder.record import Parent, check_own, read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.run_folder.verify import alterations
from mmctl.runs.build import Shared, read_data
from mmctl.runs.check import check_before_start
from mmctl.runs.create import create_run
from mmctl.runs.open import changed_plugins, check_data
from mmctl.runs.past import past_of
from mmctl.runs.progress import tell
from mmctl.runs.provenance import Provenance
from mmctl.training import checkpoint

MAY_CHANGE = ("steps", "save_every", "log_every", "keep", "keep_best")
"""Keys of [train] that an extension may set, beside all of [eval]."""
OWN = ("format", "step", "sha256", "bytes", "tensors")
"""What a manifest says of its file; `publish` writes it anew."""


@dataclass(frozen=True)
class Extension:
    """A checked extension of a run: what it trains, and the checkpoint of its parent from which it starts."""

    parent: Parent
    recipe: Recipe
    saved: checkpoint.Checkpoint
    split: Split

    def hashes(self, recipe: Recipe) -> tuple[str, str]:
        """The hashes of data set and split, for `skip_done`."""
        return self.saved.manifest["data"], self.saved.manifest["split"]

    def create(
        self,
        runs: Path,
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        note: str | None = None,
        provenance: Provenance | None = None,
    ) -> Path:
        """Create the new run, with a copy of the checkpoint: it needs the folder of its parent no more."""

        def add_start(draft: Path, uid: str) -> None:
            facts = {k: v for k, v in self.saved.manifest.items() if k not in OWN} | {"run": uid, "attempt": 1}
            made = checkpoint.publish(draft, self.saved.step, self.saved.tensors, facts)
            journal.append(draft, Checkpoint(step=self.saved.step, reason="start", **made))
            save_split(draft / "split.json", self.split)

        return create_run(
            self.recipe, runs, name=name, tags=tags, note=note, parent=self.parent, provenance=provenance, add=add_start
        )


def check_extension(folder: Path, sets: Sequence[str], shared: Shared | None = None) -> Extension:
    """Check that the run in `folder` can be trained longer; sets: changed settings, as in --set.

    shared: gets the data set, for a run in this process. Raises UserError if the run is not completed, was edited or
    has no good last checkpoint, or if a setting is to be changed that makes it another run.
    """
    _check_keys(sets)
    about = read_record(folder)
    check_own(about, "extended")
    past, step = past_of(folder, about), about["total_steps"]
    if past.state != "completed":
        remedy = "" if past.state == "nc" else f" Finish it first: mmctl resume {folder.name}"
        raise UserError(
            f"--extend: {folder.name} is {past.state or 'queued'}, but only a completed run is extended.{remedy}"
        )
    if found := alterations(folder, about, past.logged):
        raise UserError(
            f"--extend: {folder.name}: edited since the run was created: {'; '.join(found[:4])}. Restore it, or train "
            "its recipe with more steps from the start: mmctl run RECIPE --set train.steps=N"
        )
    saved = checkpoint.read(checkpoint.folder_of(folder, step), past.identity)
    if changes := changed_plugins(about, index := Index()):
        raise UserError(f"--extend: {folder.name}: {'; '.join(changes)}. Restore it.")
    recipe = load_stored(folder / "recipe.toml", upgrade_recipe, index).with_sets(sets)
    if recipe.settings.train.steps <= step:
        raise UserError(
            f"--extend: {folder.name} has {step} steps; give more: --extend {folder.name} --set train.steps={2 * step}"
        )
    split = _checked_split(folder, recipe, saved, shared)
    parent: Parent = {"uid": about["uid"], "step": step, "config_id": about["config_id"], "exact": past.exact}
    return Extension(parent, recipe, saved, split)


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


def _checked_split(folder: Path, recipe: Recipe, saved: checkpoint.Checkpoint, shared: Shared | None) -> Split:
    """The split of the parent; reads the data before a folder is created. UserError if they are not the parent's."""
    if not (folder / "split.json").exists():
        raise UserError(f"--extend: {folder / 'split.json'}: is missing. Restore it.")
    data = read_data(recipe, load_split(folder / "split.json"), shared)
    check_data(folder, data, saved.manifest["data"], saved.manifest["split"])
    for line in check_before_start(recipe, data):
        tell(f"warning: {line}")
    return data.split
