"""Recipes by name: where they are looked for, which there are, and what each is for. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmctl import project

LINE = 400


def folders() -> tuple[Path, ...]:
    """Where recipes are looked for by name: the project's, then those shipped with mmctl."""
    package = Path(__file__).parent
    shipped = package / "shipped" if (package / "shipped").is_dir() else package.parent / "recipes"
    mine = project.root() / "recipes"
    return (mine,) if mine.resolve() == shipped.resolve() else (mine, shipped)


def files() -> dict[str, tuple[Path, Path]]:
    """Name -> folder and file of each recipe that can be given without a path; the project's hide shipped ones."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder in folders():
        for file in sorted(folder.rglob("*.toml"), key=lambda file: file.with_suffix("")):
            if folder / "tables" not in file.parents:
                found.setdefault(str(file.relative_to(folder).with_suffix("")), (folder, file))
    return found


def known_recipes() -> list[str]:
    """The names of all recipes that can be given without a path."""
    return list(files())


def purpose(file: Path) -> str:
    """The first line of a recipe's comment, which says what the recipe is for; "" if there is none."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in iter(lambda: lines.readline(LINE), ""):
                if not line.startswith("#:"):  # a word to an editor
                    text = line[1:].strip() if line.startswith("#") else ""
                    return "".join(char for char in text if char.isprintable())
    except OSError:
        pass
    return ""


def complete(incomplete: str) -> list[tuple[str, str]]:
    """Shell completion of a RECIPE: names with what they are for, else paths; never an error."""
    try:
        names = [(name, purpose(file)) for name, (_, file) in files().items() if name.startswith(incomplete)]
        return names or [(path, "") for path in _paths(incomplete)]
    except Exception:  # a shell that completes has no place for a message
        return []


def _paths(incomplete: str) -> Iterator[str]:
    folder = incomplete.rpartition("/")[0]
    for path in sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir()):
        if path.is_dir() or path.suffix == ".toml":
            text = f"{path}/" if path.is_dir() else str(path)
            if text.startswith(incomplete):
                yield text
