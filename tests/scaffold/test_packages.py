"""Packages that `mmctl plugins new --package` makes, and the one of examples/: installed, tested, used by a recipe."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.fresh_environment import fresh_environment, run
from helpers.paths import REPO
from mmctl.plugin import KINDS

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3600)]

FROM = {"fuzzy": "labeler", "faces": "augment", "small": "backbone", "ctaugment": "augment", "uda": "method"}


def check(python: Path, folder: Path, *sets: str) -> None:
    """Its code is clean, its tests pass, and its recipe trains."""
    for words in (["check"], ["format", "--check"]):
        run(sys.executable, "-m", "ruff", *words, "--no-cache", ".", where=folder)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", where=folder)
    name = next((folder / "recipes").glob("*.toml"))
    words = [python, "-m", "mmctl", "run", name, "--set", "train.steps=2", "--set", "eval.every=2"]
    out = run(*words, *(word for part in sets for word in ("--set", part)), where=folder)
    assert "completed" in out


def check_types(python: Path, where: Path) -> None:
    """The sources of all packages of a folder, in one call: reading torch's types takes half a minute."""
    sources = sorted(path.parent for path in where.glob("mmctl-*/src/*/__init__.py"))
    assert sources
    run(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, *sources, where=where)


def listed(python: Path, where: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads(run(python, "-m", "mmctl", "plugins", "list", "--json", where=where))["plugins"]
    return {(row["kind"], row["name"]): row for row in rows if row["origin"] != "mmctl"}


def test_packages_of_all_kinds(mm: Any, tmp_path: Path) -> None:
    for kind in KINDS:
        assert mm("plugins", "new", f"my_{kind}", "--kind", kind, "--package").code == 0
    folders = {kind: tmp_path / f"mmctl-my-{kind}" for kind in KINDS}
    python = fresh_environment(tmp_path / "venv", *folders.values())
    rows = listed(python, tmp_path)
    assert rows.keys() == {(kind, f"mmctl-my-{kind}:my_{kind}") for kind in KINDS}
    assert all(row["version"] == "0.1.0" and row["summary"] and not row["broken"] for row in rows.values())
    check_types(python, tmp_path)
    for kind, folder in folders.items():
        sets: tuple[str, ...] = ()
        if kind == "dataset":
            sets = ("train.batch=8", "train.unlabeled_batch=8", f'dataset.root="{folder / "data"}"')
            write = "import sys, pathlib; sys.path.insert(0, 'tests'); import test_my_dataset as t; "
            run(python, "-c", write + "t.write_images(pathlib.Path('data'))", where=folder)
        check(python, folder, *sets)


def test_packages_of_copies(mm: Any, tmp_path: Path) -> None:
    for name, kind in FROM.items():
        assert mm("plugins", "new", f"my_{name}", "--kind", kind, "--from", name, "--package").code == 0
    folders = [tmp_path / f"mmctl-my-{name.replace('_', '-')}" for name in FROM]
    python = fresh_environment(tmp_path / "venv", *folders)
    # Two components: the probe looks for its policy by class.
    both = {("augment", f"mmctl-my-ctaugment:my_ctaugment{end}") for end in ("", "_ctaugment_probe")}
    assert listed(python, tmp_path).keys() >= both
    check_types(python, tmp_path)
    for folder in folders:
        check(python, folder)


def test_the_package_of_examples(tmp_path: Path) -> None:
    folder = tmp_path / "mmctl-gce"
    shutil.copytree(REPO / "examples" / "mmctl-gce", folder)
    python = fresh_environment(tmp_path / "venv", folder)
    assert listed(python, tmp_path).keys() == {("loss", "mmctl-gce:gce")}
    check_types(python, tmp_path)
    check(python, folder)
