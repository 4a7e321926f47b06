"""A run folder is there complete or not at all, and an error of the operating system is one message with its path."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.faults import ERRORS, Faults
from helpers.processes import dies_at
from mmctl.errors import EnvironmentFault
from mmctl.runs.create import create_run

Mm = Callable[..., Result]


def test_a_folder_that_cannot_be_completed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, runs = tiny_project.recipe("supervised"), tmp_path / "runs"
    kept = {create_run(recipe, runs)}
    for n in range(1, 100):
        message = ""
        with monkeypatch.context() as patch:
            faults = Faults(runs, n, ERRORS[n % 4], False, patch)
            try:
                kept.add(create_run(recipe, runs))
            except EnvironmentFault as error:
                message = str(error)
        if not faults.done:
            break
        if message:
            assert str(runs) in message, faults.done
            assert os.strerror(ERRORS[n % 4]) in message, faults.done
        else:  # runs/ was there already, or the write was repeated after a signal
            assert n == 1 or ERRORS[n % 4] == errno.EINTR, faults.done
        assert set(runs.iterdir()) == kept, faults.done
    assert n > 10
    assert len(kept) < n / 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kill_9_leaves_no_half_run(mm: Mm, tmp_path: Path) -> None:
    recipe, runs = tiny_project.recipe("supervised"), tmp_path / "runs"
    for n in range(1, 100):
        before = {p.name for p in runs.glob("2*")}
        if not dies_at(n, bool(n % 2), lambda: create_run(recipe, runs) and None):
            break
        for new in {p.name for p in runs.glob("2*")} - before:
            assert (runs / new / "run.json").stat().st_size
            assert (runs / new / "recipe.toml").stat().st_size
    assert n > 5
    drafts = list(runs.glob(".new-*"))
    assert drafts
    assert mm("ls").code == 0
    for draft in drafts[1:]:
        os.utime(draft, (1e9, 1e9))
    create_run(recipe, runs)
    assert list(runs.glob(".new-*")) == drafts[:1], "the others are older than an hour: nobody writes them any more"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("path", ["/somewhere/file", None])
def test_an_error_of_the_system_is_never_a_bug(
    number: int, path: str | None, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), *([path] if path else []))

    folder = create_run(tiny_project.recipe("supervised", "train.steps=2"), tmp_path / "runs")
    for where in ("mmctl.training.loop.device_step", "mmctl.runs.execute.past_of", "mmctl.runs.execute.open_run"):
        with monkeypatch.context() as patch:
            patch.setattr(where, failing)
            done = mm("resume", folder.name, "--quiet")
        assert done.code == 4, (where, done)
        assert os.strerror(number) in done.err
        assert path is None or f"mmctl: {path}: " in done.err
        assert "bug" not in done.err
    assert errno.errorcode[number]
    assert mm("resume", folder.name, "--quiet").code == 0


def test_one_command_reads_the_images_once(mm: Mm, tmp_path: Path) -> None:
    path = tiny_project.written("supervised")
    plugin = tmp_path / "plugins" / "tiny.py"
    plugin.write_text(
        plugin.read_text().replace(
            "    return {", "    with open('read', 'a') as log:\n        log.write('x')\n    return {"
        )
    )
    small = ("--quiet", "--set", "train.threads=1", "--set")
    for words in (("run", path, *small, "train.steps=2"), ("run", "--extend", "@last", "--set", "train.steps=4")):
        done = mm(*words)
        assert done.code == 0, done.err
        assert "completed" in done.out
        assert Path("read").read_text() == "x"
        Path("read").unlink()
