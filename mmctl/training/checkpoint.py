"""Checkpoints: each is a folder with a safetensors file and a manifest, written atomically and verified by SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mmctl.errors import EnvironmentFault, ResumeRefused
from mmctl.filesystem import sync_folder, write_synced

FORMAT = 1
STATE, MANIFEST = "state.safetensors", "manifest.json"


class TooNew(ResumeRefused):
    """The checkpoint was written by a newer mmctl; it is not damaged."""


class Checkpoint(NamedTuple):
    """A checkpoint that was read and verified."""

    folder: Path
    step: int
    manifest: dict[str, Any]
    tensors: dict[str, Tensor]


def path_of(step: int) -> str:
    """The path of the checkpoint after `step` steps, from the run folder on."""
    return f"checkpoints/step-{step:09d}"


def folder_of(run: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return run / path_of(step)


def publish(run: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a checkpoint atomically, even under kill -9 or a power cut; gives its fields for the journal."""
    final = folder_of(run, step)
    new = final.with_name(f".tmp-{step}-{os.getpid()}")
    try:
        new.mkdir(parents=True)
        data = save({k: t.detach().contiguous().cpu() for k, t in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        write_synced(new / STATE, data)
        index = {k: [str(t.dtype), list(t.shape)] for k, t in tensors.items()}
        manifest = {"format": FORMAT, "step": step, "sha256": digest, "bytes": len(data), "tensors": index, **facts}
        # The manifest is written last: a folder without a valid one does not count.
        write_synced(new / MANIFEST, json.dumps({**manifest, "own_sha256": _digest(manifest)}, indent=1).encode())
        sync_folder(new)
        if final.exists():  # left by an attempt that was killed after publishing it, or set aside as damaged
            _discard(final)
        new.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise EnvironmentFault(
            f"{final}: cannot write the checkpoint ({error.strerror or error}). Earlier checkpoints are not affected. "
            "Free disk space or make the folder writable, then resume the run."
        ) from error
    return {"path": path_of(step), "bytes": len(data), "sha256": digest}


def retain(run: Path, keep: int) -> None:
    """Delete all checkpoints but the newest `keep`, oldest first."""
    for step in steps(run)[:-keep]:
        _discard(folder_of(run, step))


def steps(run: Path) -> list[int]:
    """Steps that have a checkpoint folder, in order; the checkpoints are not verified."""
    names = (p.name for p in (run / "checkpoints").glob("step-*") if p.is_dir())
    return sorted(int(name[5:]) for name in names if name[5:].isdigit())


def tidy(run: Path) -> None:
    """Delete unfinished folders of attempts that were killed; call it while holding the lease of the run."""
    for pattern in (".tmp-*", ".del-*"):
        for unfinished in (run / "checkpoints").glob(pattern):
            shutil.rmtree(unfinished, ignore_errors=True)


def newest(run: Path, quarantine: bool = True) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint, and an error message for each newer one that is damaged (which is renamed).

    If none is valid, none is renamed: otherwise the next attempt would find no checkpoint and start from step 0.
    """
    bad: dict[Path, str] = {}
    for step in reversed(steps(run)):
        folder = folder_of(run, step)
        try:
            found = read(folder)
        except TooNew:
            raise
        except ResumeRefused as error:
            bad[folder] = str(error)
            continue
        if quarantine:
            for damaged in bad:
                _rename_damaged(damaged)
        return found, list(bad.values())
    return None, list(bad.values())


def _rename_damaged(folder: Path) -> None:
    new, n = folder.with_name(f"bad-{folder.name}"), 1
    while new.exists():
        new, n = folder.with_name(f"bad-{folder.name}-{n}"), n + 1
    folder.rename(new)


def read(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint; raises ResumeRefused if it is damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] > FORMAT:
            raise TooNew(
                f"{folder}: written by a newer mmctl (format {manifest['format']}; this mmctl reads formats up to "
                f"{FORMAT}). Upgrade mmctl."
            )
        if manifest.pop("own_sha256") != _digest(manifest):
            raise ResumeRefused(f"{folder}: damaged (the SHA-256 of its manifest does not match).")
        data = (folder / STATE).read_bytes()
        if len(data) != manifest["bytes"] or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise ResumeRefused(f"{folder}: damaged (its size or SHA-256 differs from the manifest).")
        return Checkpoint(folder, int(manifest["step"]), manifest, load(data))
    except FileNotFoundError as error:
        raise ResumeRefused(f"{folder}: incomplete ({Path(str(error.filename)).name} is missing).") from error
    except (ValueError, KeyError, TypeError, OSError, RecursionError, SafetensorError) as error:
        raise ResumeRefused(f"{folder}: damaged ({type(error).__name__}: {error}).") from error


@torch.no_grad()
def copy_into(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], where: Path) -> None:
    """Copy the saved tensors into the live ones; names, shapes and types must be the same on both sides."""
    problems = [f"{k} is missing" for k in live if k not in saved] + [f"{k} is unknown" for k in saved if k not in live]
    problems += list(_shapes(live, saved))
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ResumeRefused(
            f"{where}: not a checkpoint of this recipe: {'; '.join(problems[:3])}{more}. A component was changed "
            "after the checkpoint was written; start a new run with `mmctl run`."
        )
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def _shapes(live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> Iterator[str]:
    for k in sorted(live.keys() & saved.keys()):
        old, new = ((str(t.dtype).removeprefix("torch."), list(t.shape)) for t in (saved[k], live[k]))
        if old != new:
            yield f"{k} is {old[0]} {old[1]} in the checkpoint and {new[0]} {new[1]} in the recipe"


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _discard(folder: Path) -> None:
    deleted = folder.with_name(f".del-{folder.name}-{os.getpid()}")
    shutil.rmtree(deleted, ignore_errors=True)
    folder.rename(deleted)
    shutil.rmtree(deleted, ignore_errors=True)
