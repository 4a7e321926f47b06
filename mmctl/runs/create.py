"""Creates run folders."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from mmctl import environment, project
from mmctl.errors import EnvironmentFault
from mmctl.filesystem import write_atomic
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder.record import Component, RunRecord, full_metric_name
from mmctl.run_folder.upgrade import FORMAT
from mmctl.run_folder.verify import identity_hash, recipe_hash


def create_run(
    recipe: Recipe, runs: Path, *, name: str | None = None, tags: Sequence[str] = (), note: str | None = None
) -> Path:
    """Create a new folder with the resolved recipe, the source recipe and run.json; EnvironmentFault if it cannot."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    weights = "raw" if recipe.settings.average.kind == "none" else "ema"
    try:
        runs.mkdir(parents=True, exist_ok=True)  # not in the loop below: FileExistsError for `runs` itself is an error
        while True:
            uid = f"{stamp}-{recipe.name}-s{recipe.seed}-{os.urandom(2).hex()}"
            folder = runs / uid
            try:
                folder.mkdir()
                break
            except FileExistsError:
                continue
        about: RunRecord = {
            "format": FORMAT,
            "uid": uid,
            "name": name or recipe.name,
            "recipe": recipe.name,
            "method": recipe.method_name,
            "labeler": recipe.labeler_name,
            "seed": recipe.seed,
            "config_id": recipe.config_id,
            "config": recipe.data,
            "tags": list(tags),
            "note": note or recipe.settings.top.note,
            "created": time.time_ns() // 10**6,
            "total_steps": recipe.settings.train.steps,
            "primary": full_metric_name(recipe.settings.eval.primary, weights),
            "published": recipe.published,
            "command": environment.command(),
            "code": environment.code(),
            "components": cast(list[Component], recipe.components()),
            "environment": {**environment.machine(), "versions": {**environment.versions()}},
            "git": environment.git(project.root()),
        }
        text = recipe.text()
        about |= {"identity": identity_hash(about), "recipe_hash": recipe_hash(text.encode())}
        (folder / "recipe.toml").write_text(text, "utf-8")
        sets = "".join(f"# --set {line}\n" for line in recipe.sets)
        (folder / "source.toml").write_text(recipe.source + ("\n" if sets else "") + sets, "utf-8")
        # run.json is written last and atomically: a folder without it is not a run.
        write_atomic(folder / "run.json", json.dumps(about, indent=1).encode())
    except OSError as error:
        raise EnvironmentFault(
            f"{runs}: cannot create a run folder ({error.strerror}). Use a writable folder with free disk space; "
            "MMCTL_RUNS sets another folder."
        ) from error
    return folder
