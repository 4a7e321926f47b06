"""Who may import whom: the table of CONTRIBUTING.md, held against the import statements of every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

from helpers.paths import REPO
from mmctl import environment

PACKAGE = REPO / "mmctl"
KINDS = {"backbones", "datasets", "augments", "labelers", "losses", "methods", "launchers"}
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [p for p in FILES if p.name not in ("__init__.py", "__main__.py")]


def rooms() -> dict[str, set[str]]:
    """Room -> rooms that it may import, as the map of CONTRIBUTING.md says."""
    text = (REPO / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]*)\|$", text, re.M)
    return {
        room: {r for r, _ in rows} if "all rooms" in may else set(re.findall(r"`(\w+)`", may)) for room, may in rows
    }


def ground() -> set[str]:
    """Modules in the root of the package, which every room may import."""
    said = re.search(r"lies the ground, [^:]*:([^.]*)\.", (REPO / "CONTRIBUTING.md").read_text())
    assert said
    return set(re.findall(r"`(\w+)`", said[1]))


ROOMS, GROUND = rooms(), ground()
STANDARD_ALONE = {
    "errors",
    "component_types",
    "kinds",
    "plugin",
    "project",
    "identity",
    "cores",
    "environment",
    "filesystem",
    "text",
    "redact",
    "terminal",
    "metric_names",
    "run_fields",
}
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "sklearn",
    "scipy",
    "rich",
    "sqlite_utils",
    "pydantic",
    "typer",
    "textual",
}
THIRD_PARTY = {
    "ops": {"torch", "numpy"},
    "registry": {"pydantic"},
    "recipe": {"pydantic"},
    "image_files": {"numpy", "rich"},  # rich for its progress bar, inside a function
    "data": {"torch", "numpy"},
    "training": {"torch", "numpy", "pydantic"},
    "completion": set(),
    "run_folder": set(),
    "store": {"sqlite_utils"},
    "exchange": set(),
    "report": {"rich", "numpy"},  # numpy for the bootstrap of `compare --per-example` alone, inside a function
    "tables": {"pydantic", "rich"},
    "ui": {"rich", "textual"},
}
"""What of the heavy libraries a room may import; reading commands start without torch because of it."""


@cache
def statements(path: Path) -> tuple[dict[str, bool], set[str]]:
    """Modules that a file imports, dotted, each with whether more than types need it; the functions that it calls.

    Imports inside functions count too. Each file is parsed once for all tests.
    """
    text = path.read_text()
    nodes = list(ast.walk(ast.parse(text)))
    guards = [n for n in nodes if isinstance(n, ast.If) and "TYPE_CHECKING" in text and _for_types(n.test)]
    guarded = {id(inner) for guard in guards for inner in ast.walk(guard)}
    found: dict[str, bool] = {}
    for node in nodes:
        for name in _imported(node, path):
            found[name] = found.get(name, False) or id(node) not in guarded
    calls = {n.func for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    return found, {ast.unparse(func) for func in calls if func.attr in ("print_exc", "print_exception", "excepthook")}


def _for_types(test: ast.expr) -> bool:
    return any("TYPE_CHECKING" in (getattr(n, "id", ""), getattr(n, "attr", "")) for n in ast.walk(test))


def _imported(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        assert node.level == 0, f"{path}: a relative import"
        for name in node.names:
            inner = f"{node.module}.{name.name}"
            yield inner if is_module(inner) else node.module


@cache
def is_module(name: str) -> bool:
    file = REPO.joinpath(*name.split("."))
    return file.with_suffix(".py").is_file() or file.is_dir()


def imports(path: Path, for_types: bool = True) -> list[str]:
    """Modules that a file imports, dotted; those for types unless told not to."""
    return [name for name, needed in statements(path)[0].items() if needed or for_types]


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.startswith("mmctl.")}


def room(module: str) -> str:
    """`training` of mmctl.training.loop; the module's own name on the ground."""
    return module.split(".")[1]


