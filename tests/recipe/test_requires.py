"""The versions that a recipe asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmctl.errors import RecipeError
from mmctl.recipe import resolve
from mmctl.recipe.recipe import check_recipe


def problems(specifier: object, monkeypatch: pytest.MonkeyPatch, version: str | None = "1.0") -> list[str]:
    """What is wrong with a recipe that asks for this version of a distribution."""
    monkeypatch.setattr(resolve, "installed_version", lambda name: version)
    Path("r.toml").write_text(f'extends = "digits"\n[requires]\nthing = {specifier!r}\n')
    try:
        check_recipe("r.toml", fast=True)
    except RecipeError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("version", "specifier", "holds"),
    [
        ("0.1.0", ">=0.1,<0.2", True),
        ("0.2", ">=0.1,<0.2", False),
        ("0.2.dev1", ">=0.1,<0.2", False),
        ("0.2rc1", "<0.2", False),
        ("1.10", ">1.9", True),
        ("0.3.7", "==0.3.*", True),
        ("0.30", "==0.3.*", False),
        ("0.3", "!=0.3.*", False),
        ("1.0", "==1.0.0", True),
        ("1.0.0rc1", ">=1.0", False),
        ("2.14.1+cu121", "==2.14.1", True),
        ("1.4.5", "~=1.4", True),
        ("2.0", "~=1.4", False),
        ("1.4.5", "~=1.4.2", True),
        ("1.5", "~=1.4.2", False),
    ],
)
def test_versions(version: str, specifier: str, holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"r.toml:3: requires.thing: needs thing {specifier}; version {version} is installed"
    assert problems(specifier, monkeypatch, version) == ([] if holds else [text])


@pytest.mark.parametrize("specifier", ["", "1.0", ">=", ">=1.*", "=1", "~=1", ">=1;<2", 3])
def test_wrong_versions(specifier: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(specifier, monkeypatch)
    assert problem.startswith("r.toml:3: requires.thing: must be version specifiers such as")


def test_a_distribution_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(">=1", monkeypatch, None)
    assert problem == "r.toml:3: requires.thing: needs thing >=1, which is not installed"
