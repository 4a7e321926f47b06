"""The documents cannot rot: commands are all told, links lead somewhere, the README's plugin works."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from helpers.command import Result
from helpers.paths import REPO

README = (REPO / "README.md").read_text()
DOCUMENTS = [
    REPO / "README.md",
    REPO / "CONTRIBUTING.md",
    REPO / "CHANGELOG.md",
    *sorted((REPO / "docs").rglob("*.md")),
]


def commands() -> Iterator[tuple[str, object]]:
    import typer.main

    from mmctl.cli import app

    def walk(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, object]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(words), command
            return
        for name, child in inner.items():
            yield from walk(child, (*words, name))

    yield from walk(typer.main.get_command(app), ())


def test_every_command_has_help_and_stands_in_the_readme() -> None:
    for name, command in commands():
        assert command.help or command.short_help, f"{name} has no help"  # type: ignore[attr-defined]
        if command.hidden:  # type: ignore[attr-defined]
            continue
        group, _, last = name.partition(" ")
        assert f"mmctl {group}" in README, f"mmctl {name} is not in the README"
        assert not last or f"`{last}`" in README or f"mmctl {name}" in README, f"mmctl {name} is not in the README"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path) -> None:  # type: ignore[no-untyped-def]
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_documents_are_plain_ascii() -> None:
    for path in DOCUMENTS:
        path.read_text(encoding="ascii")


def test_recipes_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"recipes/[\w./-]+\.toml", README))
    assert named
    for name in named:
        assert (REPO / name).is_file(), name


def test_the_readmes_plugin_works(mm: Callable[..., Result], tmp_path) -> None:  # type: ignore[no-untyped-def]
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "calm.py").write_text(code[1])
    listed = mm("plugins", "list", "--kind", "labeler")
    assert "calm" in listed.out
    shown = mm("plugins", "show", "calm")
    assert "temperature" in shown.out
    recipe = REPO / "recipes" / "digits-mixmatch.toml"
    done = mm("run", recipe, "--set", "labeler.name=calm", "--set", "train.steps=3", "--quiet")
    assert done.code == 0, done.err
    assert "completed, 3 steps" in done.out
