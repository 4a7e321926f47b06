"""mmctl's own components by their source text: parameters, defaults and slots without an import, and so without torch.

For commands that read. A recipe loaded with this index is checked as with any other and has the same data and cell;
nothing can be built from it.
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
from mmctl.registry.index import Entry, Index
from mmctl.registry.parameters import Shape, shape

DECLARED = ("slots", "views", "default_labeler")
"""Class attributes of a method that a recipe's resolution asks for."""
BARE = {"nn.Module", "torch.nn.Module", "object"}
"""Bases without parameters of ours."""
LIGHT = {"typing", "collections.abc", "pydantic"}
"""Modules whose names types and defaults may use."""
PLAIN = {kind.__name__: kind for kind in (bool, dict, float, frozenset, int, list, range, set, str, tuple)}
PACKAGE = Path(__file__).parent.parent


class StaticIndex(Index):
    """An index that reads mmctl's own components instead of importing them; plugins are imported as ever."""

    def _loaded(self, entry: Entry) -> tuple[Callable[..., Any], Shape]:
        key = (entry.kind, entry.qualified)
        if key not in self._shapes and entry.origin == "mmctl" and (found := outline(entry)) is not None:
            self._shapes[key] = found, shape(found, entry.kind)
        return super()._loaded(entry)


def outline(entry: Entry) -> Callable[..., Any] | None:
    """A function with the component's arguments, and what a method declares; None if its file does not say it all."""
    assert entry.file is not None
    tree, names = _read(entry.file)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    node = defined[entry.attr]
    if isinstance(node, ast.FunctionDef):
        return _like(node.args, names)
    family, whole = _family(node, defined)
    made = next((part for one in family for part in one.body if _is_init(part)), None)
    if not whole and (made is None or entry.kind == "method"):
        return None
    function = _like(made.args, names, bound=True) if isinstance(made, ast.FunctionDef) else lambda: None
    if function is not None and entry.kind == "method":
        found = vars(names.get(entry.attr, SimpleNamespace()))
        if any(_assigned(part, name) and name not in found for one in family for part in one.body for name in DECLARED):
            return None
        vars(function).update(found)
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


@cache
def _read(file: Path) -> tuple[ast.Module, dict[str, Any]]:
    """A module's text, and what can be known of its names without running it: constants, types, what classes say."""
    tree = ast.parse(file.read_text("utf-8-sig"))
    names: dict[str, Any] = {"__builtins__": PLAIN}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            theirs = _names_of(node.module)
            names |= {a.asname or a.name: theirs[a.name] for a in node.names if a.name in theirs}
        elif isinstance(node, ast.ClassDef):
            said: dict[str, Any] = {}
            for base in reversed(node.bases):
                said |= vars(names.get(ast.unparse(base), SimpleNamespace()))
            for part in node.body:
                for name in DECLARED:
                    if (value := _assigned(part, name)) is not None:
                        said.pop(name, None)
                        _keep(said, name, value, names)
            names[node.name] = SimpleNamespace(**said)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and node.value is not None:
                _keep(names, target.id, node.value, names)
    return tree, names


def _names_of(module: str) -> dict[str, Any]:
    if module in LIGHT:
        return vars(import_module(module))
    if module == "mmctl.plugin":
        return {"LossTerm": LossTerm}
    top, *rest = module.split(".")
    file = PACKAGE.joinpath(*rest).with_suffix(".py")
    return _read(file)[1] if top == "mmctl" and rest and file.is_file() else {}


def _keep(into: dict[str, Any], name: str, node: ast.expr, names: dict[str, Any]) -> None:
    """Note a value, if it can be known."""
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
    """A function with these arguments, the parameters' types and the defaults; bound: without the first."""
    args = deepcopy(args)
    for arg in filter(None, (*args.posonlyargs, *args.args, args.vararg, args.kwarg)):
        arg.annotation = None  # what mmctl supplies may be of any type
    if bound:
        (args.posonlyargs or args.args).pop(0)
    tree = ast.parse("def outline(): ...")
    tree.body[0].args = args  # type: ignore[attr-defined]
    scope = dict(names)
    try:
        exec(compile(ast.fix_missing_locations(tree), "<outline>", "exec", dont_inherit=True), scope)
        inspect.signature(scope["outline"])  # where types are evaluated late, they are evaluated here
    except Exception:
        return None
    return scope["outline"]  # type: ignore[no-any-return]
