"""Creates run folders."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from mmctl import environment, redact
from mmctl.errors import EnvironmentFault
from mmctl.filesystem import share, sync_folder, write_synced
from mmctl.identity import config_id_of
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder import journal
from mmctl.run_folder.events import Alert
from mmctl.run_folder.record import Component, Parent, RunRecord, full_metric_name
from mmctl.run_folder.trash import ABANDONED, DRAFTS
from mmctl.run_folder.upgrade import FORMAT
from mmctl.run_folder.verify import identity_hash, recipe_hash
from mmctl.runs.provenance import Provenance
from mmctl.text import to_json


def create_run(
    recipe: Recipe,
    runs: Path,
    *,
    name: str | None = None,
    tags: Sequence[str] = (),
    note: str | None = None,
    parent: Parent | None = None,
    provenance: Provenance | None = None,
    add: Callable[[Path, str], None] = lambda draft, uid: None,
) -> Path:
    """Create a new folder with the resolved recipe, the source recipe and run.json.

    parent: the run that it extends; provenance: what began to look at the code while the data were read; add: called
    with the unfinished folder and the id of the run, to add files.

    It gets its name when it is complete; EnvironmentFault if that fails, and then nothing of it is left.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    weights = "raw" if recipe.settings.average.kind == "none" else "ema"
    mine: Path | None = None
    provenance = provenance or Provenance()
    try:
        runs.mkdir(parents=True, exist_ok=True)  # not in the loop below: FileExistsError for `runs` itself is an error
        while True:
            uid = f"{stamp}-{recipe.name}-s{recipe.seed}-{os.urandom(2).hex()}"
            folder, draft = runs / uid, runs / f"{DRAFTS}{uid}"  # readers of runs/ skip names with a dot
            with suppress(FileExistsError):
                draft.mkdir()
                mine = draft
                share(draft)
                if not folder.exists():
                    break
                draft.rmdir()
        _remove_abandoned(draft)
        about: RunRecord = {
            "format": FORMAT,
            "uid": uid,
            "name": name or recipe.name,
            "recipe": recipe.name,
            "method": recipe.method_name,
            "labeler": recipe.labeler_name,
            "seed": recipe.seed,
            "config_id": config_id_of(recipe.data, recipe.components(), parent=parent),
            "config": recipe.data,
            "tags": list(tags),
            "note": redact.text(note) if note else recipe.settings.top.note,
            "created": time.time_ns() // 10**6,
            "total_steps": recipe.settings.train.steps,
            "primary": full_metric_name(recipe.settings.eval.primary, weights),
            "published": recipe.published if parent is None else None,  # no published result is of an extended run
            "command": environment.command(),
            "code": environment.code(),
            "components": cast(list[Component], recipe.components()),
            "environment": {**environment.machine(), "versions": {**environment.versions()}},
            "git": provenance.git(),
        }
        if parent is not None:
            about["parent"] = parent
        text = recipe.text()
        about |= {"identity": identity_hash(about), "recipe_hash": recipe_hash(text.encode())}
        write_synced(draft / "recipe.toml", text.encode())
        write_synced(draft / "source.toml", _source(recipe).encode())
        write_synced(draft / "run.json", to_json(about, indent=1).encode())
        provenance.write(draft)
        for line in (lines := provenance.warnings(about["config_id"])):
            journal.append(draft, Alert(step=0, name="provenance", text=line))
        add(draft, uid)
        sync_folder(draft)
        mine = draft.rename(folder)
        sync_folder(runs)
    except BaseException as error:
        if mine:
            shutil.rmtree(mine, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise EnvironmentFault(
            f"{runs}: cannot create a run folder ({error.strerror or error}). Use a writable folder with free disk "
            "space; MMCTL_RUNS sets another folder."
        ) from error
    provenance.tell(lines)
    return folder


def _source(recipe: Recipe) -> str:
    """The recipe file, and what --set changed, as comments."""
    sets = redact.text("".join(f"# --set {line}\n" for line in recipe.sets))
    # A comment may hold anything. The values were checked, and stay TOML, but for those that others replaced.
    replaced = any(redact.in_settings(recipe.layers.source.data))
    return (redact.text if replaced else redact.comments)(recipe.source) + ("\n" if sets else "") + sets


def _remove_abandoned(draft: Path) -> None:
    """Remove the drafts of processes that were killed: those that are an hour older than this one."""
    made = draft.stat().st_mtime
    for other in draft.parent.glob(f"{DRAFTS}*"):
        with suppress(OSError):
            if made - other.stat().st_mtime > ABANDONED:
                shutil.rmtree(other)
