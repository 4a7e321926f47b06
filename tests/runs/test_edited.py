"""A run folder that was edited, or lost a part, is refused; what the user accepts is never shown as exact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.run_helpers import After, assert_same, events, never, started, tree
from mmctl.runs.execute import execute
from mmctl.training import checkpoint

Mm = Callable[..., Result]


def toml(old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "recipe.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return edit


def record(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "run.json"
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))

    return edit


def both(folder: Path) -> None:
    """The same edit in both files, so that neither contradicts the other."""
    toml("lr = 0.1", "lr = 0.2")(folder)
    record(lambda about: about["config"]["optimizer"].update(lr=0.2))(folder)


EDITS = {
    "lr": toml("lr = 0.1", "lr = 0.2"),
    "steps": toml("steps = 12", "steps = 13"),
    "seed": toml("seed = 0", "seed = 1"),
    "labels": toml("labels = 30", "labels = 27"),
    "record lr": record(lambda about: about["config"]["optimizer"].update(lr=0.2)),
    "record steps": record(lambda about: about.update(total_steps=9)),
    "record seed": record(lambda about: about.update(seed=1)),
    "record config_id": record(lambda about: about.update(config_id="0" * 12)),
    "both": both,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that was stopped after step 6; its newest checkpoint is that of step 6."""
    made = started(tmp_path, "eval.every=12", "split.unlabeled=rest")
    execute(made, After(5))
    return made


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The same run, never stopped."""
    made = started(tmp_path, "eval.every=12", "split.unlabeled=rest")
    execute(made, never)
    return made


def ends_as(whole: Path, folder: Path, mm: Mm, option: str) -> list[tuple[int, bool]]:
    """Resume a run with an option, to the end of the whole one. First step of each attempt, and whether it is exact."""
    done = mm("resume", folder.name, option, "--quiet")
    assert done.code == 0, done.err
    assert_same(folder, whole)
    return [(e["from"], e["exact"]) for e in events(folder, "attempt")]


@pytest.mark.sampled(9, 3)
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_run(name: str, mm: Mm, folder: Path) -> None:
    EDITS[name](folder)
    before = tree(folder / "checkpoints"), events(folder)
    for command in ("resume", "evaluate"):
        refused = mm(command, folder.name)
        assert refused.code == 2, refused
        assert "edited since the run was created: " in refused.err
        assert ("run.json: " if name == "both" or name.startswith("record") else "recipe.toml: ") in refused.err
        assert f"`mmctl {command} {folder.name} --accept-changes`" in refused.err
        assert (tree(folder / "checkpoints"), events(folder)) == before
    judged = mm("evaluate", folder.name, "--json", "--accept-changes")
    if judged.code == 0:
        found = json.loads(judged.out)
        assert not found["exact"]
        assert found["changes"]
        assert "warning: " in judged.err
    else:
        assert judged.code == 2
    done = mm("resume", folder.name, "--quiet", "--accept-changes")
    if done.code == 0:
        assert [e["exact"] for e in events(folder, "attempt")] == [True, False]
        assert "exact = no" in done.err
    else:  # another seed or number of labels draws another split
        assert done.code == 2
        assert "bug" not in done.err


def test_comments_and_settings_without_effect_may_be_edited(mm: Mm, folder: Path) -> None:
    toml("log_every = 4", "log_every = 4 # often")(folder)
    toml("save_every = 5", "save_every = 6")(folder)
    assert mm("evaluate", folder.name).code == 0
    assert mm("resume", folder.name, "--quiet").code == 0
    assert [e["exact"] for e in events(folder, "attempt")] == [True, True]


def test_lost_checkpoints(mm: Mm, folder: Path, whole: Path) -> None:
    shutil.rmtree(folder / "checkpoints")
    refused = mm("resume", folder.name)
    assert refused.code == 2
    assert "has no checkpoint, but the journal says that one was saved at step 6" in refused.err
    assert f"`mmctl resume {folder.name} --from-start`" in refused.err
    assert ends_as(whole, folder, mm, "--from-start") == [(0, True), (0, True)]


def test_a_lost_split(mm: Mm, folder: Path, whole: Path) -> None:
    (folder / "split.json").unlink()
    for command in ("resume", "evaluate"):
        refused = mm(command, folder.name)
        assert refused.code == 2
        assert "split.json: is missing, but the run has trained with it" in refused.err
        assert f"`mmctl resume {folder.name} --from-start`" in refused.err
    assert mm("evaluate", folder.name, "--accept-changes").code == 0
    assert not (folder / "split.json").exists(), "evaluating writes nothing but its figures"
    assert ends_as(whole, folder, mm, "--accept-changes") == [(0, True), (6, False)]


def test_from_start_keeps_what_is_there(mm: Mm, folder: Path, whole: Path) -> None:
    kept = {p.name: p.read_bytes() for p in checkpoint.folder_of(folder, 6).iterdir()}
    assert ends_as(whole, folder, mm, "--from-start") == [(0, True), (0, True)]
    assert {p.name[:8] for p in (folder / "checkpoints").iterdir()} == {"old-step", "step-000"}
    old = folder / "checkpoints" / "old-step-000000006"
    assert {p.name: p.read_bytes() for p in old.iterdir()} == kept


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)

    def watch(event: Any, training: Any) -> None:
        if training.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(folder, never, watch)
    assert mm("resume", folder.name, "--quiet").code == 0
