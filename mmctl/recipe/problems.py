"""Collects everything that is wrong with a recipe, each with the file and line it stands in."""

from __future__ import annotations

from typing import Any

from mmctl.recipe.layers import SET, Layers
from mmctl.recipe.toml_source import KeyPath, Problem
from mmctl.registry.parameters import toml_value
from mmctl.text import dotted, literal


class Problems:
    """The problems of one recipe; `layers` knows where each value was written."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.found: list[Problem] = []

    def add(self, path: tuple[str | int, ...], message: str, at: KeyPath | None = None) -> None:
        """Note a problem with a key; at: the key to give the line of, if this one was written nowhere."""
        label, line = self.layers.origin(at or tuple(str(part) for part in path))
        self.found.append(Problem(label, line, dotted(path), message))

    def quote(self, path: KeyPath, value: Any) -> str:
        """Another value that a problem speaks of, and where it was written."""
        where = self.layers.origin(path) if path in self.layers.origins else "by default"
        return f"{dotted(path)} = {literal(toml_value(value))} ({where})"

    def lines(self) -> list[str]:
        """All problems, the recipe's own file first, by line."""
        rank = {label: n for n, label in enumerate((SET, self.layers.source.label))}
        ordered = sorted(set(self.found), key=lambda p: (rank.get(p.file, 9), p.file, p.line, p.key))
        return [str(problem) for problem in ordered]
