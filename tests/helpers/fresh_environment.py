"""A fresh virtual environment that sees the torch and the mmctl of this one, so that nothing is downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from helpers.paths import REPO


def run(*words: str | Path, where: Path, ends: int = 0) -> str:
    """Run a program without the caller's own plugins; its output if it ends with this code."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MMCTL", "PYTEST"))}
    env |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "160"}
    done = subprocess.run(words, cwd=where, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == ends, done.stdout + done.stderr
    return done.stdout


def fresh_environment(folder: Path, *packages: Path) -> Path:
    """The Python of a new virtual environment in which these folders were installed with pip."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", where=folder).strip()
    # This checkout first: what is installed beside torch may be another one.
    shared = dict.fromkeys((str(REPO), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (Path(site) / "shared.pth").write_text("".join(f"{path}\n" for path in shared))
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *packages, where=folder)
    return python
