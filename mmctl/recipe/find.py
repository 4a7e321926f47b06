"""Finds recipes by name, lists them and completes names in the shell. Imports no slow modules."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmctl import project
from mmctl.errors import RecipeError, suggest
from mmctl.text import printable

LINE = 400
"""Characters read of one line."""


def recipe_folders() -> tuple[Path, ...]:
    """The folders of recipes in search order: the project's, then the one shipped with mmctl."""
    package = Path(__file__).parent.parent
    shipped = package / "shipped" if (package / "shipped").is_dir() else package.parent / "recipes"
    own = project.root() / "recipes"
    return (own,) if own.resolve() == shipped.resolve() else (own, shipped)


def recipe_files() -> dict[str, tuple[Path, Path]]:
    """Name -> (recipe folder, file) of all recipes; the project's recipe hides a shipped one of the same name."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder in recipe_folders():
        for file in sorted(folder.rglob("*.toml"), key=lambda file: file.with_suffix("")):
            if folder / "tables" not in file.parents:
                found.setdefault(str(file.relative_to(folder).with_suffix("")), (folder, file))
    return found


def known_recipes() -> list[str]:
    """The names of all recipes."""
    return list(recipe_files())


def find_recipe(given: str | Path) -> Path:
    """The file of a recipe given by path or name (`digits`, `methods/fixmatch`); RecipeError if there is none."""
    found = Path(given) if is_file(given) else find_by_name(str(given), ())
    if found is None and os.path.isdir(given):  # noqa: PTH112
        raise RecipeError([f"{given}: is a folder, not a recipe. Name one of its .toml files."])
    if found is None and os.path.exists(given):  # noqa: PTH110
        raise RecipeError([f"{given}: is not a regular file, so it cannot be a recipe."])
    if found is None:
        raise RecipeError([no_such_recipe(str(given))])
    return found


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; also one that cannot be looked at, since reading it says why.

    Path.is_file raises for a name that is too long, and for a NUL character.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG


def find_by_name(given: str, first: Sequence[Path], besides: Path | None = None) -> Path | None:
    """The first file of this name in the folders `first` and the recipe folders, or None.

    besides: a file to skip if there is another one, since a recipe may extend the shipped recipe of its own name.
    """
    name = given if given.endswith(".toml") else f"{given}.toml"
    found = [folder / name for folder in (*first, *recipe_folders()) if is_file(folder / name)]
    other = [path for path in found if besides is None or not same_file(path, besides)]
    return (other or found or [None])[0]  # type: ignore[list-item]


def no_such_recipe(given: str) -> str:
    """The message for an unknown recipe name."""
    names = known_recipes()
    stem = given.removesuffix(".toml").removeprefix("recipes/")
    # Short names win: "digits" means recipes/digits.toml, not base/digits.
    by_last = {name.rpartition("/")[2]: name for name in sorted(names, key=lambda n: n.count("/"), reverse=True)}
    hint = suggest(stem, names) or suggest(stem.rpartition("/")[2], by_last)
    for last, name in by_last.items():
        hint = hint.replace(f'"{last}"', f'"{name}"')
    if not hint:
        hint = f" Known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}." if names else ""
    return f'no recipe "{printable(given[:80])}": neither a file nor a known name.{hint}'


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths are the same file."""
    return os.path.realpath(a) == os.path.realpath(b)  # Path.resolve raises for a loop of links


def purpose(file: Path) -> str:
    """The first comment line of a recipe file, which says what the recipe is for; "" if there is none."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in iter(lambda: lines.readline(LINE), ""):
                if not line.startswith("#:"):  # an instruction for editors
                    text = line[1:].strip() if line.startswith("#") else ""
                    return "".join(char for char in text if char.isprintable())
    except OSError:
        pass
    return ""


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Shell completion of RECIPE: names with their purpose, or paths; never raises."""
    try:
        names = [(name, purpose(file)) for name, (_, file) in recipe_files().items() if name.startswith(incomplete)]
        return names or [(path, "") for path in _paths(incomplete)]
    except Exception:  # the shell cannot show an error during completion
        return []


def _paths(incomplete: str) -> Iterator[str]:
    folder = incomplete.rpartition("/")[0]
    for path in sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir()):
        if path.is_dir() or path.suffix == ".toml":
            text = f"{path}/" if path.is_dir() else str(path)
            if text.startswith(incomplete):
                yield text
