"""The machine, software and code of a run: recorded before its first step, compared when it is resumed."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mmctl.cores import available_cores

PACKAGES = ("mmctl", "torch", "timm", "numpy", "safetensors", "scikit-learn")
SECRET = re.compile(r"(token|secret|password|passwd|api_?key)", re.IGNORECASE)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide results, found without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code() -> str:
    """Hash of the source files of mmctl that can change a result: all but those of commands and reports."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        if not name.startswith(("cli/", "page/", "preview/", "report/", "store/", "tables/")):
            digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def command() -> list[str]:
    """The command line, with *** in place of words that look like a secret."""
    return [("***" if SECRET.search(word) else word) for word in [Path(sys.argv[0]).name, *sys.argv[1:]]]


def machine() -> dict[str, Any]:
    """Host name, operating system, processor type and number of cores."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": available_cores(),
    }


def git(folder: Path) -> dict[str, Any] | None:
    """The commit, and whether tracked files differ from it; None outside a repository or if git takes too long."""
    try:
        run = ["git", "-C", str(folder)]
        commit = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
        if commit.returncode:
            return None
        status = [*run, "status", "--porcelain", "--untracked-files=no"]
        dirty = subprocess.run(status, capture_output=True, text=True, timeout=2, check=False)
        return {"commit": commit.stdout.strip(), "dirty": bool(dirty.stdout.strip())}
    except (OSError, subprocess.TimeoutExpired):
        return None
