"""The pages of docs/ that are made from the code are those that the code makes now, and the tutorial works."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.fresh_environment import fresh_environment
from helpers.paths import REPO
from mmctl import kinds, plugin
from mmctl.completion import shell
from mmctl.plugin import ARGUMENTS, KINDS, SUPPLIED
from mmctl.recipe.settings import ORDER
from mmctl.registry.index import Index
from mmctl.training.centroids import Centroids
from mmctl.training.model import Average, Model


def generator() -> Any:
    """The module docs/generate.py."""
    spec = importlib.util.spec_from_file_location("docs_generate", REPO / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_have_not_drifted() -> None:
    made = generator()
    assert shell.COMMANDS.read_text() == made.commands_json(), "completion/commands.json has drifted: run `make docs`"
    for name, text in made.pages().items():
        assert (REPO / "docs" / name).read_text() == text, f"docs/{name} has drifted: run `make docs`"


def test_pages_have_every_kind_table_and_component() -> None:
    pages = generator().pages()
    assert pages.keys() == {"recipes.md"} | {f"plugins/{kind}.md" for kind in KINDS}
    recipes = pages["recipes.md"]
    for key in ORDER:
        assert f"`{key}`" in recipes
    for entry in Index(sources="off").entries:
        assert f"### {entry.kind} {entry.name}\n" in recipes
    for kind in KINDS:
        for name in SUPPLIED[kind]:
            assert f"| `{name}` | {ARGUMENTS[name][:20]}" in pages[f"plugins/{kind}.md"]
    for words in ('"running"`', "branches(", "losses.NAME", "draw(rng: Generator, x: int, u: int)", "centroids.update"):
        assert words in pages["plugins/method.md"]


def test_every_supplied_argument_is_explained() -> None:
    assert ARGUMENTS.keys() == {name for names in SUPPLIED.values() for name in names}


def test_what_is_supplied_has_what_its_interface_says() -> None:
    for interface, classes in ((kinds.Network, (Model, Average)), (kinds.Centroids, (Centroids,))):
        for name in [*vars(interface), *interface.__annotations__]:
            if not name.startswith("_"):
                made = {
                    key for c in classes for k in c.__mro__ for key in (*vars(k), *vars(k).get("__annotations__", ()))
                }
                assert name in made or name in ("embed_dim", "estimator"), name
    assert plugin.Network is kinds.Network


@pytest.mark.slow
def test_the_tutorial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of docs/plugins.md is written, every command run, every output compared."""
    made = generator()
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, value in made.TERMINAL.items():
        monkeypatch.setenv(name, value)
    page = (REPO / "docs" / "plugins.md").read_text()
    try:
        assert made.played(page, made.shell) == page, "docs/plugins.md has drifted: run `make docs`"
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "mmctl_focal"]:
            del sys.modules[name]


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_the_tutorial_with_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same in processes of their own, with a package that pip installs into a fresh environment."""
    made, python = generator(), Path(sys.executable)
    for name, value in made.TERMINAL.items():
        monkeypatch.setenv(name, value)

    def run(line: str) -> str | None:
        nonlocal python
        words = shlex.split(line)
        if words[0] == "pip":
            python = fresh_environment(tmp_path / "venv", Path.cwd())
            monkeypatch.delenv("PYTHONPATH")
            return None
        if words[0] == "cd":
            os.chdir(words[1])
            return ""
        programs = {"mmctl": f"{python} -m mmctl", "python": str(python)}
        line = programs.get(words[0], words[0]) + line.removeprefix(words[0])
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=600)
        return done.stdout + (done.stderr if done.returncode else "")

    page = (REPO / "docs" / "plugins.md").read_text()
    assert made.played(page, run) == page
    tests = subprocess.run([python, "-m", "pytest", "-q"], capture_output=True, text=True, timeout=600)
    assert tests.returncode == 0, tests.stdout
    assert "12 passed" in tests.stdout


def test_a_page_that_differs_is_seen() -> None:
    made = generator()
    page = "```console\n$ one\na ... c\n...\n$ two\nold\n```\n"
    assert made.played(page, lambda line: {"one": "a b c\nd\n", "two": "old\n"}[line]) == page
    assert "new" in made.played(page, lambda line: {"one": "a b c\nd\n", "two": "new\n"}[line])
    assert "a b d" in made.played(page, lambda line: {"one": "a b d\n", "two": "old\n"}[line])
