"""The manual launcher starts nothing; a run is done when somebody has executed its folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.paths import REPO
from mmctl.launchers.manual import Manual
from mmctl.run_folder import queue
from mmctl.run_folder.record import last_state
from mmctl.runs.launcher import check_launcher, wrong_state
from mmctl.testing import LauncherContract


class Promises(LauncherContract):
    component = "manual"


@pytest.mark.parametrize("name", ["test_signature", "test_limits", "test_unknown"])
def test_the_promises_that_need_no_engine(name: str) -> None:
    getattr(Promises(), name)()


def test_a_run_waits_as_long_as_its_folder_is_there(tmp_path: Path) -> None:
    manual, folder = Manual(), tmp_path / "a"
    folder.mkdir()
    check_launcher("manual", manual)
    (job,) = manual.start([folder], "mmctl-1")
    assert job == str(folder)
    found = manual.states([job, str(tmp_path / "b")])
    assert wrong_state(found, [job, str(tmp_path / "b")]) is None
    assert [state.word for state in found.values()] == ["queued", "gone"]
    assert "mmctl exec" in found[job].reason
    assert manual.find("mmctl-1") == []
    manual.cancel([job, str(tmp_path / "b")])
    assert manual.states([job])[job].word == "interrupted"
    assert manual.start([folder], "mmctl-2") == [job]
    assert manual.states([job])[job].word == "queued"


def test_a_sweep_that_somebody_executes_in_part_and_stops(mm: Callable[..., Result], tmp_path: Path) -> None:
    tiny_project.written("supervised")
    sweep = ("sweep", "tiny.toml", "--seeds", "0-2", "--set", "train.device=cpu", "--launcher", "manual")
    assert "3 runs are in the hands of manual. To list: mmctl ls --sweep tiny." in mm(*sweep).out
    first, *others = sorted((tmp_path / "runs").glob("2*"))
    assert mm("exec", first).code == 0
    assert "is over already (completed)" in mm("exec", first).out
    assert mm("ls", "--sweep", "tiny").out.count("until `mmctl exec`") == 2
    (listing,) = re.findall(r"mmctl (ls .*) \| tail -n \+2 > runs\.txt", (REPO / "docs" / "scale.md").read_text())
    listed = mm(*listing.replace("study", "tiny").split()).out.splitlines()[1:]
    assert listed == [folder.name for folder in (first, *others)]
    stopped = mm("stop", "--sweep", "tiny")
    assert stopped.code == 0, stopped.err
    assert [last_state(folder) for folder in (first, *others)] == ["completed", "interrupted", "interrupted"]
    assert all(queue.read(folder) is None for folder in (first, *others))
    assert "2 runs are in the hands of manual" in mm("resume", "--sweep", "tiny").out
    assert all(queue.read(folder) for folder in others)
