"""A manifest that somebody changed is noticed: the checkpoint before it is used, or the run is refused or not exact."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.run_helpers import After, assert_same, events, never, started
from mmctl.errors import ResumeRefused, UserError
from mmctl.report.results import EvaluationResult
from mmctl.run_folder.record import read_record
from mmctl.runs.evaluate import evaluate_run
from mmctl.runs.execute import execute
from mmctl.runs.past import past_of
from mmctl.training import checkpoint
from mmctl.training.manifest import Identity

Mm = Callable[..., Result]
MISSING = object()
VALUES = (MISSING, None, True, -1, 0, 1, 2, 100_000, 10**30, "2", 1.5, 1e9, [], {}, [1], {"a": 1}, "other")
ELSEWHERE = ("run", "data", "split")
"""Values of these that have the right form."""


def changed(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of the manifest with every value; (what was done, the changed manifest)."""
    keys = [(key,) for key in manifest if key != "own_sha256"]
    keys += [(table, key) for table in ("environment", "training") for key in manifest[table]]
    for path in keys:
        for value in (*VALUES, *(["f" * 64] if path[0] in ELSEWHERE else [])):
            new = json.loads(json.dumps(manifest))
            table = new if len(path) == 1 else new[path[0]]
            if value is MISSING:
                del table[path[-1]]
            elif json.dumps(table[path[-1]]) == json.dumps(value):
                continue
            else:
                table[path[-1]] = value
            yield f"{'.'.join(path)} = {'missing' if value is MISSING else repr(value)}", new


def write(path: Path, manifest: dict[str, Any]) -> None:
    """The manifest with the hash that makes it look whole."""
    manifest = {key: value for key, value in manifest.items() if key != "own_sha256"}
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**manifest, "own_sha256": own}, indent=1))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "stride", [pytest.param(60, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_every_key_of_a_manifest_with_every_value(stride: int, tmp_path: Path) -> None:
    whole, folder = started(tmp_path), started(tmp_path)
    execute(whole, never)
    execute(folder, After(12))  # an evaluation asks four times
    assert checkpoint.steps(folder) == [5, 9]
    path = checkpoint.folder_of(folder, 9) / "manifest.json"
    manifest = json.loads(path.read_text())
    cases = dict(changed(manifest))
    assert len(cases) > 400
    identity = past_of(folder, read_record(folder)).identity
    assert [what for what, new in cases.items() if is_read(path, new, identity)] == []
    # A journal of an older mmctl, or one that was killed in between, has no hash of the manifest.
    log = folder / "journal.1.jsonl"
    log.write_text(log.read_text().replace('"manifest":', '"other":'))
    identity = past_of(folder, read_record(folder)).identity
    assert (identity.run, identity.threads, identity.precision) == (folder.name, 1, "fp32")
    accepted = {what: new for what, new in cases.items() if is_read(path, new, identity)}
    refused = {what: new for what, new in cases.items() if what not in accepted}
    assert len(refused) > 350
    # What has the right form and contradicts nothing: comments, counters of alarms, and a machine that is not this one.
    harmless = {"attempt", "reason", "mmctl", "training.told", "training.in_a_row", "training.judged"}
    elsewhere = {"environment.device", "environment.isa", "environment.code", "environment.versions"}
    assert {what.split(" =")[0] for what in accepted} <= harmless | elsewhere | {"training.unsaved"}
    write(path, manifest)
    good = evaluate_run(folder, "last", None, None, "head")
    for what in [*list(refused)[::stride], *list(accepted)[::stride]]:
        run = tmp_path / "changed" / folder.name
        shutil.copytree(folder, run)
        write(checkpoint.folder_of(run, 9) / "manifest.json", cases[what])
        found = evaluated(run)
        assert found is None or not found["exact"] or found["metrics"] == good["metrics"], what
        try:
            assert execute(run, never).state == "completed", what
        except checkpoint.TooNew:
            assert what.startswith("format"), what
        else:
            last = events(run, "attempt")[-1]
            assert last["from"] == (5 if what in refused else 9), what
            # Without the list, as an older mmctl wrote it, nothing is known to be lost.
            whole_state = what == "training.unsaved = missing"
            key = what.split(" =")[0]
            inexact = key in elsewhere | {"training.unsaved"} and not whole_state
            assert last["exact"] == (what in refused or not inexact), what
            if last["exact"]:
                assert_same(run, whole)
        shutil.rmtree(run.parent)


def is_read(path: Path, manifest: dict[str, Any], identity: Identity) -> bool:
    write(path, manifest)
    try:
        checkpoint.read(path.parent, identity)
    except ResumeRefused:
        return False
    return True


def evaluated(run: Path) -> EvaluationResult | None:
    """None = refused; any other error is a bug."""
    try:
        return evaluate_run(run, "last", None, None, "head")
    except UserError:
        return None


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name",
    ["step-\u00b2", "step-\u0663", "step-5", "step-0000000005", "step-00000000\u0665", "step--00000001", "step-"],
)
def test_only_the_names_that_mmctl_writes_are_checkpoints(name: str, mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, After(9))
    shutil.copytree(checkpoint.folder_of(folder, 6), folder / "checkpoints" / name)
    assert checkpoint.steps(folder) == [5, 6]
    assert mm("evaluate", folder.name).code == 0
    done = mm("resume", folder.name, "--quiet")
    assert (done.code, "warning" in done.err) == (0, False), done.err


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "huge", "device", "deep"])
def test_what_is_no_file_is_not_read(name: str, kind: str, mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    execute(folder, After(9))
    path = checkpoint.folder_of(folder, 6) / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.touch()
        os.truncate(path, 2**42)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("[" * 10**6)
    refused = mm("evaluate", folder.name)
    assert refused.code == 2
    assert "step-000000006: damaged" in refused.err
    done = mm("resume", folder.name, "--quiet")
    assert done.code == 0, done.err
    assert done.err.count("It was renamed; training resumes from the checkpoint before it.") == 1
