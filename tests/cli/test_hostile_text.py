"""Text of other people in a run folder or recipe: nothing of it controls the terminal or passes for a message of mmctl.

Every text of a real run (its record, its journal, the manifest and tensor names of its checkpoint, its folder's name)
is replaced in a copy of its own, and every command reads the copies.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from helpers import tiny_project
from helpers.command import Result
from helpers.run_helpers import never
from mmctl.run_folder.events import Alert, Note, Notice, State, Tag
from mmctl.run_folder.journal import append, path_of
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training import checkpoint

Mm = Callable[..., Result]
Edit = Callable[[Any], None]

EVIL = "x\x1b[2J\x1b]0;title\x07\r\x08\x7f\x85\x9b31m\u202e\u2066\u200b\u2028[red]\nFORGED: y"
SETS = ("train.threads=1", "train.steps=4", "train.save_every=2", "train.log_every=2", "eval.every=2")


def wrong(done: Result, *words: object) -> list[object]:
    """What a command printed that it must not: control characters, a forged line, a bug."""
    shown = done.out + done.err
    odd = {c for c in shown if not c.isprintable() and c != "\n" and unicodedata.category(c) != "Zs"}
    forged = any(line.startswith("FORGED") for line in shown.splitlines())
    bad = odd or forged or "a bug in mmctl" in shown or done.code not in (0, 2, 4)
    return (
        [(words, done.code, [line for line in shown.splitlines() if "FORGED" in line or "bug" in line])] if bad else []
    )


def edits(value: Any) -> Iterator[tuple[str, Edit]]:
    """Each text of a JSON value and each key, with a function that replaces it in a copy of the value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inner:
        if isinstance(held, str):
            yield str(key), partial(_put, key)
        if isinstance(key, str):
            yield f"{key}=", partial(_rename, key)
        for name, edit in edits(held):
            yield f"{key}.{name}", partial(_within, key, edit)


def _put(key: str | int, value: Any) -> None:
    value[key] = EVIL


def _rename(key: str, value: Any) -> None:
    value[EVIL] = value.pop(key)


def _within(key: str | int, edit: Edit, value: Any) -> None:
    edit(value[key])


