"""The file provenance.json of a run: packages, machine, torch, environment variables, files changed and untracked.

It is made once, before step 0. Listings do not read it: what they need is in run.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmctl.filesystem import read_file
from mmctl.run_folder.upgrade import Config
from mmctl.run_folder.values import DEPTH, deeper_than, text, whole

FILE = "provenance.json"
PATCH = "code.patch"
SIZE = 2**24
"""A larger file is not read, in bytes."""


def read_provenance(folder: Path) -> Config:
    """What the file says; empty for a run of an older version, or where the file cannot be read."""
    try:
        found = json.loads(read_file(folder / FILE, SIZE))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and not deeper_than(found, DEPTH) else {}


def packages_of(found: Config) -> dict[str, str]:
    """Package -> its version; empty if that is not known."""
    packages = found.get("packages")
    return {name: text(version) for name, version in packages.items()} if isinstance(packages, dict) else {}


def has_patch(folder: Path) -> bool:
    """Whether the changes of the code that were in no commit are there, as a patch; one of comments alone is none."""
    git = read_provenance(folder).get("git")
    return (folder / PATCH).is_file() and not (isinstance(git, dict) and whole(git.get("patch_bytes")) == 0)
