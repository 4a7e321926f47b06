"""Copies one built-in component out of its file, with only the definitions and imports that it needs.

Other files of its folder that it uses are copied beside it in the same way. Text is copied line by line, so comments
and layout stay; the syntax tree only says which lines.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mmctl.plugin import KINDS
from mmctl.registry.sources import Entry

WIDTH = 120


@dataclass
class Copy:
    """A copied component: file name without suffix -> text; "" is the file of the component itself."""

    files: dict[str, str]
    marks: dict[str, str]  # name of each copied component in mmctl -> its new name
    objects: dict[str, str]  # new name of each copied component -> its class or function


@dataclass
class _Part:
    """A statement of a module, with the comments directly above it and a docstring below."""

    node: ast.stmt
    first: int  # lines, from 1
    last: int
    mark: ast.Call | None = None

    @cached_property
    def names(self) -> set[str]:
        """The names that it defines."""
        if isinstance(self.node, ast.ClassDef | ast.FunctionDef):
            return {self.node.name}
        targets = self.node.targets if isinstance(self.node, ast.Assign) else [getattr(self.node, "target", self.node)]
        return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}

    def uses(self, keep_mark: bool) -> Iterator[ast.AST]:
        """Its syntax tree, with or without the decorator that makes it a component."""
        skipped = set(map(id, ast.walk(self.mark))) if self.mark and not keep_mark else set()
        return (node for node in ast.walk(self.node) if id(node) not in skipped)


@dataclass
class _Module:
    """A file of a component folder: what is needed of it."""

    path: Path
    home: str  # the folder as a package, for example mmctl.labelers
    wanted: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)  # definitions that stay components

    def __post_init__(self) -> None:
        self.text = self.path.read_text("utf-8")
        self.lines = self.text.splitlines()
        self.tree = ast.parse(self.text)
        body = [node for node in self.tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        self.imports = [node for node in self.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        self.parts: list[_Part] = []
        for node in body[1:] if ast.get_docstring(self.tree) else body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and self.parts:
                self.parts[-1].last = node.end_lineno or node.lineno  # the docstring of a constant
                continue
            decorators = getattr(node, "decorator_list", [])
            first = min(node.lineno, *(d.lineno for d in decorators)) if decorators else node.lineno
            while self.lines[first - 2].startswith("#"):
                first -= 1
            mark = next((d for d in decorators if isinstance(d, ast.Call) and ast.unparse(d.func) in KINDS), None)
            self.parts.append(_Part(node, first, node.end_lineno or node.lineno, mark))

    @property
    def kept(self) -> list[_Part]:
        return [part for part in self.parts if part.names & self.wanted]

    def used(self) -> Iterator[ast.AST]:
        """The syntax of all kept parts."""
        for part in self.kept:
            yield from part.uses(bool(part.names & self.marked))

    def close(self) -> None:
        """Add what the wanted definitions use."""
        defined = {name for part in self.parts for name in part.names}
        while more := {n.id for n in self.used() if isinstance(n, ast.Name)} & defined - self.wanted:
            self.wanted |= more

    def needs(self) -> Iterator[tuple[str, str]]:
        """(module, name) of everything that is needed of other files of the folder."""
        names = {n.id for n in self.used() if isinstance(n, ast.Name)}
        for node in self.imports:
            for alias in node.names:
                bound = alias.asname or alias.name
                if not isinstance(node, ast.ImportFrom) or bound not in names:
                    continue
                if node.module == self.home:
                    for n in self.used():
                        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == bound:
                            yield alias.name, n.attr
                elif (node.module or "").startswith(self.home + "."):
                    yield (node.module or "").rpartition(".")[2], alias.name


def copy_component(entry: Entry, name: str, prefix: str) -> Copy:
    """The source of a built-in component under a new name; prefix: put before the names of the files beside it."""
    assert entry.file is not None
    home = entry.module.rpartition(".")[0]
    main = _Module(entry.file, home, {entry.attr}, {entry.attr})
    # What asks for the component by its class would not know the copy: it is copied too.
    for part in main.parts:
        if part.mark and _asked(ast.walk(part.node), entry.attr):
            main.wanted |= part.names
            main.marked |= part.names
    others: dict[str, _Module] = {}
    todo = [main]
    while todo:
        module = todo.pop()
        module.close()
        for stem, wanted in module.needs():
            other = others.setdefault(stem, _Module(entry.file.with_name(f"{stem}.py"), home))
            if wanted not in other.wanted:
                other.wanted.add(wanted)
                todo.append(other)
    # A component that the code asks for by its class stays one, under a name of its own; a mere base class does not.
    main.marked |= {
        part_name for part in main.kept if part.mark for part_name in part.names if _asked(main.used(), part_name)
    }
    marks, objects = {}, {}
    for part in main.kept:
        if part.mark and part.names & main.marked:
            old, (attr,) = ast.literal_eval(part.mark.args[0]), part.names
            marks[old] = name if attr == entry.attr else f"{name}_{old}"
            objects[marks[old]] = attr
    rename = {stem: f"{prefix}{stem.lstrip('_')}" for stem in others}
    about = f"copied from mmctl {entry.version}, mmctl/{home.rpartition('.')[2]}"
    files = {"": _text(main, rename, marks, f"# The {entry.kind} {entry.name}, {about}/{entry.file.name}.")}
    for stem, other in others.items():
        doc = "" if stem.startswith("_") else f'"""For {name}.py: {about}/{stem}.py."""'
        files[rename[stem]] = _text(other, rename, {}, f"# For {name}.py: {about}/{stem}.py.", doc)
    return Copy(files, marks, objects)


def _asked(nodes: Iterable[ast.AST], name: str) -> bool:
    """Whether isinstance or issubclass asks for a class."""
    calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) in ("isinstance", "issubclass")]
    return any(isinstance(n, ast.Name) and n.id == name for call in calls for arg in call.args for n in ast.walk(arg))


def _text(module: _Module, rename: dict[str, str], marks: dict[str, str], about: str, doc: str = "") -> str:
    """The text of a copied file: docstring (`doc`, or its own), a line about its source, imports, kept parts."""
    first = module.tree.body[0]
    own = "\n".join(module.lines[first.lineno - 1 : first.end_lineno])
    lines = [doc or f"{own}\n\n{about}", *_imports(module, rename)]
    before: _Part | None = None
    for part in module.kept:
        lines += [""] * _gap(module, before, part)
        for number in range(part.first, part.last + 1):
            line = module.lines[number - 1]
            if part.mark and number == part.mark.lineno:
                if not part.names & module.marked:
                    continue
                old = ast.literal_eval(part.mark.args[0])
                line = line.replace(f'"{old}"', f'"{marks[old]}"')
            lines.append(line)
        before = part
    return "\n".join(lines) + "\n"


def _gap(module: _Module, before: _Part | None, part: _Part) -> int:
    """Empty lines before a part: as in the original, or as ruff wants them where something was left out."""
    blocks = (ast.ClassDef, ast.FunctionDef)
    if isinstance(part.node, blocks) or (before and isinstance(before.node, blocks)):
        return 2
    return 1 if before is None or not module.lines[part.first - 2].strip() else 0


def _imports(module: _Module, rename: dict[str, str]) -> list[str]:
    """The import lines that the kept parts need, in blocks; imports from the folder become relative, at the end."""
    names = {n.id for n in module.used() if isinstance(n, ast.Name)}
    lines: list[str] = []
    local: list[tuple[str, str]] = []
    last = 0
    for node in module.imports:
        text = "\n".join(module.lines[node.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.ImportFrom):
            kept = [a for a in node.names if (a.asname or a.name) in names or node.module == "__future__"]
            if not kept:
                continue
            if node.module == module.home:
                for alias in kept:
                    new, bound = rename[alias.name], alias.asname or alias.name
                    local.append(("=", new) if new == bound else ("", f"from . import {new} as {bound}"))
                continue
            source = node.module or ""
            if source.startswith(module.home + "."):
                stem = rename[source.rpartition(".")[2]]
                local.append((stem, _from(f".{stem}", kept)))
                continue
            text = text if len(kept) == len(node.names) else _from(source, kept)
        elif not any((a.asname or a.name.partition(".")[0]) in names for a in node.names) and "noqa: F401" not in text:
            continue
        gap = bool(last) and not all(module.lines[n - 1].strip() for n in range(last + 1, node.lineno))
        lines += ["", text] if gap or not last else [text]
        last = node.end_lineno or node.lineno
    if plain := sorted(new for stem, new in local if stem == "="):
        local = [(stem, text) for stem, text in local if stem != "="] + [("", f"from . import {', '.join(plain)}")]
    return [*lines, "", *(text for _, text in sorted(local))] if local else lines


def _from(module: str, names: list[ast.alias]) -> str:
    words = [alias.name + (f" as {alias.asname}" if alias.asname else "") for alias in names]
    line = f"from {module} import {', '.join(words)}"
    return line if len(line) <= WIDTH else f"from {module} import (\n" + "".join(f"    {w},\n" for w in words) + ")"


def camel(name: str) -> str:
    """`my_loss` -> `MyLoss`."""
    return "".join(word[:1].upper() + word[1:] for word in re.split("_+", name))
