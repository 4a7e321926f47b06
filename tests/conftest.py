"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in an empty project of its own, so that no run or plugin of the developer's leaks in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMCTL_PLUGINS_DIR", str(tmp_path / "plugins"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("MMCTL_DEBUG", raising=False)


@pytest.fixture
def mm(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run one mmctl command in this process: `mm("ls", "--json")`."""

    def run(*args: object) -> Result:
        from mmctl.cli import main

        capfd.readouterr()
        code = 0
        try:
            main([str(a) for a in args])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run
