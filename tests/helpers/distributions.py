"""Installed packages for tests, as folders on the import path: no pip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent


def fake_distribution(folder: Path, name: str, version: str, points: str, requires: Sequence[str] = ()) -> Path:
    """The metadata of a package with these entry points; returns its folder."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "entry_points.txt").write_text(dedent(points))
    return info
