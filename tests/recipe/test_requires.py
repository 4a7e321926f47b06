"""The versions that a recipe asks for."""

from __future__ import annotations

import pytest

from mmctl import requires


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
def test_versions(version: str, specifier: str, holds: bool) -> None:
    assert requires.wrong(specifier) is None
    assert requires.satisfies(version, specifier) is holds


@pytest.mark.parametrize("specifier", ["", "1.0", ">=", ">=1.*", "=1", "~=1", ">=1;<2"])
def test_wrong_versions(specifier: str) -> None:
    assert requires.wrong(specifier)
