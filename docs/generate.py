"""Writes what is made from the code: docs/recipes.md, docs/plugins/*.md, the outputs in docs/plugins.md, and
mmctl/completion/commands.json.

`make docs` runs it; tests/test_docs_pages.py fails if a page differs from what it would write.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from mmctl import kinds, plugin
from mmctl.cli import app
from mmctl.plugin import ARGUMENTS, KINDS, SUPPLIED
from mmctl.recipe.json_schema import OWN
from mmctl.recipe.settings import ORDER, TABLES, LossTable, PublishedFigure, Top
from mmctl.registry.index import Index
from mmctl.registry.parameters import documentation, parameters
from mmctl.registry.sources import FOLDERS, Entry
from mmctl.testing.check import CONTRACTS
from mmctl.testing.contract import Contract

DOCS = Path(__file__).parent
MADE = "<!-- Made from the code by `make docs`: do not edit. -->"
PUBLIC = {name: getattr(plugin, name) for name in (
    "Output", "Batch", "PseudoLabels", "StepOutput", "LossTerm", "Images", "JobState", "Limits", "Network", "Centroids",
)}  # fmt: skip
"""Types that the interfaces of kinds name, in the order in which a page explains them."""
ONE = {
    "backbone": "small", "dataset": "digits", "augment": "cutout", "labeler": "softmax", "loss": "brier",
    "method": "ict", "launcher": "local",
}  # fmt: skip
"""A short built-in component of each kind, to read."""


def pages() -> dict[str, str]:
    """File name in docs/ -> its text, for all pages that are wholly made from the code."""
    index = Index(sources="off")
    return {"recipes.md": recipes_page(index)} | {f"plugins/{kind}.md": kind_page(kind, index) for kind in KINDS}


# --- a page for each kind


def kind_page(kind: str, index: Index) -> str:
    """The contract of a kind: what a component must be, what it gets, what it promises."""
    protocol, contract = getattr(kinds, kind.capitalize()), CONTRACTS[kind]
    supplied = SUPPLIED[kind]
    entry = index.find(kind, ONE[kind])
    lines = [f"# The kind {kind}", "", MADE, "", *_doc(protocol), ""]
    lines += [
        *_wrapped(
            f'It is marked `@{kind}("NAME")`. `mmctl plugins new NAME --kind {kind}` writes one that works, with a '
            f"test and a recipe. A short one to read: [{entry.name}](../../mmctl/{FOLDERS[kind]}/{entry.file.name})."
        ),
        "", "[All kinds, and a tutorial](../plugins.md)", "", "## Interface", "", *_members(protocol),
    ]  # fmt: skip
    lines += ["## What mmctl supplies", ""]
    if supplied:
        lines += [
            "Arguments before the `*`, by name and in any order; take those that you need.", "",
            *_table(("argument", "meaning"), [(f"`{name}`", ARGUMENTS[name]) for name in supplied]), "",
        ]  # fmt: skip
    else:
        lines += ["Nothing: all arguments stand after the `*`.", ""]
    used = [name for name in PUBLIC if name in _mentioned(protocol, supplied)]
    if used:
        lines += ["## Types", "", "All of them are in `mmctl.plugin`.", ""]
    for name in used:
        lines += [f"### {name}", "", *_doc(PUBLIC[name]), ""]
        lines += _members(PUBLIC[name]) if PUBLIC[name].__module__ == kinds.__name__ else _fields(PUBLIC[name])
    lines += [
        "## Promises", "",
        *_wrapped(
            f"`mmctl plugins check NAME` tries each of them, and so does `mmctl.testing.{contract.__name__}` in your "
            "own tests. What can be seen in one step is also checked before each run."
        ), "",
        *(f"- {_first(test)}" for test in _promises(contract)), "",
    ]  # fmt: skip
    if settings := list(_settings(contract)):
        lines += ["A test class may also set or write:", "", *settings, ""]
    rows = [(f"[{e.name}](../recipes.md#{kind}-{e.name})", e.summary) for e in index.entries if e.kind == kind]
    lines += ["## Built-in components", "", *_table(("name", "what it is"), rows)]
    return "\n".join(lines) + "\n"


def _doc(thing: Any) -> list[str]:
    return (inspect.getdoc(thing) or "").splitlines()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def _first(thing: Any) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _body(cls: type) -> list[ast.stmt]:
    made = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(made, ast.ClassDef)
    return made.body


def _members(cls: type) -> list[str]:
    """Attributes, each with the string below it, and methods, each with its docstring."""
    lines: list[str] = []
    body = _body(cls)
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
            text = inspect.cleandoc(ast.literal_eval(after.value))
            lines += [f"**`{ast.unparse(node.target)}: {ast.unparse(node.annotation)}`**", "", text, ""]
        elif isinstance(node, ast.FunctionDef):
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            made = re.sub(r"self(, )?", "", ast.unparse(node.args), count=1)
            name = node.name if node.name != "__call__" else _called(cls)
            lines += [f"**`{name}({made}){returns}`**", "", *(ast.get_docstring(node) or "").splitlines(), ""]
    return lines


def _called(cls: type) -> str:
    """What stands before the parentheses of a call."""
    return {"Network": "model", "Dataset": "NAME"}.get(cls.__name__, "loss")


def _fields(cls: type) -> list[str]:
    """The fields of a tuple or data class, each with the comment on its line, and its public functions."""
    rows = re.findall(r"^    (\w+): (.+?)(?: = (.+?))?  # (.+)$", inspect.getsource(cls), re.M)
    lines = _table(
        ("field", "type", "meaning"), [(f"`{n}`", f"`{t} = {d}`" if d else f"`{t}`", text) for n, t, d, text in rows]
    )
    for node in _body(cls):
        if isinstance(node, ast.FunctionDef):
            static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
            call = f"{cls.__name__}.{node.name}({ast.unparse(node.args)})" if static else node.name
            lines += ["", f"`{call}`: {ast.get_docstring(node)}"]
    return [*lines, ""]


def _mentioned(protocol: type, supplied: tuple[str, ...]) -> set[str]:
    """The words in an interface and in what is said of its supplied arguments, and in the types that it names."""
    text = inspect.getsource(protocol) + " ".join(ARGUMENTS[name] for name in supplied)
    words = set(re.findall(r"\w+", text))
    for name in ("StepOutput", "Network"):  # they name PseudoLabels and Output
        if name in words:
            words |= set(re.findall(r"\w+", inspect.getsource(PUBLIC[name])))
    return words


def _promises(contract: type[Contract]) -> Iterator[Callable[..., None]]:
    for owner in (Contract, contract):
        yield from (value for name, value in vars(owner).items() if name.startswith("test_"))


def _settings(contract: type[Contract]) -> Iterator[str]:
    """What a subclass of a contract may set: annotated attributes with a string below, and methods for it."""
    body = _body(contract)
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
            text = " ".join(ast.literal_eval(after.value).split())
            yield f"- `{ast.unparse(node)}`: {text}"
        elif isinstance(node, ast.FunctionDef) and node.name in ("make_root", "others"):
            yield f"- `{node.name}({re.sub('self, ', '', ast.unparse(node.args))})`: {ast.get_docstring(node)}"


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (titles, *rows)]
    made = ["| " + " | ".join(row) + " |" for row in cells]
    return [made[0], "|" + "---|" * len(titles), *made[1:]]


# --- the reference of recipes


def recipes_page(index: Index) -> str:
    """Every table and key of a recipe with type, default, bounds and meaning."""
    lines = [
        "# Recipes: every table and key", "", MADE, "",
        *_wrapped(RECIPE), "",
        *_wrapped(f"The order of tables is free; mmctl writes {', '.join(f'`{key}`' for key in ORDER)}."), "",
        *_wrapped(TYPES), "",
        "## Keys before the first table", "",
        *_table(COLUMNS, [("`extends`", "str | list[str]", "`-`", "", EXTENDS), *_rows(Top)]), "",
        "## [requires]", "", *_wrapped(REQUIRES), "",
    ]  # fmt: skip
    for name, model in TABLES.items():
        lines += [f"## [{name}]", "", " ".join((model.__doc__ or "").split()), "", *_table(COLUMNS, _rows(model)), ""]
        if name == "published":
            lines += ["Each of `figures` is a table:", "", *_table(COLUMNS, _rows(PublishedFigure)), ""]
    for kind in KINDS:
        lines += [*_kind_of_table(kind), ""]
        for entry in index.entries:
            if entry.kind == kind:
                lines += [*_component(entry, index), ""]
    return "\n".join(lines).rstrip() + "\n"


RECIPE = (
    "A recipe is a TOML file. The [README](../README.md#a-recipe) explains how recipes build on each other; `mmctl "
    "recipe show FILE` prints every value of one with its origin, `mmctl recipe validate FILE` its mistakes."
)
TYPES = (
    "Types are those of TOML; 1 is a `float` too. A default of `-` means that the key is absent; the word "
    '`"none"` takes an inherited value of such a key away. Where a key takes steps or a fraction of the run, an `int` '
    "is a number of steps and a `float` a fraction: 1 is one step, 1.0 the whole run."
)
EXTENDS = "The recipe, or the recipes, that this one changes; later ones win."
REQUIRES = (
    'PACKAGE = "VERSIONS", for example `mmctl = ">=0.1"`: the recipe is refused if the installed package is missing or '
    "has another version."
)
COLUMNS = ("key", "type", "default", "bounds", "meaning")


def _rows(model: Any) -> list[tuple[str, ...]]:
    """The parameters of a model as rows; the tables in a list are described apart."""
    types = {"list[any]": "list[table]"}
    return [
        (f"`{r.name}`", types.get(r.type, r.type), f"`{r.default}`", r.bounds, r.meaning) for r in parameters(model)
    ]


def _kind_of_table(kind: str) -> list[str]:
    """The tables of a kind, and their keys that do not belong to the component."""
    where = {"augment": "[augment.NAME]", "loss": "[loss.SLOT]"}.get(kind, f"[{kind}]")
    about = {
        "augment": "Augmentation policies: a method's views name them, most of them `weak` and `strong`.",
        "loss": "The loss terms of the method: the SLOTs that it has, see below. `name` replaces the loss of a slot.",
        "labeler": "Who gives the pseudo-labels. Default: the method's.",
        "launcher": "Who starts the processes of several runs. Default: `local`.",
    }.get(kind, f"The {kind}: `name`, and the parameters of the component of this name.")
    lines = [f"## {where}", "", f"{about} How to write one: [plugins/{kind}.md](plugins/{kind}.md).", ""]
    rows = [("`name`", "str", "`-`", "", "Name of the component, `NAME` or `ORIGIN:NAME`.")]
    if kind == "loss":
        rows += [(n, t, "the method's", b, m) for n, t, _, b, m in _rows(LossTable)]
    else:
        rows += [(f"`{k}`", "str", "`-`", "", a["description"]) for k, a in OWN.get(kind, {}).items()]
    return [*lines, *_table(COLUMNS, rows)]


def _component(entry: Entry, index: Index) -> list[str]:
    component, rows = index.load(entry), _rows(index.shape(entry).model)
    lines = [f"### {entry.kind} {entry.name}", "", documentation(component).split("Args:")[0].strip(), ""]
    lines += _table(COLUMNS, rows) if rows else ["No parameters."]
    if slots := getattr(component, "slots", None):
        titles = ("slot", "default loss", "`weight`", "`rampup`", "`ramp`")
        found = [(f"`{n}`", t.loss or "by the method", str(t.weight), str(t.rampup), t.ramp) for n, t in slots.items()]
        lines += ["", *_table(titles, found)]
    return lines


# --- the tutorial


FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)


def played(text: str, run: Callable[[str], str | None]) -> str:
    """The tutorial with what its commands print now; "..." in a line of the page stands for anything.

    A block with a file name writes this file below the current folder. In a block `console`, each line with `$ ` is
    a command; `run` gives its output, or None to leave the page as it is.
    """

    def block(m: re.Match[str]) -> str:
        language, name, body = m[1], m[2], m[3]
        if name:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(body, encoding="utf-8")
        if language != "console":
            return m[0]
        made = ""
        for part in filter(None, re.split(r"^(?=\$ )", body, flags=re.M)):
            line, _, said = part.partition("\n")
            found = run(line.removeprefix("$ "))
            if found is not None:
                found = "".join(f"{row.rstrip()}\n" for row in found.rstrip().splitlines())
            made += f"{line}\n{said if found is None or same(said, found) else found}"
        return f"```console\n{made}```"

    return FENCE.sub(block, text)


def same(page: str, found: str) -> bool:
    """Whether an output is that of the page, in which "..." stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in page.rstrip("\n").split("..."))
    return re.fullmatch(pattern, found.rstrip("\n"), re.S) is not None


