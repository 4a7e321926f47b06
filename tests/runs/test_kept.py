"""The checkpoints on the disk: verified, pruned through kill -9, copied; a run trained again; this machine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.processes import dies_at
from helpers.run_helpers import tree
from mmctl.errors import EnvironmentFault, ResumeRefused, UserError
from mmctl.run_folder.lease import Lease
from mmctl.runs.create import create_run
from mmctl.runs.kept import copy, prune, verify
from mmctl.training import checkpoint

Mm = Callable[..., Result]
SETS = ("train.threads=1", "train.steps=12", "train.save_every=3", "train.keep=4", "eval.every=3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_project.trained("supervised", SETS, tmp_path_factory.mktemp("trained"))
    assert checkpoint.steps(made) == [3, 6, 9, 12]
    return made


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    tiny_project.written("supervised")
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


def test_prune_keeps_the_newest_and_what_is_asked_for(folder: Path) -> None:
    before = tree(folder / "checkpoints")
    would = prune(folder, [6], dry_run=True)
    assert (list(would.deleted), would.kept) == ([3, 9], [6, 12])
    assert all(size > 1000 for size in would.deleted.values())
    assert tree(folder / "checkpoints") == before
    assert prune(folder, [6]) == would
    assert checkpoint.steps(folder) == [6, 12]
    assert verify(folder) == {6: "", 12: ""}


def test_a_step_that_is_nowhere_deletes_nothing(folder: Path, mm: Mm) -> None:
    done = mm("checkpoints", "prune", "@last", "--keep", "6", "--keep", "100")
    assert done.code == 2
    assert "--keep 100: no chosen run has this checkpoint (there are: 3, 6, 9, 12)" in done.err
    assert checkpoint.steps(folder) == [3, 6, 9, 12]


def test_a_checkpoint_that_cannot_be_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("mmctl.training.checkpoint.shutil.rmtree", fail)
        with pytest.raises(EnvironmentFault, match="Input/output error"):
            prune(folder)
    assert checkpoint.steps(folder) == [12]
    (folder / "checkpoints" / ".del-step-000000001-1").symlink_to(folder)
    prune(folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000012"]
    assert (folder / "run.json").is_file()


def test_verify_while_the_training_deletes_old_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = checkpoint.read

    def meanwhile(where: Path, *more: Any) -> checkpoint.Checkpoint:
        checkpoint.retain(folder, 1)
        return read(where, *more)

    monkeypatch.setattr("mmctl.training.checkpoint.read", meanwhile)
    assert verify(folder) == {12: ""}
    (checkpoint.folder_of(folder, 12) / checkpoint.STATE).unlink()
    assert "incomplete" in verify(folder)[12]


@pytest.mark.parametrize("after", [False, True])
def test_kill_9_in_prune_leaves_whole_checkpoints(folder: Path, after: bool) -> None:
    for n in range(1, 9):
        died = dies_at(n, after, partial(prune, folder))  # type: ignore[arg-type]
        assert set(verify(folder).values()) == {""}
        assert checkpoint.steps(folder)[-1] == 12
        if not died:
            break
    prune(folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000012"]


def test_what_a_killed_prune_left_goes_with_the_next(folder: Path) -> None:
    n = 1
    while dies_at(n, True, partial(prune, folder)):  # type: ignore[arg-type]
        if list((folder / "checkpoints").glob(".del-*")):
            break
        n += 1
    before = tree(folder / "checkpoints")
    prune(folder, dry_run=True)
    assert tree(folder / "checkpoints") == before
    prune(folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000012"]


def test_prune_refuses_where_an_older_checkpoint_may_be_needed(folder: Path, tmp_path: Path) -> None:
    with Lease(folder), pytest.raises(UserError, match="is running"):
        prune(folder)
    state = checkpoint.folder_of(folder, 12) / checkpoint.STATE
    good = state.read_bytes()
    state.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ResumeRefused, match="damaged"):
        prune(folder)
    assert "SHA-256" in verify(folder)[12]
    assert checkpoint.steps(folder) == [3, 6, 9, 12]
    with pytest.raises(ResumeRefused, match="damaged"):
        copy(folder, "12", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
    checkpoint.folder_of(folder, 12).rename(tmp_path / "aside")
    with pytest.raises(ResumeRefused, match="missing"):
        prune(folder)
    assert "is missing" in verify(folder)[12]
    (tmp_path / "outside").mkdir()
    (folder / "checkpoints").rename(tmp_path / "outside" / "checkpoints")
    (folder / "checkpoints").symlink_to(tmp_path / "outside" / "checkpoints")
    with pytest.raises(UserError, match="is a link"):
        prune(folder)


def test_copy(folder: Path, tmp_path: Path) -> None:
    made = copy(folder, "6", tmp_path / "weights")
    assert sorted(path.name for path in made.iterdir()) == ["manifest.json", "recipe.toml", "state.safetensors"]
    with pytest.raises(UserError, match="exists and is no folder"):
        copy(folder, "6", made / "manifest.json")
    inside = copy(folder, "last", tmp_path / "weights")
    assert inside.parent == made
    with pytest.raises(UserError, match="exists already"):
        copy(folder, "last", tmp_path / "weights")


@pytest.mark.slow
def test_the_commands(folder: Path, mm: Mm, tmp_path: Path) -> None:
    assert "4 checkpoints" in mm("checkpoints", "ls").out
    assert mm("checkpoints", "verify").out == "4 checkpoints, nothing wrong\n"
    assert mm("checkpoints", "prune", "@last", "--keep", "3").code == 0
    assert json.loads(mm("checkpoints", "ls", "--json").out)["checkpoints"][0]["step"] == 3
    (checkpoint.folder_of(folder, 3) / checkpoint.STATE).unlink()
    assert mm("checkpoints", "verify").code == 4
    other = create_run(tiny_project.recipe("supervised", *SETS).with_seed(1), tmp_path / "runs")
    both = mm("evaluate", folder.name, other.name)  # the second one was never trained
    assert both.code == 6
    assert folder.name in both.out
    assert other.name in both.err
    found = json.loads(mm("evaluate", "state:completed", folder.name, "--json").out)
    assert found["step"] == 12
    assert mm("evaluate", "state:completed", "--min", "1").code == 7
    assert mm("evaluate", "state:failed").code == 2


def test_reproduce_says_what_differs(folder: Path, mm: Mm) -> None:
    same = json.loads(mm("reproduce", "@last", "--json").out)
    assert same["differences"] == []
    assert same["command"] == f"mmctl run {folder / 'recipe.toml'} --force"
    plugin = Path("plugins/tiny.py")
    plugin.write_text(plugin.read_text() + "\n")
    journal = folder / "journal.1.jsonl"
    journal.write_text(re.sub(r'"data_hash":"....', '"data_hash":"0000', journal.read_text()))
    record = json.loads((folder / "run.json").read_text())
    record["environment"]["versions"]["torch"] = "1.0"
    record["code"] = "0"
    (folder / "run.json").write_text(json.dumps(record))
    text = mm("reproduce", "@last").out
    for words in (
        "torch: 1.0 there",
        "code: the source",
        "plugins: dataset plugins:tiny has changed",
        "data: is another",
    ):
        assert words in text, text


def test_doctor(folder: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    good = mm("doctor", "--json")
    assert good.code == 0, good.out
    names = [one["name"] for one in json.loads(good.out)["checks"]]
    assert {"python", "torch", "device", "disk", "file system", "sqlite", "terminal", "plugins", "data"} <= {*names}
    Path("plugins/broken.py").write_text("from mmctl.plugin import loss\n\n\n@loss('bad')\nclass Bad(:\n")
    (folder / "run.json").write_text("[")
    monkeypatch.setattr("mmctl.runs.doctor.ROOM", 10**18)
    bad = mm("doctor")
    assert bad.code == 4
    assert [line.split()[1] for line in bad.out.splitlines() if line.startswith("WRONG")] == ["disk", "runs", "plugins"]
    assert "Traceback" not in bad.out + bad.err
