"""The manual launcher starts nothing; a run is done when somebody has executed its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmctl.launchers.manual import Manual
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
    manual.cancel([job])
    assert folder.is_dir()
