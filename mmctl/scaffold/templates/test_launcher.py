"""Tests of the launcher my_component: what mmctl expects of every launcher, and what this one promises."""

from __future__ import annotations

import time
from pathlib import Path

from mmctl.scaffold.templates.launcher import MyComponent
from mmctl.testing import LauncherContract


class TestMyComponent(LauncherContract):
    component = "my_component"
    params = ({}, {"slots": 2})


def test_the_prefix_stands_before_the_command(tmp_path: Path) -> None:
    launcher = MyComponent(prefix=("echo",))
    folder = tmp_path / "run"
    folder.mkdir()
    launcher.start([folder], "mmctl-1")
    while launcher.states(["run"])["run"].word == "running":
        time.sleep(0.01)
    assert launcher.states(["run"])["run"].word == "completed"
    assert (folder / "log.txt").read_text().rstrip().endswith(f"-m mmctl exec {folder}")
