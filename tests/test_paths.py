"""Paths of users that are no files: too long, below a file, a loop of links, a FIFO, a device, no UTF-8."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.good_recipe import GOOD

Mm = Callable[..., Result]

PATHS = {
    "long": "x" * 5000,
    "long path": "/".join(["y" * 200] * 30),
    "below a file": "file/below",
    "loop": "loop",
    "fifo": "fifo",
    "bytes": "a\udcffb",
    "device": "/dev/zero",
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A good recipe, beside a file, a link to itself and a FIFO."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "recipe.toml").write_text(GOOD)
    return tmp_path / "recipe.toml"


def one_message(done: Result, *codes: int) -> None:
    assert done.code in codes, (done.code, done.out, done.err)
    assert "a bug" not in done.err, done.err
    assert len(done.err.splitlines()) == 1, done.err


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_path_that_is_no_file(mm: Mm, recipe: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (
        ("show", path), ("resume", path), ("evaluate", path), ("table", path), ("diff", path, path), ("run", path),
        ("recipe", "validate", path, "--fast"), ("recipe", "show", path),
        ("run", recipe, "--dry-run", "--set", "split.rule=file", "--set", f"split.file={path}"),
        ("run", recipe, "--dry-run", "--set", "dataset.name=ferplus", "--set", f"dataset.root={path}"),
    ):  # fmt: skip
        one_message(mm(*words), 2)
    if path != "/dev/zero":
        one_message(mm("recipe", "schema", "--out", f"{path}/x"), 2, 4)
    if path != PATHS["bytes"]:  # a folder may have this name
        monkeypatch.setenv("MMCTL_RUNS", path)
        for words in (("ls",), ("db", "check"), ("run", recipe, "--quiet")):
            one_message(mm(*words), 2, 4)
        monkeypatch.delenv("MMCTL_RUNS")
    monkeypatch.setenv("MMCTL_PLUGINS_DIR", path)
    done = mm("plugins", "list")
    assert done.code == 0 or (done.code == 2 and "the folder of plugins" in done.err), done.err
