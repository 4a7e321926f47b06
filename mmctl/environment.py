"""The machine, software and code of a run: recorded before its first step, compared when it is resumed."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mmctl import redact
from mmctl.cores import available_cores

NO_RESULT = {
    "cli", "completion", "dataset_tools", "download", "exchange", "notebook", "page", "preview", "report", "scaffold",
    "store", "sweep", "tables", "testing", "ui",
}  # fmt: skip
"""Folders that cannot change a result; a change in one does not make the code another one. Training imports only the
index of all runs (store) and the printing (report) of them."""
ENGINE = "MMCTL_ENGINE"
"""Environment variable of a process that a cluster started: the name of the launcher."""
PACKAGES = ("mmctl", "torch", "timm", "numpy", "safetensors", "scikit-learn")


def on_cluster() -> bool:
    """Whether a cluster started this process: it then writes files alone, and never opens the database."""
    return bool(os.environ.get(ENGINE))


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
def code(every: bool = False) -> str:
    """Hash of the source files of mmctl that can change a result, all but those of NO_RESULT; every: of all files."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        inside = file.relative_to(package)
        if every or inside.parts[0] not in NO_RESULT:
            name = inside.as_posix()
            digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def command() -> list[str]:
    """The command line, with *** in place of what looks like a secret."""
    return redact.command([Path(sys.argv[0]).name, *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """Host name, operating system, processor type and number of cores."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": available_cores(),
    }
