"""Marks in plugins/ that the regular expression of the index does not match, and what to write instead.

Only files that mention `mmctl.plugin` are parsed, so other files cost nothing. Nothing is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from mmctl.plugin import KINDS


def missed_marks(text: str, found: set[str]) -> Iterator[tuple[str, int, str, str]]:
    """Kind, line, name of the class or function, and reason of each mark that is not in `found` (names of those)."""
    if not re.search(r"\bmmctl\b[^\n]*\bplugin\b", text):
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # its import tells this
    names = {kind: kind for kind in KINDS if re.search(r"mmctl\.plugin\s+import\s+\*", text)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "mmctl.plugin":
            names |= {a.asname or a.name: a.name for a in node.names if a.name in KINDS}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for mark in node.decorator_list:
                kind = _kind(mark, names)
                if kind and node.name not in found:
                    yield kind, mark.lineno, node.name, f'write @{kind}("NAME") directly above it, NAME as plain text'
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and (kind := _kind(node.func, names)):
            yield (
                kind,
                node.lineno,
                "",
                f'is called: write @{kind}("NAME") directly above a class or def',
            )


def _kind(mark: ast.expr, names: dict[str, str]) -> str:
    target = mark.func if isinstance(mark, ast.Call) else mark
    if isinstance(target, ast.Attribute):
        return target.attr if target.attr in KINDS and ast.unparse(target.value).endswith("plugin") else ""
    return names.get(target.id, "") if isinstance(target, ast.Name) else ""


def missed_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files in subfolders of plugins/ that mention mmctl.plugin, each with a reason."""
    for file in sorted(folder.glob("[!_.]*/**/*.py")):
        try:
            if b"mmctl.plugin" in file.read_bytes():
                yield file, "it is in a subfolder: move it to plugins/ itself"
        except OSError:
            continue
