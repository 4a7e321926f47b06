"""How to train a run again, and what is different here from there."""

from __future__ import annotations

import shlex
from pathlib import Path

from mmctl import environment
from mmctl.errors import MmctlError
from mmctl.recipe.recipe import load_stored
from mmctl.registry.index import Index
from mmctl.run_folder.record import RunRecord, check_own, read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.build import read_data
from mmctl.runs.open import changed_plugins, check_installed
from mmctl.runs.past import past_of


def command(folder: Path, about: RunRecord) -> str:
    """The command that trains the same recipe again: from the resolved recipe that the run folder keeps."""
    check_own(about, "trained again")
    words = ["mmctl", "run", str(folder / "recipe.toml"), "--force"]
    if parent := about.get("parent"):
        words = ["mmctl", "run", "--extend", parent["uid"], "--set", f"train.steps={about['total_steps']}", "--force"]
    return shlex.join(words)


def differences(folder: Path) -> list[str]:
    """What can make the results differ, each as a sentence: versions, code, git, plugins, data; reads the data."""
    about = read_record(folder)
    past = past_of(folder, about)
    found: list[str] = []
    then = about["environment"].get("versions")
    now = environment.versions()
    for name, version in (then if isinstance(then, dict) else {}).items():
        if now.get(name) != version:
            found.append(f"{name}: {version} there, {now.get(name, 'not installed')} here")
    if about.get("code") != environment.code():
        found.append("code: the source of mmctl is another one")
    git = about.get("git") or {}
    if git.get("dirty"):
        found.append(f"git: the project had changes that are in no commit, after {git.get('commit')}")
    try:
        check_installed(about)
        index = Index()
        found += [f"plugins: {line}" for line in changed_plugins(about, index)]
        recipe = load_stored(folder / "recipe.toml", upgrade_recipe, index)
        data = read_data(recipe)
    except MmctlError as error:
        return [*found, str(error)]
    for what, here, there in (
        ("data", data.digest, past.identity.data), ("split", data.split.sha256, past.identity.split)
    ):  # fmt: skip
        if there and here != there:
            found.append(f"{what}: is another one (SHA-256 {there[:12]} there, {here[:12]} here)")
    return found
