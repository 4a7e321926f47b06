"""Makes the files of a new component: `mmctl plugins new`."""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

import mmctl
from mmctl import project
from mmctl.errors import EnvironmentFault, UserError
from mmctl.plugin import API
from mmctl.registry.index import Index, article
from mmctl.registry.sources import FOLDERS, NAME, Entry
from mmctl.scaffold.copy_source import Copy, camel, copy_component
from mmctl.text import display_path, literal, printable

LONGEST = 40
"""Longest name: file names and lines of code hold it."""
TEMPLATES = Path(__file__).parent / "templates"
RECIPE_SCHEMA = "recipe.schema.json"
"""The file that the first line of each new recipe names; `mmctl recipe schema` makes it."""


@dataclass(frozen=True)
class New:
    """What was written, and the commands to type next, each with its purpose."""

    files: tuple[Path, ...]
    commands: tuple[tuple[str, str], ...]


def new_component(name: str, kind: str, *, package: bool, source: Entry | None = None) -> New:
    """Write a component with its test and its recipe, into the project or, as a package, into a folder of its own.

    source: a built-in component to copy; without it, the template of the kind. Raises UserError if the name is not
    possible or a file exists already: then nothing is written.
    """
    _check_name(name, kind, package)
    base = Path(f"mmctl-{name.replace('_', '-')}") if package else project.root()
    module = f"mmctl_{name}.{name}" if package else f"mmctl.local.{name}"
    code = base / "src" / f"mmctl_{name}" if package else project.plugins_dir()
    copy = copy_component(source, name, "_" if package else f"_{name}_") if source else _from_template(name, kind)
    files = {code / f"{stem or name}.py": text if stem else _with_api(text) for stem, text in copy.files.items()}
    files[base / "tests" / f"test_{name}.py"] = _test(name, kind, module, source)
    files[base / "recipes" / f"{name}.toml"] = _recipe(name, kind, source, copy.marks)
    if package:
        for file, to in (
            ("pyproject.toml", "pyproject.toml"),
            ("README.md", "README.md"),
            ("test.yml", ".github/workflows/test.yml"),
            ("gitignore", ".gitignore"),
            ("__init__.py", f"src/mmctl_{name}/__init__.py"),
        ):
            files[base / to] = _filled((TEMPLATES / "package" / file).read_text("utf-8"), name, kind)
        pyproject = base / "pyproject.toml"
        points = "".join(f"{new} = {literal(f'{module}:{attr}')}\n" for new, attr in copy.objects.items())
        files[pyproject] = re.sub(rf"^{name} = .*\n", points, files[pyproject], flags=re.M)
        files[code / "py.typed"] = ""
    _write(files)
    return New(tuple(files), _next(name, kind, base, package, bool(source)))


def _check_name(name: str, kind: str, package: bool) -> None:
    shown = printable(name)
    if not NAME.fullmatch(name):
        raise UserError(
            f'"{shown}" is an invalid name: use lower-case letters, digits and _, starting with a letter, '
            "for example my_idea."
        )
    if keyword.iskeyword(name):
        raise UserError(f'"{shown}" is a word of Python and cannot be the name of a file: choose another name.')
    if len(name) > LONGEST:
        raise UserError(f'"{shown}" has {len(name)} characters: use at most {LONGEST}.')
    for entry in Index().entries:
        if (entry.kind, entry.name) == (kind, name):
            raise UserError(f"there is {article(kind)} {name} already ({entry.place}): choose another name.")


def _from_template(name: str, kind: str) -> Copy:
    text = _filled((TEMPLATES / f"{kind}.py").read_text("utf-8"), name, kind)
    return Copy({"": text}, {}, {name: name if kind == "dataset" else camel(name)})


def _with_api(text: str) -> str:
    """A plugin with the line by which an mmctl with another interface refuses it."""
    last = max(node.end_lineno or 0 for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom))
    lines = text.splitlines(keepends=True)
    lines.insert(last, f"\nMMCTL_API = {API}  # the version of mmctl.plugin for which it is written\n")
    return "".join(lines)


