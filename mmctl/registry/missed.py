"""What looks like a component in plugins/ and is not in the index, each with what to write instead.

Read only to list components and to explain that one was not found: it parses files. Nothing is imported.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mmctl.filesystem import read_file
from mmctl.plugin import KINDS
from mmctl.registry.sources import SIZE, Entry, marks, plugin_files


def missed_entries(folder: Path) -> Iterator[Entry]:
    """Marks that the index cannot read or does not look for; without a kind: files and folders that cannot be read."""
    if not folder.is_dir() and os.environ.get("MMCTL_PLUGINS_DIR"):
        yield Entry("", "MMCTL_PLUGINS_DIR", "plugins", "", "", folder, broken="there is no such folder")
    for file in plugin_files(folder):
        try:
            yield from _unread(file, _text(file))
        except UnicodeDecodeError:
            yield Entry("", file.stem, "plugins", "", "", file, broken="cannot be read: it is not UTF-8 text")
        except (OSError, ValueError) as error:
            yield Entry("", file.stem, "plugins", "", "", file, broken=f"cannot be read: {error}")
    for file in sorted(folder.glob("[!_.]*/**/*.py")):
        with suppress(OSError, ValueError):
            text = _text(file)
            for entry in (*marks(text), *_unread(file, text)):
                why = "it is in a subfolder: move it to plugins/ itself"
                yield replace(entry, origin="plugins", file=file, broken=why)


def _text(file: Path) -> str:
    return read_file(file, SIZE).decode("utf-8-sig")


def _unread(file: Path, text: str) -> Iterator[Entry]:
    """The marks that the regular expression of the index does not match."""
    found = {entry.attr for entry in marks(text)}
    for kind, line, name, why in missed_marks(text, found):
        yield Entry(kind, name, "plugins", "", "", file, line, broken=why)


def missed_marks(text: str, found: set[str]) -> Iterator[tuple[str, int, str, str]]:
    """Kind, line, name of the class or function, and reason of each mark that is not in `found` (names of those)."""
    if not re.search(r"\bmmctl\b[^\n]*\bplugin\b", text):
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # its import tells this
    marking, defined = _marking(tree), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined[node.name] = node
            for mark in node.decorator_list:
                kind = marking.get(_called(mark))
                if kind and node.name not in found:
                    yield kind, mark.lineno, node.name, f'write @{kind}("NAME") directly above it, NAME as plain text'
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and (kind := marking.get(_called(node.func))):
            for name in (arg.id for arg in node.args if isinstance(arg, ast.Name) and arg.id in defined):
                yield kind, node.lineno, name, f'is called: write @{kind}("NAME") directly above a class or def'


def _marking(tree: ast.Module) -> dict[str, str]:
    """How this file can write a mark, such as `labeler` or `plugin.labeler` -> its kind."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "mmctl.plugin":
            for one in node.names:
                names |= dict(zip(KINDS, KINDS, strict=True)) if one.name == "*" else {one.asname or one.name: one.name}
        modules = []
        if isinstance(node, ast.Import):
            modules = [one.asname or one.name for one in node.names if one.name == "mmctl.plugin"]
        elif isinstance(node, ast.ImportFrom) and node.module == "mmctl":
            modules = [one.asname or one.name for one in node.names if one.name == "plugin"]
        names |= {f"{module}.{kind}": kind for module in modules for kind in KINDS}
    return {written: kind for written, kind in names.items() if kind in KINDS}


def _called(mark: ast.expr) -> str:
    return ast.unparse(mark.func if isinstance(mark, ast.Call) else mark)
