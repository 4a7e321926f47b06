"""Notes what a run was computed from, before step 0: git, packages, machine, environment variables.

A thread looks at git and the packages while the command reads the data. What it does not find within LIMIT is unknown
and a warning, never an error.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from copy import copy
from importlib import metadata
from pathlib import Path

from mmctl import project
from mmctl.filesystem import write_synced
from mmctl.run_folder.provenance import FILE, PATCH
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.runs.git_state import NAMED, GitState, look
from mmctl.runs.progress import tell
from mmctl.text import one_line, to_json

LIMIT = 4.0
"""Seconds for git in all; git that hangs is given up after those of one call."""
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES", "DNNL_DEFAULT_FPMATH_MODE", "KMP_AFFINITY", "KMP_BLOCKTIME", "LD_PRELOAD", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "OMP_PROC_BIND",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED",
    "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "SLURM_JOB_ID", "TORCHDYNAMO_DISABLE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""Environment variables that are kept: those that can change results. No other one is, since they hold secrets."""


class Provenance:
    """Begins to look at its creation; its methods wait for the end."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: of the project."""
        self.folder = folder or project.root()
        self.differs: dict[str, str] = {}  # id of a configuration -> how it differs from its other runs
        self._state, self._packages = GitState(), dict[str, str]()
        self._end = time.monotonic() + LIMIT
        self._skip = [self.folder / "data", Path(os.path.abspath(project.runs_dir()))]  # noqa: PTH100 - no links
        self._looked = False
        self._settled: GitState | None = None
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._look, name="provenance", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        look(self.folder, self._state, self._end, self._skip)
        self._looked = True
        self._packages = installed_packages()

    @property
    def state(self) -> GitState:
        """What git says; waits until the time limit, and no longer."""
        if self._settled is None:
            self._thread.join(max(0.0, self._end - time.monotonic()) + LIMIT / 4)
            looked, self._settled = self._looked, copy(self._state)
            if not looked and self._settled.problem is None and _unknown(self._settled) != "nothing":
                self._settled.problem = "git took too long"
        return self._settled

    def git(self) -> Config | None:
        """What run.json keeps of git; None outside of a repository."""
        state = self.state
        if not state.is_repository:
            return None
        made: Config = {
            "commit": state.commit, "branch": state.branch, "dirty": state.dirty,
            "changed": None if state.changed is None else len(state.changed),
            "untracked": None if state.untracked is None else len(state.untracked) + state.more_untracked,
            "patch": state.patch_hash,
        }  # fmt: skip
        return made | ({"problem": state.problem} if state.problem else {})

    def warnings(self, config_id: str) -> list[str]:
        """What is unknown of code or packages, and how a run of this configuration differs from its other seeds."""
        lines = []
        if problem := self.state.problem:
            lines = [f"git: {problem}; what of the code is unknown: {_unknown(self.state)}."]
        elif not self._packages:
            lines = ["packages: to list them took too long, so they are not kept."]
        return lines + ([self.differs[config_id]] if config_id in self.differs else [])

    def tell(self, lines: list[str]) -> None:
        """Tell the user, each line once."""
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                tell(f"warning: {line}")

    def write(self, folder: Path) -> None:
        """Write provenance.json, and code.patch if the code has changes that are in no commit."""
        from mmctl.runs.hardware import torch_facts  # imports torch; this thread is to begin before that

        state = self.state
        git: Config = {}
        if state.is_repository:
            changed: list[Setting] = [*(state.changed or [])[:NAMED]]
            untracked: list[Setting] = [
                {"path": one["path"], "bytes": one["bytes"], "sha256": one["sha256"]} for one in state.untracked or []
            ]
            git = {
                "folder": state.prefix, "changed": changed, "left_out": [*state.left_out[:NAMED]],
                "left_out_more": max(0, len(state.left_out) - NAMED), "patch_bytes": len(state.patch),
                "untracked": untracked, "untracked_more": state.more_untracked,
            }  # fmt: skip
        made = {
            "format": 1, "git": git, "hardware": machine_facts(), "torch": torch_facts(),
            "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
            "packages": self._packages,
        }  # fmt: skip
        write_synced(folder / FILE, to_json(made).encode())
        if state.patch:  # comments alone are no patch to git
            top = [f"# Changes of tracked files since commit {state.commit}, that are in no commit."]
            top += [f"# Left out: {one_line(name)}" for name in state.left_out[:NAMED]]
            text = "\n".join(top).encode("ascii", "backslashreplace")[:900] + b"\n"
            write_synced(folder / PATCH, text + state.patch)


def installed_packages() -> dict[str, str]:
    """Every installed package with its version: `1.0 (editable)`, `1.0 (git 1234567)` if it was not from an index.

    By the names of the folders of their metadata, since parsing all metadata takes several times as long.
    """
    found: dict[str, str] = {}
    for one in metadata.distributions():
        try:
            folder = re.fullmatch(r"(.+?)-([^-]+)\.dist-info", getattr(getattr(one, "_path", None), "name", ""))
            name, version = (folder[1], folder[2]) if folder else (one.metadata["Name"], one.version)
            name = re.sub(r"[-_.]+", "-", name).lower()
            if name not in found:  # the first one is imported
                found[name] = version + _source(one.read_text("direct_url.json"))
        except Exception:  # a damaged package
            continue
    return dict(sorted(found.items()))


def _source(direct_url: str | None) -> str:
    """Where a package is from, by PEP 610; never its URL, which can hold a password."""
    about = json.loads(direct_url) if direct_url else {}
    if commit := about.get("vcs_info", {}).get("commit_id"):
        return f" (git {str(commit)[:12]})"
    return " (editable)" if about.get("dir_info", {}).get("editable") else ""


def machine_facts() -> Config:
    """Processor, memory, GPUs and their driver, as the kernel tells; nothing is started on a GPU for it."""
    facts: Config = {}
    for key, path, pattern in (
        ("cpu", "/proc/cpuinfo", r"(?m)^model name\s*:\s*(.+)$"),
        ("driver", "/proc/driver/nvidia/version", r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)"),
    ):
        if (match := re.search(pattern, _read(Path(path)))) is not None:
            facts[key] = match[1].strip()
    if memory := re.search(r"MemTotal:\s+(\d+) kB", _read(Path("/proc/meminfo"))):
        facts["memory"] = int(memory[1]) * 1024
    cards = [_read(path) for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    names = [match[1].strip() for card in cards if (match := re.search(r"Model:\s*(.+)", card))]
    return facts | ({"gpus": [*names]} if names else {})


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _unknown(state: GitState) -> str:
    facts = {
        "commit": state.commit, "changes": state.dirty, "patch": state.patch_hash if state.dirty else "none",
        "untracked files": state.untracked,
    }  # fmt: skip
    return ", ".join(name for name, value in facts.items() if value is None) or "nothing"
