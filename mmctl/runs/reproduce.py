"""What is different here from where a run was trained."""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path

from mmctl import environment, project
from mmctl.errors import MmctlError
from mmctl.filesystem import read_file
from mmctl.recipe.recipe import load_stored
from mmctl.registry.index import Index
from mmctl.run_folder.provenance import PATCH, has_patch, packages_of, read_provenance
from mmctl.run_folder.record import RunRecord, read_record
from mmctl.run_folder.upgrade import Config, upgrade_recipe
from mmctl.run_folder.values import words
from mmctl.runs.build import read_data
from mmctl.runs.git_state import FILE_SIZE, GitState, look
from mmctl.runs.open import changed_plugins, check_installed
from mmctl.runs.past import past_of
from mmctl.runs.provenance import LIMIT, installed_packages

SHOWN = 5
"""Packages and files that a line names."""


def preparations(folder: Path, about: RunRecord, here: GitState) -> list[str]:
    """The commands that bring the code of the project to where it was: none if it is there; here: what git says now."""
    git = about.get("git") or {}
    commit, lines = git.get("commit"), list[str]()
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40,64}", commit):
        return []
    if commit != here.commit:
        lines.append(f"git checkout {commit}")
    if git.get("dirty") and has_patch(folder) and (lines or git.get("patch") != here.patch_hash):
        above = bool(_files(folder).get("folder"))  # git leaves out what is outside of the current folder
        top = '-C "$(git rev-parse --show-toplevel)" ' if above else ""
        lines.append(f"git {top}apply {shlex.quote(str((folder / PATCH).absolute()))}")
    return lines


def code_here() -> GitState:
    """What git says of the project now."""
    look(project.root(), state := GitState(), time.monotonic() + LIMIT)
    return state


def differences(folder: Path, here: GitState | None = None) -> list[str]:
    """What can make the results differ, each as a sentence: versions, code, git, plugins, data; reads the data.

    here: what git says now, if it was asked already.
    """
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
    found += _packages(folder, versions=then if isinstance(then, dict) else {})
    found += _git(folder, about, here or code_here())
    try:
        check_installed(about)
        index = Index()
        found += [f"plugins: {line}" for line in changed_plugins(about, index)]
        recipe = load_stored(folder / "recipe.toml", upgrade_recipe, index)
        data = read_data(recipe)
    except MmctlError as error:
        return [*found, str(error)]
    for what, now_hash, there in (
        ("data", data.digest, past.identity.data), ("split", data.split.sha256, past.identity.split)
    ):  # fmt: skip
        if there and now_hash != there:
            found.append(f"{what}: is another one (SHA-256 {there[:12]} there, {now_hash[:12]} here)")
    return found


def _packages(folder: Path, versions: Container[str]) -> Iterator[str]:
    """The packages that differ, without those that were compared by `versions` already."""
    if not (then := packages_of(read_provenance(folder))):
        return
    now = installed_packages()
    differ = [
        f"{name} {then.get(name, 'absent')} there, {now.get(name, 'absent')} here"
        for name in sorted({*then, *now} - {"mmctl"})
        if then.get(name) != now.get(name) and name not in versions
    ]
    if differ:
        yield f"packages: {_some(differ, '; ')}"


def _git(folder: Path, about: RunRecord, here: GitState) -> Iterator[str]:
    """How the code of the project differs, beyond what `preparations` brings back."""
    git, files = about.get("git") or {}, _files(folder)
    commit = git.get("commit")
    if git.get("problem"):
        yield f"git: not all is known of the code there: {git['problem']}"
    if here.problem:
        yield f"git: not all is known of the code here: {here.problem}"
    if commit and commit != here.commit:
        yield f"git: commit {str(commit)[:12]} there, {here.commit[:12] if here.commit else 'none'} here"
    if git.get("dirty") and git.get("patch") != here.patch_hash:
        lacking = words(files.get("left_out"))
        where = "" if has_patch(folder) else "; they were not kept"
        yield (
            f"git: uncommitted changes there{where}"
            + (f"; not in {PATCH}: {_some(lacking, '; ')}" if lacking else "")
        )  # fmt: skip
    if here.dirty and git.get("patch") != here.patch_hash:
        yield f"git: uncommitted changes here: {_some(here.changed or [], ', ')} (git stash puts them aside)"
    root, changed = project.root().resolve(), list[str]()
    untracked = files.get("untracked")
    for one in untracked if isinstance(untracked, list) else []:
        path = root / str(one.get("path")) if isinstance(one, dict) else root
        now = None
        with suppress(OSError, ValueError, RuntimeError):  # not there; or a path from anywhere
            if path.resolve().is_relative_to(root):
                now = hashlib.sha256(read_file(path, FILE_SIZE)).hexdigest()
        if isinstance(one, dict) and one.get("sha256") and one["sha256"] != now:
            changed.append(f"{one.get('path')} ({'another one' if now else 'not here'})")
    if changed:
        yield f"code that git does not know: {_some(changed, ', ')}"


def _files(folder: Path) -> Config:
    found = read_provenance(folder).get("git")
    return found if isinstance(found, dict) else {}


def _some(names: list[str], between: str) -> str:
    more = f"{between}and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more
