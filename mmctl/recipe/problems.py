"""Collects all problems of a recipe, each with file and line."""

from __future__ import annotations

from typing import Any

from mmctl.recipe.layers import SET, Layers
from mmctl.recipe.toml_source import KeyPath, Problem
from mmctl.registry.parameters import toml_value
from mmctl.text import dotted, literal


class Problems:
    """The problems of one recipe; their lines come from the origins in `layers`."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.found: list[Problem] = []

    def add(self, path: tuple[str | int, ...], message: str, at: KeyPath | None = None) -> None:
        """Add a problem with a key; at: another key whose line is shown, or the own file if that key is of a parent."""
        label, line = self.layers.origin(at or tuple(str(part) for part in path))
        if at and label not in (SET, self.layers.source.label):
            label, line = self.layers.origin(())
        self.found.append(Problem(label, line, dotted(path), message))

    def quote(self, path: KeyPath, value: Any) -> str:
        """A value with its origin, for a message about another key."""
        where = self.layers.origin(path) if path in self.layers.origins else "default"
        return f"{dotted(path)} = {literal(toml_value(value))} ({where})"

    def lines(self) -> list[str]:
        """All problems as messages: those of --set first, then the recipe's own file, then parents, each by line."""
        rank = {label: n for n, label in enumerate((SET, self.layers.source.label))}
        ordered = sorted(set(self.found), key=lambda p: (rank.get(p.file, 9), p.file, p.line, p.key))
        return [str(problem) for problem in ordered]
