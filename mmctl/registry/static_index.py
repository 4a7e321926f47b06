"""Reads parameters, defaults and loss terms of mmctl's own components from their source, without importing torch.

Makes reading commands fast. A recipe loaded with this index is checked as usual and has the same data and config_id,
but its components cannot be built.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmctl.plugin import LossTerm
from mmctl.registry.index import Index
from mmctl.registry.parameters import Shape, shape
from mmctl.registry.sources import Entry

DECLARED = ("slots", "views", "default_labeler")
"""Class attributes of a method that are needed to check a recipe."""
BARE = {"nn.Module", "torch.nn.Module", "object"}
"""Base classes that add no parameters."""
LIGHT = {"typing", "collections.abc", "pydantic"}
"""Modules that are imported for the names in types and defaults: they are fast to import."""
PLAIN = {kind.__name__: kind for kind in (bool, dict, float, frozenset, int, list, range, set, str, tuple)}
PACKAGE = Path(__file__).parent.parent


class StaticIndex(Index):
    """An index that reads the source of mmctl's own components instead of importing them; plugins are imported."""

    def _loaded(self, entry: Entry) -> tuple[Callable[..., Any], Shape]:
        key = (entry.kind, entry.qualified)
        if key not in self._shapes and entry.origin == "mmctl" and (found := outline(entry)) is not None:
            self._shapes[key] = found, shape(found, entry.kind)
        return super()._loaded(entry)


def outline(entry: Entry) -> Callable[..., Any] | None:
    """A function with the arguments of the component and, for a method, its declared attributes.

    Returns None if the source file alone does not tell them, for example because a base class is in another file.
    """
    try:
        tree, names = _read(entry.file) if entry.file else (ast.Module([], []), {})
    except (OSError, SyntaxError, ValueError):
        return None
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if (node := defined.get(entry.attr)) is None:
        return None
    if isinstance(node, ast.FunctionDef):
        return _like(node.args, names)
    classes, complete = _with_bases(node, defined)
    init = next((part for one in classes for part in one.body if _is_init(part)), None)
    if not complete and (init is None or entry.kind == "method"):
        return None
    function = _like(init.args, names, bound=True) if isinstance(init, ast.FunctionDef) else lambda: None
    if function is not None and entry.kind == "method":
        declared = vars(names.get(entry.attr, SimpleNamespace()))
        parts = [part for one in classes for part in one.body]
        if any(_assigned(part, name) and name not in declared for part in parts for name in DECLARED):
            return None
        vars(function).update(declared)
    return function


def _with_bases(node: ast.ClassDef, defined: dict[str, Any]) -> tuple[list[ast.ClassDef], bool]:
    """A class and its bases in this file, nearest first; and whether it has no other bases."""
    classes, complete = [node], True
    for base in node.bases:
        name = ast.unparse(base)
        if isinstance(defined.get(name), ast.ClassDef):
            inherited, all_here = _with_bases(defined[name], defined)
            classes, complete = classes + inherited, complete and all_here
        else:
            complete = complete and name in BARE
    return classes, complete


@cache
def _read(file: Path) -> tuple[ast.Module, dict[str, Any]]:
    """The syntax tree of a module, and its names whose values are known without running it: constants and types."""
    tree = ast.parse(file.read_text("utf-8-sig"))
    names: dict[str, Any] = {"__builtins__": PLAIN}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            imported = _names_of(node.module)
            names |= {a.asname or a.name: imported[a.name] for a in node.names if a.name in imported}
        elif isinstance(node, ast.ClassDef):
            declared: dict[str, Any] = {}
            for base in reversed(node.bases):
                declared |= vars(names.get(ast.unparse(base), SimpleNamespace()))
            for part in node.body:
                for name in DECLARED:
                    if (value := _assigned(part, name)) is not None:
                        declared.pop(name, None)
                        _evaluate(declared, name, value, names)
            names[node.name] = SimpleNamespace(**declared)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and node.value is not None:
                _evaluate(names, target.id, node.value, names)
    return tree, names


def _names_of(module: str) -> dict[str, Any]:
    if module in LIGHT:
        return vars(import_module(module))
    if module == "mmctl.plugin":
        return {"LossTerm": LossTerm}
    top, *rest = module.split(".")
    file = PACKAGE.joinpath(*rest).with_suffix(".py")
    return _read(file)[1] if top == "mmctl" and rest and file.is_file() else {}


def _evaluate(into: dict[str, Any], name: str, node: ast.expr, names: dict[str, Any]) -> None:
    """Put the value of an expression into `into`, if it can be evaluated."""
    try:
        into[name] = eval(compile(ast.Expression(node), "<outline>", "eval", dont_inherit=True), dict(names))
    except Exception:
        return


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return node.value if any(isinstance(target, ast.Name) and target.id == name for target in targets) else None


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _like(args: ast.arguments, names: dict[str, Any], bound: bool = False) -> Callable[..., Any] | None:
    """A function with these arguments, types and defaults; bound: without the first one, self."""
    args = deepcopy(args)
    for arg in filter(None, (*args.posonlyargs, *args.args, args.vararg, args.kwarg)):
        arg.annotation = None  # types of supplied arguments are not needed
    if bound:
        (args.posonlyargs or args.args).pop(0)
    tree = ast.parse("def outline(): ...")
    tree.body[0].args = args  # type: ignore[attr-defined]
    scope = dict(names)
    try:
        exec(compile(ast.fix_missing_locations(tree), "<outline>", "exec", dont_inherit=True), scope)
        inspect.signature(scope["outline"])  # from Python 3.14 on, annotations are evaluated only here
    except Exception:
        return None
    return scope["outline"]  # type: ignore[no-any-return]
