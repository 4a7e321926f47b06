"""The tests of this folder use the plugins of the repository."""

from __future__ import annotations

import pytest

from helpers.paths import REPO


@pytest.fixture(autouse=True)
def _repository_plugins(_own_project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_PLUGINS_DIR", str(REPO / "plugins"))
