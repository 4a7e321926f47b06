"""Every --help fits its terminal and explains every option, and every example in a help or a document can be parsed."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from helpers.paths import REPO
from mmctl.cli import app
from mmctl.recipe.find import find_recipe

WIDTHS = (60, 80, 120)
DOCUMENTS = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command and group below this one, hidden ones too, by its full name."""
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{name} {word}")


def parse(root: Any, line: str) -> None:
    """Parse one example; the command itself is not run."""
    name, *words = shlex.split(line, comments=True)
    command = root
    while hasattr(command, "commands"):
        context = command.make_context(name, words)
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    assert not {"--install-completion", "--show-completion"} & set(words), "these act while they are parsed"
    given = command.make_context(name, list(words)).params
    for recipe in [*given.get("recipes", ()), given.get("recipe")]:
        if recipe and "*" not in recipe and recipe != "...":
            find_recipe(recipe)


def examples(command: Any) -> list[str]:
    return re.findall(r"^ *(mmctl\b.*)$", inspect.cleandoc(command.help or ""), re.MULTILINE)


def problems(root: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is wrong with the helps of all commands."""
    monkeypatch.setenv("COLUMNS", str(width))
    found: list[str] = []
    for name, command in walk(root, "mmctl"):
        text = command.get_help(command.make_context(name, [], resilient_parsing=True))
        shown = [line.strip() for line in text.splitlines()]
        found += [f"{name}: wider than {width}: {line}" for line in text.splitlines() if len(line) > width]
        found += [f"{name}: cut: {line}" for line in shown if re.search(r"[^\]]\.\.\.$", line) and "Usage" not in line]
        found += [f"{name}: not on a line of its own: {line}" for line in examples(command) if line not in shown]
        if not (command.help or "").split("\n\n")[0].rstrip().endswith("."):
            found.append(f"{name}: the help does not end in a full stop")
        for one in command.params:
            if not (getattr(one, "help", None) or "").endswith("."):
                found.append(f"{name}: {one.name}: the help is missing or does not end in a full stop")
        for line in examples(command):
            try:
                parse(root, line)
            except Exception as error:
                found.append(f"{name}: {line}: {error}")
    return found


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_help(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    root = typer.main.get_command(app)
    assert problems(root, width, monkeypatch) == []
    names = [name for name, _ in walk(root, "mmctl")]
    assert {"mmctl exec", "mmctl recipe validate"} <= set(names)
    assert sum(len(examples(command)) for _, command in walk(root, "mmctl")) > len(names)


def shell_lines(path: Path) -> list[str]:
    blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    whole = [block.replace("\\\n", " ") for name, block in blocks if name in SHELLS]
    lines = [line.strip().removeprefix("$ ") for block in whole for line in block.splitlines()]
    return [re.split(r"\s[|>]\s", line)[0] for line in lines if line.startswith("mmctl ")]  # the rest is the shell's


SHELLS = ("", "sh", "bash", "shell", "console")
WITH_COMMANDS = [
    path for path in DOCUMENTS if shell_lines(path) and path.name not in ("plugins.md", "own-pictures.md")
]  # other tests play these two


def test_documents_with_commands_are_found() -> None:
    assert {"README.md", "ferplus.md"} <= {path.name for path in WITH_COMMANDS}


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: path.name)
def test_every_command_in_a_document(path: Path) -> None:
    root = typer.main.get_command(app)
    for line in shell_lines(path):
        parse(root, line)


BAD = typer.Typer(rich_markup_mode=None)


@BAD.command()
def joined(sets: str = typer.Option("", "--set", help="No full stop")) -> None:
    """Has examples in one paragraph.

    mmctl joined --set a
    mmctl joined --sett b
    """


@BAD.command()
def wide(n: int = typer.Option(0)) -> None:
    """Has an example that is too wide

    \b
    mmctl wide --n 1  # xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    mmctl joined | mmctl wide
    """


@BAD.command("recipe")
def unknown_recipe(recipe: str = typer.Argument(help="A recipe.")) -> None:
    """Has an example with a recipe that does not exist.

    \b
    mmctl recipe no-such-recipe
    """


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found = "\n".join(problems(typer.main.get_command(BAD), 60, monkeypatch))
    for words in (
        "joined: not on a line of its own: mmctl joined --set a",
        "joined --sett b: No such option: --sett",
        "joined: sets: the help is missing or does not end",
        "wide: wider than 60",
        "wide: n: the help is missing",
        "wide: the help does not end in a full stop",
        "mmctl joined | mmctl wide: Got unexpected extra argument",
        'no recipe "no-such-recipe"',
    ):
        assert words in found, found