def edited(value: Any, edit: Edit) -> Any:
    made = copy.deepcopy(value)
    edit(made)
    return made


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A trained run, with a line of every kind in its journal."""
    folder = create_run(
        tiny_project.recipe("mixmatch", *SETS), tmp_path / "real", name="tiny", tags=["one"], note="first"
    )
    execute(folder, never)
    append(folder, Note(text="a note"))
    append(folder, Tag(add=["two"], remove=["one"]))
    append(folder, Alert(step=1, name="collapse", text="an alarm"))
    append(folder, Notice(step=1, text="a notice"))
    return folder


def copied(real: Path, runs: Path, uid: str) -> Path:
    """The run under another name."""
    folder = runs / uid
    shutil.copytree(real, folder)
    record = folder / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "uid": uid}))
    return folder


def copies(real: Path, runs: Path) -> dict[str, str]:
    """A copy of the run for each text in its record and journal; id of the copy -> what is edited."""
    found: dict[str, str] = {}

    def copy_of(words: str) -> Path:
        uid = f"20261125-080000-tiny-s0-{len(found):04x}"
        found[uid] = words
        return copied(real, runs, uid)

    about = json.loads((real / "run.json").read_text())
    for name, edit in edits(about):
        folder = copy_of(f"run.json {name}")
        held = json.loads((folder / "run.json").read_text())
        edit(held)
        (folder / "run.json").write_text(json.dumps(held))
    for number in (0, 1):
        lines = [json.loads(line) for line in path_of(real, number).read_text().splitlines()]
        kinds = {line["e"]: n for n, line in enumerate(lines)}
        for kind, n in kinds.items():
            for name, edit in edits(lines[n]):
                folder = copy_of(f"journal {kind} {name}")
                text = "".join(json.dumps(one) + "\n" for one in [*lines[:n], edited(lines[n], edit), *lines[n + 1 :]])
                path_of(folder, number).write_text(text)
    for state in ("failed", "nc", "interrupted", EVIL):
        append(copy_of(f"state {state!r}"), State(state=state, reason=EVIL, code=3, step=4))
    return found


LISTING = (
    ("ls",), ("ls", "--all"), ("ls", "state:failed"), ("ls", "x"), ("ls", "tiny:"), ("ls", "nam:x"), ("ls", "name=x"),
    ("ls", "cfg.optimizer.lrr=1"), ("ls", "cfg.x=1"), ("ls", "test/acuracy>0"), ("ls", "state:x"), ("compare",),
    ("compare", "--per-seed", "--all-keys"), ("compare", "-b", "x"), ("compare", "-b", "tiny"),
    ("compare", "-m", "test/x"), ("show", "x"), ("show", "tiny"), ("show", "2026"), ("resume", "x"), ("evaluate", "x"),
    ("tag", "x"), ("note", "x", "y"), ("db", "check"), ("db", "info"), ("table", "table3"), ("run", "tiny.toml"),
    ("db", "rebuild"),
)  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_no_text_of_a_run_folder_reaches_the_terminal_raw(
    mm: Mm, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    found = copies(real, runs)
    assert len(found) > 150
    (runs / EVIL.replace("/", "")).mkdir()
    shutil.copy(real / "run.json", runs / EVIL.replace("/", "") / "run.json")
    bad = [one for words in LISTING for one in wrong(mm(*words), *words)]
    before = ""
    for uid, what in found.items():
        bad += wrong(mm("show", uid), "show", what) + wrong(mm("diff", uid, before or uid), "diff", what)
        before = uid
    assert bad == []


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_no_text_of_a_run_reaches_the_terminal_when_it_is_used(mm: Mm, real: Path, tmp_path: Path) -> None:
    bad: list[object] = []
    for uid, what in copies(real, tmp_path / "other").items():
        if what.startswith("run.json"):
            folder = tmp_path / "other" / uid
            bad += wrong(mm("evaluate", folder), "evaluate", what) + wrong(mm("resume", folder), "resume", what)
    assert bad == []


def manifests(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each text of the newest manifest and each tensor name, with a function that replaces it."""
    saved = sorted((folder / "checkpoints").glob("step-*"))[-1]
    manifest = json.loads((saved / checkpoint.MANIFEST).read_text())
    few = {**manifest, "tensors": dict(list(manifest["tensors"].items())[:1])}
    for name, edit in edits(few):
        if name not in ("own_sha256", "own_sha256="):
            yield f"manifest {name}", partial(_write, saved, edited(manifest, edit))
    tensors = load_file(saved / checkpoint.STATE)
    for name in [next(iter(tensors)), list(tensors)[-1]]:
        yield f"tensor {name}", partial(_write, saved, manifest, {**tensors, EVIL: tensors[name].clone()})


def _write(saved: Path, manifest: dict[str, Any], tensors: dict[str, Any] | None = None) -> None:
    made = {key: value for key, value in manifest.items() if key != "own_sha256"}
    if tensors is not None:
        save_file(tensors, saved / checkpoint.STATE)
        data = (saved / checkpoint.STATE).read_bytes()
        made |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    made["own_sha256"] = checkpoint._digest(made)
    (saved / checkpoint.MANIFEST).write_text(json.dumps(made))


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_no_text_of_a_checkpoint_reaches_the_terminal_raw(mm: Mm, real: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    names = [name for name, _ in manifests(real)]
    assert len(names) > 20
    bad: list[object] = []
    for number, name in enumerate(names):
        folder = copied(real, runs, f"20261125-080000-tiny-s0-{number:04x}")
        dict(manifests(folder))[name]()
        bad += wrong(mm("evaluate", folder), "evaluate", name) + wrong(mm("resume", folder), "resume", name)
        shutil.rmtree(folder)
    assert bad == []
