"""When a run cannot go on as it was, it says what differs and what to do, and nothing is lost or written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers import tiny_project
from helpers.command import Result
from helpers.run_helpers import After, assert_same, events, never, tree
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.record import last_state
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training import checkpoint

Mm = Callable[..., Result]
SETS = ("train.threads=1", "train.save_every=5", "train.steps=12")


def stopped(tmp_path: Path, *sets: str, at: int = 6) -> Path:
    """A run of the tiny recipe that was stopped after some steps."""
    folder = create_run(tiny_project.recipe("supervised", *SETS, *sets), tmp_path / "runs")
    assert execute(folder, After(at)).state == "interrupted"
    return folder


def edit(path: Path, old: str, new: str) -> None:
    """Change a file as a user would between two commands: the next one imports plugins anew."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    for name in [name for name in sys.modules if name.startswith("mmctl.local.")]:
        del sys.modules[name]


def refused(mm: Mm, folder: Path, *says: str) -> str:
    """`mmctl resume` refuses with one paragraph, and leaves the run as it was."""
    before = tree(folder / "checkpoints"), len(events(folder))
    done = mm("resume", folder.name)
    assert done.code == 2, done
    told = [line for line in done.err.splitlines() if not line.startswith("run ")]
    assert len(told) == 1, told
    for text in says:
        assert text in told[0]
    assert "Traceback" not in done.out + done.err
    assert (tree(folder / "checkpoints"), len(events(folder))) == before
    return told[0]