def dotted(path: Path) -> str:
    return ".".join(("mmctl", *path.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda p: p.name)
def test_a_file_imports_what_its_room_may(folder: Path) -> None:
    for path in (path for path in MODULES if path.parent == folder):
        here, used = room(dotted(path)), {room(name) for name in ours(path)}
        needed = {room(name) for name in imports(path, for_types=False) if name.startswith("mmctl.")}
        theirs = {name.split(".")[0] for name in imports(path, for_types=False)} & HEAVY
        if here in KINDS:
            assert used <= {"plugin", "ops", "image_files", here}, f"{path}: a component sees what a third party's sees"
        elif here in ROOMS:
            plugins = {"local"} if here == "registry" else set()  # the import path of the project's plugins/
            assert used <= {here} | ROOMS[here] | GROUND | plugins, path
            if here in THIRD_PARTY:
                assert theirs <= THIRD_PARTY[here], path
                assert "torch" in THIRD_PARTY[here] or "ops" not in needed, f"{path}: mmctl.ops imports torch"
        else:
            assert here in GROUND | {"local"}, (
                f"{here} is in no room: the map in CONTRIBUTING.md says where files belong"
            )
            assert used <= GROUND | {"local"}, path
            if here in STANDARD_ALONE:
                assert not theirs, f"{path}: the standard library alone"
                assert "ops" not in needed, f"{path}: mmctl.ops imports torch"
            else:
                assert theirs <= THIRD_PARTY.get(here, HEAVY), path


def test_the_map_is_in_order_and_whole() -> None:
    """Every room stands above those that it imports, and no folder is missing."""
    order = list(ROOMS)
    for here, may in ROOMS.items():
        if here != "cli":
            assert all(order.index(other) > order.index(here) for other in may), here
    folders = {p.parent.name for p in MODULES if p.parent.parent == PACKAGE} | {"cli"}
    assert folders - KINDS - {"local", "shipped"} <= set(ROOMS)


def test_the_hash_of_the_code_is_of_the_rooms_that_can_change_a_result() -> None:
    """Those that are needed to train a run, without the index of all runs and the printing."""
    needed, waiting = set[str](), ["runs", "image_files"]  # data sets read images with it
    while waiting:
        if (here := waiting.pop()) not in needed:
            needed.add(here)
            waiting += ROOMS[here]
    assert set(ROOMS) - needed | {"report", "store"} == environment.NO_RESULT


def test_the_tree_names_every_file() -> None:
    text = (REPO / "CONTRIBUTING.md").read_text()
    tree = text[text.index("```\nmmctl/") : text.index("the ground\n```")]
    lines = dict(re.findall(r"^  (\w+)/((?:.*\n)(?: {16}.*\n)*)", tree, re.M))
    for name in ROOMS:
        files = {p.stem for p in (PACKAGE / name).glob("*.py")} - {"__init__"}
        said = re.sub(r"\([^)]*\)", "", lines[name])
        if name != "cli":  # its modules stand with the names of their commands
            assert files == set(re.findall(r"\w+", said)), name
        assert files <= set(re.findall(r"\w+", lines[name])), name


def test_no_test_module_imports_another() -> None:
    modules = {p.stem for p in (REPO / "tests").rglob("test_*.py")}
    for path in (REPO / "tests").rglob("*.py"):
        names = {word for name in imports(path) for word in (name.rpartition(".")[2], name.split(".")[0])}
        assert not names & modules, path


def test_no_module_waits_for_itself() -> None:
    """No circle, not even one for types or inside a function."""
    graph = {dotted(path): {name for name in ours(path) if name != dotted(path)} for path in FILES}
    TopologicalSorter(graph).prepare()


def test_a_room_says_what_it_is_for() -> None:
    """A paragraph in the room's first file; its __init__ stays empty of code, so that a command starts fast."""
    for name in set(ROOMS) | KINDS:
        if not (PACKAGE / name).is_dir() or name == "cli":
            continue
        tree = ast.parse((PACKAGE / name / "__init__.py").read_text())
        assert ast.get_docstring(tree), name
        assert len(tree.body) == 1 or name == "testing", name  # its first file is what authors import


def test_no_traceback_is_ever_printed() -> None:
    for path in MODULES:
        called = statements(path)[1]
        assert not called & {"traceback.print_exc", "traceback.print_exception", "sys.excepthook"}, path


def test_no_module_is_too_long() -> None:
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
    assert median(lengths.values()) < 140


def test_sources_are_ascii() -> None:
    for path in [*MODULES, *sorted((REPO / "tests").rglob("*.py")), *sorted((REPO / "plugins").glob("*.py"))]:
        path.read_text(encoding="ascii")