def _test(name: str, kind: str, module: str, source: Entry | None) -> str:
    if source is None:
        text = (TEMPLATES / f"test_{kind}.py").read_text("utf-8")
        return _sorted_imports(_filled(text.replace(f"mmctl.scaffold.templates.{kind}", module), name, kind))
    from mmctl.scaffold.recipes import required_of

    params = required_of(source)
    needs_root = kind == "dataset" and source.name != "digits"
    probe = source.name == "ctaugment_probe"  # works on a policy that is built before it
    lines = [
        f'"""Tests of the {kind} {name}: what mmctl expects of every {kind}."""',
        "",
        "from __future__ import annotations",
        "",
        *(["from pathlib import Path", "", "import pytest", ""] if needs_root else []),
        *(["from typing import Any", "", f"from {module} import CTAugment"] if probe else []),
        f"from mmctl.testing import {kind.capitalize()}Contract",
        "",
        "",
        f"class Test{camel(name)}({kind.capitalize()}Contract):",
        f'    component = "{name}"',
        *([f"    params = ({params!r},)".replace("'", '"')] if params else []),
    ]
    if needs_root:
        lines += [
            "",
            "    def make_root(self, folder: Path) -> Path | None:",
            '        pytest.skip("write small files of this data set into the folder here, and return it")',
        ]
    if probe:
        lines += [
            "",
            "    def others(self, size: tuple[int, int, int]) -> dict[str, Any]:",
            '        return {"strong": CTAugment(size[0], size[1:])}',
        ]
    return _sorted_imports("\n".join(lines) + "\n")


def _sorted_imports(text: str) -> str:
    """The imports from mmctl and the new module in the order of their names."""
    lines = text.splitlines()
    ours = [n for n, line in enumerate(lines) if line.startswith("from mmctl")]
    lines[ours[0] : ours[-1] + 1] = sorted(lines[ours[0] : ours[-1] + 1], key=lambda line: line.split()[1])
    return "\n".join(lines) + "\n"


def _recipe(name: str, kind: str, source: Entry | None, marks: dict[str, str]) -> str:
    if source is None:
        return _filled((TEMPLATES / f"{kind}.toml").read_text("utf-8"), name, kind)
    from mmctl.scaffold.recipes import recipe_of

    return f"#:schema {RECIPE_SCHEMA}\n" + recipe_of(source, name, marks)


def _filled(text: str, name: str, kind: str) -> str:
    """A template with the names of the component and of its kind."""
    words = {
        "MyComponent": camel(name),
        "my_component": name,
        "my-component": name.replace("_", "-"),
        "my_kinds": FOLDERS[kind],
        "my_kind": kind,
        "mmctl>=0.0.0": f"mmctl>={mmctl.__version__}",
    }
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text


def _write(files: dict[Path, str]) -> None:
    """Write all files, or none if one of them exists or cannot be written."""
    if there := [display_path(path) for path in files if path.exists() or path.is_symlink()]:
        exist = "exists" if len(there) == 1 else "exist"
        raise UserError(f"{' and '.join(there)} {exist} already: choose another name, or move the old files away.")
    written: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for done in written:
            done.unlink(missing_ok=True)
        raise EnvironmentFault(f"{display_path(path)} cannot be written: {error.strerror or error}.") from error


def _next(name: str, kind: str, base: Path, package: bool, copied: bool) -> tuple[tuple[str, str], ...]:
    recipe = f"mmctl run recipes/{name}.toml"
    schema = (
        f"mmctl recipe schema -o recipes/{RECIPE_SCHEMA}",
        "makes the file by which an editor completes recipes",
    )
    data = f", after you put images into data/{name}/" if kind == "dataset" and not copied else ""
    if package:
        return (
            (f"cd {base} && pip install -e '.[test]'", "installs it; edits take effect at once"),
            ("python -m pytest", "runs its tests"),
            (recipe, f"trains with it{data}"),
            schema,
        )
    return (
        (f"mmctl plugins show {name} --kind {kind}", "explains its parameters"),
        (f"python -m pytest tests/test_{name}.py", "runs its tests"),
        (recipe, f"trains with it{data}"),
        schema,
    )
