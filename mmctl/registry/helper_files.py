"""The files of its own package that a plugin imports, found without running them: they decide results as it does."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from mmctl.filesystem import read_file
from mmctl.registry.sources import SIZE

Parts = tuple[str, ...]
"""A module below its package: ("sub", "parts") is `package.sub.parts`."""


def helper_hashes(file: Path, folder: Path, package: str, own_init: bool) -> dict[str, str]:
    """Path below `folder` -> SHA-256 of each file that `file` imports, directly or through others of them.

    package: the name under which `folder` is imported; own_init: whether its `__init__.py` runs then. Imports that
    name their module in a string (`importlib.import_module`) are not seen.
    """
    found: dict[str, str] = {}
    seen, todo = {file}, [file, *_files(folder, file.relative_to(folder).with_suffix("").parts, own_init)]
    while todo:
        path = todo.pop()
        try:
            raw = read_file(path, SIZE)
        except OSError:
            continue  # its import tells this
        if path != file:
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(raw).hexdigest()
        for parts in _imported(raw, path.relative_to(folder).parts[:-1], package):
            new = [one for one in _files(folder, parts, own_init) if one not in seen]
            seen.update(new)
            todo += new
    return dict(sorted(found.items()))


def _files(folder: Path, parts: Parts, own_init: bool) -> list[Path]:
    """The files that run when this module is imported: those of the packages that it is in, and its own."""
    places = [folder.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    files = [file for place in places for file in (place.parent / f"{place.name}.py", place / "__init__.py")]
    return [file for file in ([folder / "__init__.py"] if own_init else []) + files if file.is_file()]


def _imported(source: bytes, inside: Parts, package: str) -> Iterator[Parts]:
    """The modules of the package that a source imports; inside: the package of the source itself."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # its import tells this
    top = tuple(package.split("."))
    for node in ast.walk(tree):
        names: list[Parts] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = (*top, *inside)
            base = here[: len(here) + 1 - node.level] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]  # a name of the module, or a module in it
        yield from (name[len(top) :] for name in names if name[: len(top)] == top)
