"""For the tests of `mmctl ui`."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.fake_runs import T0, finished_run
from mmctl.ui import live_app


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_app, "PAUSE", 0.0)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three finished runs: alpha 0.80, beta 0.90, gamma 0.70 with another method."""
    runs = tmp_path / "runs"
    for n, (name, final) in enumerate((("alpha", 0.8), ("beta", 0.9), ("gamma", 0.7))):
        finished_run(
            runs, f"20261125-10000{n}-{name}-s0-000{n}", name=name, final=final, created=T0 + n * 1000,
            method="mixmatch" if n < 2 else "fixmatch",
        )  # fmt: skip
    return runs
