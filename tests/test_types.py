"""What the rooms that read and write runs give each other is typed: no `Any` in a public signature."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from helpers.paths import REPO

ROOMS = ("run_folder", "store", "report")


def public(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions of a module and methods of its classes whose names begin without an underscore."""
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.ClassDef) and node.name[0] != "_" else [node]:
            if isinstance(inner, ast.FunctionDef) and inner.name[0] != "_":
                yield inner


def untyped(source: str) -> list[str]:
    """The public functions of a module with an `Any` in their signature."""
    found = []
    for function in public(ast.parse(source)):
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        annotations = [function.returns, *(one.annotation for one in every if one)]
        names = {n.id for a in annotations if a for n in ast.walk(a) if isinstance(n, ast.Name)}
        if "Any" in names:
            found.append(function.name)
    return found


def aliases(source: str) -> list[str]:
    """The names that a module gives to a type with an `Any`, which would hide it in a signature."""
    made = [node for node in ast.parse(source).body if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value]
    return [ast.unparse(node) for node in made if "Any" in {getattr(n, "id", "") for n in ast.walk(node.value)}]


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_signature_has_any(room: str) -> None:
    files = sorted((REPO / "mmctl" / room).glob("*.py"))
    texts = {file.name: file.read_text() for file in files}
    assert {name: found for name, text in texts.items() if (found := untyped(text) + aliases(text))} == {}


def test_the_check_finds_any() -> None:
    assert untyped(
        "def f(x: dict[str, Any]) -> int: ...\ndef _g(x: Any): ...\nclass C:\n    def h(self) -> Any: ...\n"
    ) == [
        "f",
        "h",
    ]
    assert aliases("Config: TypeAlias = dict[str, Any]\nsize: Any = 3\n") == ["Config: TypeAlias = dict[str, Any]"]
