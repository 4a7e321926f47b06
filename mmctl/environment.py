"""What a run ran on and with: recorded before the first step, compared when it is resumed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("mmctl", "torch", "torchvision", "timm", "numpy", "safetensors", "scikit-learn")
SECRET = re.compile(r"(token|secret|password|passwd|api_?key)", re.IGNORECASE)


def versions() -> dict[str, str]:
    """Installed versions of what decides results, found without importing any of it."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code() -> str:
    """Hash of mmctl's own source files: the same number only where the same program computes."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        if not name.startswith(("cli/", "shipped/")):
            digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def command() -> list[str]:
    """The command line, with what looks like a secret left out."""
    return [("***" if SECRET.search(word) else word) for word in [Path(sys.argv[0]).name, *sys.argv[1:]]]


def machine() -> dict[str, Any]:
    """The computer, as far as it may matter."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def git(folder: Path) -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it; None outside a repository or when git takes too long."""
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
