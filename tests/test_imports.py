"""Who may import whom, by the import statements; those inside functions count too, except in cli/."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

from helpers.paths import REPO

PACKAGE = REPO / "mmctl"
KINDS = {"backbones", "datasets", "augments", "labelers", "losses", "methods", "launchers"}
GROUND = {"errors", "plugin", "project", "identity"}
RECIPES = {
    "lines", "wording", "params", "registry", "settings", "layers", "requires", "resolve", "crosscheck", "recipe",
    "recipe_schema", "local", "outline", "tablefile",
}  # fmt: skip
TRAINING = {
    "ops", "split", "loader", "model", "centroids", "checkpoint", "evaluate", "optimizer", "tally", "alarms", "train",
    "pictures", "stage", "capture", "writer", "owners",
}  # fmt: skip
BOOKS = {
    "lease", "journal", "database", "schema", "curves", "importer", "store", "stats", "measure", "selection", "compare",
    "report", "terminal", "pages", "panels", "typeset",
}  # fmt: skip
ALONE = {"environment", "progress", "stopping"}
JOINS = {
    "assemble", "folder", "run", "batch", "dry", "judge", "find", "computed", "pack", "opened", "profile", "table",
    "rehearsal", "explain",
}  # fmt: skip
MAY: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(RECIPES, GROUND | RECIPES),
    **dict.fromkeys(TRAINING, GROUND | TRAINING),
    **dict.fromkeys(BOOKS, GROUND | BOOKS),
    **dict.fromkeys(ALONE, GROUND),
    **dict.fromkeys(JOINS, GROUND | RECIPES | TRAINING | BOOKS | ALONE | JOINS),
}
HEAVY = {"torch", "torchvision", "timm", "numpy", "sklearn", "scipy", "rich", "sqlite_utils", "pydantic", "typer"}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports at run time, dotted."""
    tree = ast.parse(path.read_text())
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "mmctl":
                yield from (f"mmctl.{name.name}" for name in node.names)
            else:
                yield node.module


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    here = part(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("mmctl.")} - {"__version__"}
    theirs = {name.split(".")[0] for name in imports(path)} & HEAVY
    if here == "cli":
        return
    assert "cli" not in ours
    if here in KINDS:
        assert ours <= {"plugin", "ops", here}, "a component sees what a third party's sees"
        return
    assert here in MAY, f"{here} is in no layer: say in this test where it belongs"
    assert ours <= MAY[here]
    if here in GROUND:
        assert not theirs, "the standard library alone"
    if here in RECIPES:
        assert theirs <= {"pydantic"}
    if here in TRAINING:
        assert theirs <= {"torch", "numpy"}
    if here in BOOKS:
        assert theirs <= {"rich", "sqlite_utils"}


ORDERS = {
    "recipes": (
        "lines", "wording", "params", "registry", "settings", "layers", "requires", "crosscheck", "resolve", "recipe",
        "recipe_schema",
    ),
    "training": (
        "split", "pictures", "stage", "loader", "model", "centroids", "checkpoint", "evaluate", "optimizer", "tally",
        "owners", "alarms", "capture", "train", "writer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_each_module_uses_those_before_it(order: tuple[str, ...]) -> None:
    for n, name in enumerate(order):
        ours = {module.split(".")[1] for module in imports(PACKAGE / f"{name}.py") if module.startswith("mmctl.")}
        assert not ours & set(order[n:]), f"{name} looks forward"


def test_no_module_waits_for_itself() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("mmctl.")}
        graph.setdefault(part(path), set()).update(ours - {part(path), "__version__"})
    # A run's journal calls the importer, by way of the store, so that other commands see a live run.
    graph["journal"].remove("store")
    TopologicalSorter(graph).prepare()


def test_no_traceback_is_ever_printed() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("traceback.print_exc", "traceback.print_exception", "sys.excepthook"), path


def test_no_module_is_too_long() -> None:
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
    assert median(lengths.values()) < 140


def test_sources_are_ascii() -> None:
    for path in [*MODULES, *sorted((REPO / "tests").rglob("*.py")), *sorted((REPO / "plugins").glob("*.py"))]:
        path.read_text(encoding="ascii")
