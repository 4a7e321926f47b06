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
from helpers.html_page import HtmlPage, check_page
from helpers.run_helpers import never
from mmctl.errors import UserError
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


def changes(real: Path) -> Iterator[tuple[str, Edit]]:
    """Each text in the record and the journals of the run, with a function that replaces it in a copy of the run."""
    for name, edit in edits(json.loads((real / "run.json").read_text())):
        yield f"run.json {name}", partial(_edit_record, edit)
    for number in (0, 1):
        lines = [json.loads(line) for line in path_of(real, number).read_text().splitlines()]
        for kind, n in {line["e"]: n for n, line in enumerate(lines)}.items():
            for name, edit in edits(lines[n]):
                yield f"journal {kind} {name}", partial(_edit_journal, number, n, edit)
    for state in ("failed", "nc", "interrupted", EVIL):
        yield f"state {state!r}", partial(_end, state)


def _end(state: str, folder: Path) -> None:
    append(folder, State(state=state, reason=EVIL, code=3, step=4))


def _edit_record(edit: Edit, folder: Path) -> None:
    held = json.loads((folder / "run.json").read_text())
    edit(held)
    (folder / "run.json").write_text(json.dumps(held))


def _edit_journal(number: int, n: int, edit: Edit, folder: Path) -> None:
    lines = [json.loads(line) for line in path_of(folder, number).read_text().splitlines()]
    edit(lines[n])
    path_of(folder, number).write_text("".join(json.dumps(line) + "\n" for line in lines))


def copies(real: Path, runs: Path, every: int) -> dict[str, str]:
    """A copy of the run for every n-th of its changes; id of the copy -> what is changed."""
    found: dict[str, str] = {}
    for number, (words, change) in enumerate(list(changes(real))[::every]):
        uid = f"20261125-080000-tiny-s0-{number:04x}"
        change(copied(real, runs, uid))
        found[uid] = words
    return found


def every_or(n: int) -> pytest.MarkDecorator:
    """All changes are tried in the exhaustive tier, every n-th one in the slow tier, every 3n-th one in the default."""
    whole = pytest.param(1, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])
    return pytest.mark.parametrize("every", [whole, pytest.param(n, marks=pytest.mark.slow), 3 * n])


LISTING = (
    ("ls",), ("ls", "--all"), ("ls", "state:failed"), ("ls", "x"), ("ls", "tiny:"), ("ls", "nam:x"), ("ls", "name=x"),
    ("ls", "cfg.optimizer.lrr=1"), ("ls", "cfg.x=1"), ("ls", "test/acuracy>0"), ("ls", "state:x"), ("compare",),
    ("compare", "--per-seed", "--all-keys"), ("compare", "-b", "x"), ("compare", "-b", "tiny"),
    ("compare", "-m", "test/x"), ("show", "x"), ("show", "tiny"), ("show", "2026"), ("resume", "x"), ("evaluate", "x"),
    ("tag", "x"), ("note", "x", "y"), ("db", "check"), ("db", "info"), ("table", "table3"), ("run", "tiny.toml"),
    ("db", "rebuild"), ("report", "--no-images", "--no-embedding"),
    ("report", "--site", "site", "--no-images", "--no-embedding"),
)  # fmt: skip


@every_or(60)
def test_no_text_of_a_run_folder_reaches_the_terminal_raw(mm: Mm, real: Path, tmp_path: Path, every: int) -> None:
    runs = tmp_path / "runs"
    found = copies(real, runs, every)
    assert len(found) * every > 150
    (runs / EVIL.replace("/", "")).mkdir()
    shutil.copy(real / "run.json", runs / EVIL.replace("/", "") / "run.json")
    bad = [one for words in LISTING for one in wrong(mm(*words), *words)]
    for page in (Path("report.html"), *Path("site").iterdir()):
        check_page(HtmlPage.of(page))
    before = ""
    for uid, what in found.items():
        bad += wrong(mm("show", uid), "show", what) + wrong(mm("diff", uid, before or uid), "diff", what)
        before = uid
    assert bad == []


@every_or(100)
def test_no_text_of_a_run_reaches_the_terminal_when_it_is_used(mm: Mm, real: Path, tmp_path: Path, every: int) -> None:
    bad: list[object] = []
    for uid, what in copies(real, tmp_path / "other", every).items():
        if what.startswith("run.json"):
            folder = tmp_path / "other" / uid
            bad += wrong(mm("evaluate", folder), "evaluate", what) + wrong(mm("resume", folder), "resume", what)
    assert bad == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError(EVIL), 1), (OSError(5, EVIL, EVIL), 4), (UserError(EVIL), 2)],
    ids=["a bug", "the system", "the user"],
)
def test_no_traceback_reaches_the_terminal_raw(
    mm: Mm, error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setenv("MMCTL_DEBUG", "1")
    monkeypatch.setattr("mmctl.cli.options.check_words", fails)
    done = mm("ls")
    assert done.code == code
    assert "Traceback" in done.err
    assert not {c for c in done.out + done.err if not c.isprintable() and c not in "\n\u00a0"}


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


@every_or(20)
def test_no_text_of_a_checkpoint_reaches_the_terminal_raw(mm: Mm, real: Path, tmp_path: Path, every: int) -> None:
    runs = tmp_path / "runs"
    names = [name for name, _ in manifests(real)][::every]
    assert len(names) * every > 20
    bad: list[object] = []
    for number, name in enumerate(names):
        folder = copied(real, runs, f"20261125-080000-tiny-s0-{number:04x}")
        dict(manifests(folder))[name]()
        bad += wrong(mm("evaluate", folder), "evaluate", name) + wrong(mm("resume", folder), "resume", name)
        shutil.rmtree(folder)
    assert bad == []
