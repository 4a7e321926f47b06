"""mmctl's own components by their source text: parameters, defaults and slots without an import, and so without torch.

For commands that read. A recipe loaded with this index has the data that it has with any other, but types and bounds
of parameters are not looked at, and nothing can be built from it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from mmctl.params import Shape, shape
from mmctl.plugin import Slot
from mmctl.registry import Entry, Index

DECLARED = ("slots", "views", "default_labeler")
"""Class attributes of a method that a recipe's resolution asks for."""
BARE = {"nn.Module", "torch.nn.Module", "object"}
"""Bases without parameters of ours."""


class Outline(Index):
    """An index that reads mmctl's own components instead of importing them; plugins are imported as ever."""

    def _loaded(self, entry: Entry) -> tuple[Callable[..., Any], Shape]:
        key = (entry.kind, entry.qualified)
        if key not in self._shapes and entry.origin == "mmctl" and (found := outline(entry)) is not None:
            self._shapes[key] = found, shape(found, entry.kind)
        return super()._loaded(entry)


def outline(entry: Entry) -> Callable[..., Any] | None:
    """A function with the component's arguments, and what a method declares; None if its file does not say it all."""
    assert entry.file is not None
    tree = ast.parse(entry.file.read_text("utf-8-sig"))
    names = _constants(tree)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    node = defined[entry.attr]
    if isinstance(node, ast.FunctionDef):
        return _like(node.args, names)
    family, whole = _family(node, defined)
    body = [part for one in family for part in one.body]
    made = next((part for part in body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if not whole and (made is None or entry.kind == "method"):
        return None
    function = _like(_without_self(made.args), names) if made else _nothing
    for name in DECLARED if entry.kind == "method" and function else ():
        if (value := next((v for part in body if (v := _assigned(part, name)) is not None), None)) is not None:
            try:
                setattr(function, name, _value(value, names))
            except Exception:
                return None
    return function


def _family(node: ast.ClassDef, defined: dict[str, Any]) -> tuple[list[ast.ClassDef], bool]:
    """A class and its bases in this file, nearest first; whether these are all."""
    found, whole = [node], True
    for base in node.bases:
        name = ast.unparse(base)
        if isinstance(defined.get(name), ast.ClassDef):
            more, all_ = _family(defined[name], defined)
            found, whole = found + more, whole and all_
        else:
            whole = whole and name in BARE
    return found, whole


def _constants(tree: ast.Module) -> dict[str, Any]:
    """What expressions of a module may name: Slot, and constants that it makes of literals."""
    names: dict[str, Any] = {"__builtins__": {}, "Slot": Slot, "Any": Any}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                names[node.targets[0].id] = _value(node.value, names)
            except Exception:
                continue
    return names


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "<outline>", "eval", dont_inherit=True), names)


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return node.value if any(isinstance(target, ast.Name) and target.id == name for target in targets) else None


def _without_self(args: ast.arguments) -> ast.arguments:
    if args.posonlyargs:
        args.posonlyargs = args.posonlyargs[1:]
    else:
        args.args = args.args[1:]
    return args


def _like(args: ast.arguments, names: dict[str, Any]) -> Callable[..., Any] | None:
    """A function with these arguments and defaults; types become Any."""
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs):
        arg.annotation = ast.Name("Any", ast.Load()) if arg.annotation else None
    tree = ast.parse("def outline(): ...")
    tree.body[0].args = args  # type: ignore[attr-defined]
    try:
        exec(compile(ast.fix_missing_locations(tree), "<outline>", "exec", dont_inherit=True), names)
    except Exception:
        return None
    return names.pop("outline")  # type: ignore[no-any-return]


def _nothing() -> None: ...