def test_changed_images(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    edit(tmp_path / "plugins" / "tiny.py", 'f"tiny-{n}-{seed}"', 'f"other-{n}-{seed}"')
    refused(mm, folder, "dataset plugins:tiny has changed", "--accept-changes")
    accepted = mm("resume", folder.name, "--accept-changes")
    assert accepted.code == 2, "other pictures are another run, whatever is accepted"
    assert "the data set has changed since the run began" in accepted.err


def test_an_edited_split(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    split = json.loads((folder / "split.json").read_text())
    split["labeled"][0], split["unlabeled"][0] = split["unlabeled"][0], split["labeled"][0]
    (folder / "split.json").write_text(json.dumps(split))
    refused(mm, folder, "split.json: its SHA-256 is not that of its rows", "Restore it: another split is")


def test_another_whole_split(mm: Mm, tmp_path: Path) -> None:
    folder, other = stopped(tmp_path), stopped(tmp_path, "seed=1")
    shutil.copy(other / "split.json", folder / "split.json")
    refused(mm, folder, "split.json: is not the split that the run was trained with")


def test_a_changed_plugin_goes_on_only_when_asked(mm: Mm, tmp_path: Path) -> None:
    folder, whole = stopped(tmp_path), create_run(tiny_project.recipe("supervised", *SETS), tmp_path / "elsewhere")
    execute(whole, never)
    with (tmp_path / "plugins" / "tiny.py").open("a") as file:
        file.write("# a remark\n")
    refused(mm, folder, "(plugins/tiny.py)", "has changed since the run began", "Restore it", "--accept-changes")
    done = mm("resume", folder.name, "--accept-changes", "--quiet")
    assert done.code == 0, done.err
    assert done.err.count("warning:") == 1
    assert [e["exact"] for e in events(folder, "attempt")] == [True, False]
    assert "resumed on different hardware or software" in mm("show", folder.name).out
    assert json.loads(mm("show", folder.name, "--json").out)["run"]["exact"] in (False, 0)
    assert_same(folder, whole)


def test_a_plugin_that_is_gone(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    (tmp_path / "plugins" / "tiny.py").unlink()
    done = mm("resume", folder.name)
    assert done.code == 2
    assert 'no dataset "plugins:tiny"' in done.err
    assert "Traceback" not in done.err


def test_a_checkpoint_of_another_run(mm: Mm, tmp_path: Path) -> None:
    folder, other = stopped(tmp_path), stopped(tmp_path, at=7)
    shutil.copytree(checkpoint.folder_of(other, 8), checkpoint.folder_of(folder, 8))
    done = mm("resume", folder.name, "--quiet")
    assert done.code == 0, done.err
    assert f"run is '{other.name}', but in the run it is '{folder.name}'" in done.err
    assert (folder / "checkpoints" / "bad-step-000000008").is_dir()
    assert [e["from"] for e in events(folder, "attempt")] == [0, 7]


def test_a_checkpoint_of_a_newer_mmctl(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    newest = checkpoint.folder_of(folder, checkpoint.steps(folder)[-1])
    edit(newest / "manifest.json", f'"format": {checkpoint.FORMAT}', '"format": 99')
    refused(mm, folder, "newer mmctl (format 99", "Upgrade")


def test_other_shapes(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    plugin = tmp_path / "plugins" / "tiny.py"
    edit(
        plugin, "in_channels, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6)", "in_channels, 7, 3, 1, 1), nn.BatchNorm2d(7)"
    )
    edit(plugin, "nn.Conv2d(6, 6, 3, 2", "nn.Conv2d(7, 6, 3, 2")
    done = mm("resume", folder.name, "--accept-changes")
    assert done.code == 2
    assert "not a checkpoint of this recipe" in done.err
    assert "layers.0.bias is missing" in done.err


def test_no_whole_checkpoint(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    for step in checkpoint.steps(folder):
        (checkpoint.folder_of(folder, step) / "manifest.json").unlink()
    for _ in range(2):
        refused(mm, folder, "no usable checkpoint", "manifest.json is missing", f"mmctl run {folder}/recipe.toml")


def test_a_damaged_checkpoint_is_told_once(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    newest = checkpoint.folder_of(folder, checkpoint.steps(folder)[-1])
    (newest / "state.safetensors").write_bytes(b"no")
    done = mm("resume", folder.name, "--quiet")
    assert done.code == 0
    warned = [line for line in done.err.splitlines() if line.startswith("warning")]
    assert len(warned) == 1
    assert str(newest) in warned[0]
    assert "resumes from the checkpoint before" in warned[0]


@pytest.mark.parametrize("state", ["completed", "nc"])
def test_a_run_that_is_through(state: str, mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    assert execute(folder, never).state == "completed"
    if state == "nc":
        edit(
            folder / "journal.2.jsonl", '"s":"completed"', '"s":"nc"       '
        )  # of the same length: a shorter journal would be damaged
    refused(mm, folder, f"already finished ({state})")


def test_a_run_that_somebody_holds(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    with Lease(folder):
        told = refused(mm, folder, "is already running: process", "Wait for it")
    assert "mmctl stop" not in told
    assert mm("resume", folder.name, "--quiet").code == 0


def test_a_run_without_its_data_at_the_start_is_not_taken_for_crashed(mm: Mm, tmp_path: Path) -> None:
    folder = create_run(tiny_project.recipe("supervised", *SETS), tmp_path / "runs")
    edit(tmp_path / "plugins" / "tiny.py", '@dataset("tiny")', '@dataset("tinier")')
    done = mm("resume", folder.name)
    assert done.code == 2
    assert last_state(folder) == "failed"
    edit(tmp_path / "plugins" / "tiny.py", '@dataset("tinier")', '@dataset("tiny")')
    assert mm("resume", folder.name, "--quiet").code == 0


def test_the_number_of_threads_is_that_of_the_first_attempt(tmp_path: Path) -> None:
    recipe = tiny_project.recipe("supervised", "train.steps=4", "train.threads=2")
    whole, folder = (create_run(recipe, tmp_path / "runs") for _ in range(2))
    execute(whole, never)
    execute(folder, After(1))
    edit(folder / "recipe.toml", "threads = 2", "threads = 1")  # as a machine with other cores would, without the key
    torch.set_num_threads(1)
    execute(folder, never)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert [(e["threads"], e["exact"]) for e in events(folder, "attempt")] == [(2, True), (2, True)]
    assert_same(folder, whole)


def test_another_torch_or_processor_is_told_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tmp_path, at=3)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
        execute(folder, After(3))
        assert "exact = no" in capfd.readouterr().err
    execute(folder, never)
    assert [e["exact"] for e in events(folder, "attempt")] == [True, False, False]


def test_a_run_is_opened_by_its_folder_from_wherever_one_stands(
    mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(tmp_path)
    monkeypatch.chdir(folder)
    assert mm("resume", ".", "--quiet").code == 0
    assert mm("evaluate", ".").code == 0
    assert (tmp_path / "runs" / "mmctl.db").exists()


def test_a_package_that_is_gone_is_named_with_its_version(mm: Mm, tmp_path: Path) -> None:
    folder = stopped(tmp_path)
    record = json.loads((folder / "run.json").read_text())
    record["components"].append({
        "kind": "labeler", "slot": None, "name": "calmpkg:calm", "origin": "calmpkg", "version": "0.3", "file": None,
        "file_hash": None, "params": {},
    })  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    done = mm("resume", folder.name, "--accept-changes")
    assert done.code == 2, done
    assert "calmpkg 0.3 is not installed, and labeler calmpkg:calm comes from it" in done.err
    assert "pip install calmpkg==0.3" in done.err
