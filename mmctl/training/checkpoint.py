"""Checkpoints: each is a folder with a safetensors file and a manifest, written atomically and verified by SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mmctl.errors import EnvironmentFault, MmctlError, ResumeRefused
from mmctl.filesystem import read_file, sync_folder, write_synced
from mmctl.training.manifest import Identity, check_manifest

FORMAT = 1
STATE, MANIFEST = "state.safetensors", "manifest.json"
MAX_MANIFEST = 2**24
"""Bytes; a network of ten thousand tensors needs a tenth of it."""


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


def publish(
    run: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write a checkpoint atomically, even under kill -9 or a power cut; gives its fields for the journal.

    check: called before the checkpoint appears; if it raises an error, the checkpoint does not appear.
    """
    final = folder_of(run, step)
    new, old = final.with_name(f".tmp-{step}-{os.getpid()}"), final.with_name(f".old-{final.name}")
    try:
        new.mkdir(parents=True)
        data = save({k: t.detach().contiguous().cpu() for k, t in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        write_synced(new / STATE, data)
        manifest = {
            "format": FORMAT, "step": step, "sha256": digest, "bytes": len(data), "tensors": _index(tensors), **facts
        }  # fmt: skip
        # The manifest is written last: a folder without a valid one does not count.
        own = _digest(manifest)
        write_synced(new / MANIFEST, json.dumps({**manifest, "own_sha256": own}, indent=1).encode())
        sync_folder(new)
        check()
        if final.exists():  # left by an attempt that was killed after publishing it
            final.rename(old)
        new.rename(final)
        sync_folder(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            _put_back(old)
        raise EnvironmentFault(
            f"{final}: cannot write the checkpoint ({error.strerror or error}). Earlier checkpoints are not affected. "
            "Free disk space or make the folder writable, then resume the run."
        ) from error
    except MmctlError:  # of check
        shutil.rmtree(new, ignore_errors=True)
        raise
    return {"path": path_of(step), "bytes": len(data), "sha256": digest, "manifest": own}


def retain(run: Path, keep: int, best: int | None = None) -> str | None:
    """Delete all checkpoints but the newest `keep` and that of step `best`; returns a warning if that fails for one.

    Training goes on then: the next call tries again.
    """
    try:
        delete(run, [step for step in steps(run)[:-keep] if step != best])
    except OSError as error:
        return f"an old checkpoint could not be deleted ({error}); mmctl tries it again after the next one"
    return None


def delete(run: Path, doomed: Iterable[int]) -> None:
    """Delete the checkpoints after these steps; of one that is a link, the link alone. OSError if that fails."""
    for step in doomed:
        folder = folder_of(run, step)
        # Renamed first, so that a half deleted folder is never taken for a checkpoint.
        folder.rename(folder.with_name(f".del-{folder.name}-{os.getpid()}"))
    for deleted in (run / "checkpoints").glob(".del-*"):
        if deleted.is_symlink():
            deleted.unlink()
        else:
            shutil.rmtree(deleted)


def steps(run: Path) -> list[int]:
    """Steps that have a checkpoint folder, in order; the checkpoints are not verified."""
    found = (p for p in (run / "checkpoints").glob("step-*") if re.fullmatch("step-[0-9]{9,}", p.name) and p.is_dir())
    return sorted(int(p.name[5:]) for p in found if p == folder_of(run, int(p.name[5:])))


def tidy(run: Path) -> None:
    """Remove what attempts left that were killed or whose disk failed; call it while holding the lease of the run."""
    for old in (run / "checkpoints").glob(".old-*"):
        _put_back(old)
    with suppress(OSError):
        delete(run, ())
    for pattern in ("checkpoints/.tmp-*", "checkpoints/.old-*"):
        for unfinished in run.glob(pattern):
            shutil.rmtree(unfinished, ignore_errors=True)
    for pattern in (".*.tmp", "predictions/.*.tmp"):  # of filesystem.write_atomic
        for unfinished in run.glob(pattern):
            with suppress(OSError):
                unfinished.unlink()


def _put_back(old: Path) -> None:
    """Undo the first half of replacing a checkpoint, if the second half did not happen."""
    final = old.with_name(old.name.removeprefix(".old-"))
    if old.exists() and not final.exists():
        old.rename(final)


def newest(run: Path, quarantine: bool = True, identity: Identity | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint, and an error message for each newer one that is damaged (which is renamed).

    If none is valid, none is renamed: otherwise the next attempt would find no checkpoint and start from step 0.
    """
    bad: dict[Path, str] = {}
    for step in reversed(steps(run)):
        folder = folder_of(run, step)
        try:
            found = read(folder, identity)
        except TooNew:
            raise
        except ResumeRefused as error:
            bad[folder] = str(error)
            continue
        if quarantine:
            for damaged in bad:
                set_aside(damaged, "bad")
        return found, list(bad.values())
    return None, list(bad.values())


def set_aside(folder: Path, why: str) -> None:
    """Rename a checkpoint folder, so that it does not count as one any more: WHY-step-000000005."""
    new, n = folder.with_name(f"{why}-{folder.name}"), 1
    while new.exists():
        new, n = folder.with_name(f"{why}-{folder.name}-{n}"), n + 1
    folder.rename(new)


def read(folder: Path, identity: Identity | None = None) -> Checkpoint:
    """Read and verify one checkpoint; ResumeRefused if it is damaged, or is not one of the run that `identity` says."""
    try:
        text = read_file(folder / MANIFEST, MAX_MANIFEST)
        manifest = json.loads(text)
        if type(manifest["format"]) is int and manifest["format"] > FORMAT:
            raise TooNew(
                f"{folder}: written by a newer mmctl (format {manifest['format']}; this mmctl reads formats up to "
                f"{FORMAT}). Upgrade mmctl."
            )
        step = int(folder.name[5:])
        own = manifest.pop("own_sha256")
        logged = identity.manifests.get(step, own) if identity else own
        if own != _digest(manifest) or own != logged:
            raise ResumeRefused(f"{folder}: damaged (the SHA-256 of its manifest does not match).")
        check_manifest(text, step, identity)
        data = read_file(folder / STATE, manifest["bytes"])
        if len(data) != manifest["bytes"] or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise ResumeRefused(f"{folder}: damaged (its size or SHA-256 differs from the manifest).")
        tensors = load(data)
        if _index(tensors) != manifest["tensors"]:
            raise ResumeRefused(f"{folder}: damaged (its tensors are not those that the manifest lists).")
        return Checkpoint(folder, manifest["step"], manifest, tensors)
    except FileNotFoundError as error:
        raise ResumeRefused(f"{folder}: incomplete ({Path(str(error.filename)).name} is missing).") from error
    except PermissionError as error:  # it may be a good one
        raise EnvironmentFault(f"{error.filename}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError, SafetensorError) as error:
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


def _index(tensors: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    return {k: [str(t.dtype), list(t.shape)] for k, t in tensors.items()}