def install(folder: Path) -> Path:
    """What `pip install -e` would leave for a package with one entry point; returns the folder for Python's path."""
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "src" / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    points = [
        (f"[{group}]", *(f"{n} = {v}" for n, v in values.items())) for group, values in about["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(f"{line}\n" for lines in points for line in lines))
    return folder / "src"


def shell(line: str) -> str | None:
    """The output of a command of the tutorial, as `played` needs it; mmctl runs in this process, which is faster."""
    words = shlex.split(line)
    if words[0] == "cd":
        os.chdir(words[1])
        return ""
    if words[0] == "pip":
        sys.path.insert(0, str(install(Path.cwd())))
        return None
    if words[0] != "mmctl":
        line = line.replace("python", shlex.quote(sys.executable), 1) if words[0] == "python" else line
        done = subprocess.run(line, shell=True, capture_output=True, text=True)
        return done.stdout + (done.stderr if done.returncode else "")
    from mmctl import local
    from mmctl.cli import main as mmctl

    for name in [name for name in sys.modules if name.startswith("mmctl.local.")]:
        del sys.modules[name]  # the file may have changed, and a new process would read it again
        vars(local).pop(name.rpartition(".")[2], None)
    importlib.invalidate_caches()
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            mmctl(words[1:])
        except SystemExit as end:
            code = end.code
    return out.getvalue() + (err.getvalue() if code else "")  # without errors: the lines of progress


TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(DOCS.parent)}
"""The environment of the tutorial."""


def tutorial() -> str:
    """The tutorial with what its commands print now."""
    text = (DOCS / "plugins.md").read_text()
    for name in [name for name in os.environ if name.startswith("MMCTL_")]:
        del os.environ[name]
    os.environ |= TERMINAL
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return played(text, shell)


# --- the commands, for mmctl/completion/shell.py


def commands_json() -> str:
    """The text of mmctl/completion/commands.json: every command with its options, for the shell's completion."""
    command = typer.main.get_command(app)
    node = _node(command, typer.Context(command, info_name="mmctl", **command.context_settings))
    commands = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in node.pop("commands").items())
    return f'{json.dumps(node)[:-1]}, "commands": {{\n{commands}\n}}}}\n'


def _node(command: Any, context: Any) -> dict[str, Any]:
    node: dict[str, Any] = {"help": command.get_short_help_str(), "options": []}
    for one in command.get_params(context):
        completed = one._custom_shell_complete
        name = completed.__closure__[0].cell_contents.__name__ if completed else ""
        if one.param_type_name == "argument":
            node.setdefault("arguments", []).append(name)
            node |= {"many": True} if one.nargs == -1 else {}
        elif not one.hidden:
            given = one.opts + one.secondary_opts
            if "--help" in given:  # typer has them as a set, in any order
                given = sorted(given)
            said = {"value": not one.is_flag, "many": bool(one.multiple), "complete": name}
            node["options"].append({
                "names": given, "help": one.help, **{k: v for k, v in said.items() if v}
            })  # fmt: skip
    if hasattr(command, "commands"):
        node["commands"] = {
            name: _node(one, typer.Context(one, parent=context))
            for name, one in command.commands.items()
            if not one.hidden
        }
    return node


def main() -> None:
    """Write all pages that have changed."""
    for name, text in {
        **pages(),
        "plugins.md": tutorial(),
        "../mmctl/completion/commands.json": commands_json(),
    }.items():
        path = DOCS / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
