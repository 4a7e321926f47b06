"""Recipes by name: where they are looked for, which there are, and what each is for. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmctl import project
from mmctl.errors import RecipeError, suggest
from mmctl.text import printable

LINE = 400


def recipe_folders() -> tuple[Path, ...]:
    """Where recipes are looked for by name: the project's, then those shipped with mmctl."""
    package = Path(__file__).parent.parent
    shipped = package / "shipped" if (package / "shipped").is_dir() else package.parent / "recipes"
    mine = project.root() / "recipes"
    return (mine,) if mine.resolve() == shipped.resolve() else (mine, shipped)


def recipe_files() -> dict[str, tuple[Path, Path]]:
    """Name -> folder and file of each recipe that can be given without a path; the project's hide shipped ones."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder in recipe_folders():
        for file in sorted(folder.rglob("*.toml"), key=lambda file: file.with_suffix("")):
            if folder / "tables" not in file.parents:
                found.setdefault(str(file.relative_to(folder).with_suffix("")), (folder, file))
    return found


def known_recipes() -> list[str]:
    """The names of all recipes that can be given without a path."""
    return list(recipe_files())


def find_recipe(given: str | Path) -> Path:
    """The file of a recipe given by path or by name (`digits`, `methods/fixmatch`)."""
    path = Path(given)
    try:
        if path.is_file():
            return path
        found = find_by_name(str(given), ())
    except (OSError, ValueError):  # a name of 5,000 letters, or with a NUL
        found = None
    if found is None:
        raise RecipeError([no_such_recipe(str(given))])
    return found


def find_by_name(given: str, first: Sequence[Path], besides: Path | None = None) -> Path | None:
    """The first file of that name; a recipe may extend the shipped one that bears its own name."""
    name = given if given.endswith(".toml") else f"{given}.toml"
    found = [folder / name for folder in (*first, *recipe_folders()) if (folder / name).is_file()]
    other = [path for path in found if besides is None or not same_file(path, besides)]
    return (other or found or [None])[0]  # type: ignore[list-item]


def no_such_recipe(given: str) -> str:
    """What to say of a name that no recipe has."""
    names = known_recipes()
    stem = given.removesuffix(".toml").removeprefix("recipes/")
    # A name that is whole by itself comes first: "digits" is no shorthand for "base/digits".
    by_last = {name.rpartition("/")[2]: name for name in sorted(names, key=lambda n: n.count("/"), reverse=True)}
    hint = suggest(stem, names) or suggest(stem.rpartition("/")[2], by_last)
    for last, name in by_last.items():
        hint = hint.replace(f'"{last}"', f'"{name}"')
    if not hint:
        hint = f" Known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}." if names else ""
    return f'no recipe "{printable(given[:80])}", neither as a file nor by name.{hint}'


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths lead to one file."""
    return a.resolve() == b.resolve()


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


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Shell completion of a RECIPE: names with what they are for, else paths; never an error."""
    try:
        names = [(name, purpose(file)) for name, (_, file) in recipe_files().items() if name.startswith(incomplete)]
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
