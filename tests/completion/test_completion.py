"""TAB in the shell: runs, filters, metrics, settings, components and recipes; the quick answer is the parser's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer._completion_classes import completion_init

from helpers.command import Result
from helpers.fake_runs import family
from mmctl.cli import app
from mmctl.completion import shell, values
from mmctl.recipe import settings
from mmctl.registry.index import Index
from mmctl.store.store import Store

Mm = Callable[..., Result]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    family(tmp_path / "runs", 3)
    with Store(tmp_path / "runs") as store:
        store.sync()
    monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def bash(line: str) -> dict[str, str]:
    """The environment in which bash calls mmctl after TAB, for a line of its pieces."""
    return {
        "_MMCTL_COMPLETE": "complete_bash", "COMP_WORDS": f"mmctl {line}", "COMP_CWORD": str(line.count(" ") + 1)
    }  # fmt: skip


def names(found: shell.Found) -> list[str]:
    return [name for name, _ in found]


def test_what_is_offered(mm: Mm, runs: Path) -> None:
    uids = [run["uid"] for run in json.loads(mm("ls", "--json").out)["runs"]]
    assert names(values.complete_run("2026")) == [*reversed(uids)]
    assert values.complete_run(uids[0][:20])[0][0].startswith(uids[0][:20])
    assert values.complete_run("@la")[0][0] == "@last"
    assert names(values.complete_filter("state:fa")) == ["state:failed"]
    assert names(values.complete_filter("not:method:mixmatch,su")) == ["not:method:mixmatch,supervised"]
    assert ("state:", "") in values.complete_filter("st")
    assert ("test/accuracy", "") in values.complete_metric("test/a")
    assert names(values.complete_set("train.st")) == ["train.steps="]
    assert ("labeler.name=fuzzy", "") in values.complete_set("labeler.name=f")
    (runs / "mmctl.db").write_bytes(b"no database")
    assert values.complete_run("x") == values.complete_filter("state:") == values.complete_metric("") == []


def test_settings_and_components_are_the_real_ones() -> None:
    real = {f"{table}.{key}" for table, made in settings.TABLES.items() for key in made.model_fields}
    said = {key for key in values.setting_keys() if not key.endswith(".name") and key != "seed"}
    assert {key for key in real if not key.endswith(".name")} == said
    for kind in ("labeler", "method", "loss", "backbone"):
        assert [*values._components(kind)] == sorted(set(Index(sources="off").names(kind)))


def test_the_fields_of_a_condition_are_the_real_ones(runs: Path) -> None:
    for field in values.FIELDS:
        found = values.complete_filter(f"{field}:")
        assert "None" not in str(found)
        assert found or field in ("tag", "sweep", "labeler", "host", "device", "precision", "threads"), field


def lines() -> Iterator[list[str]]:
    """Command lines, the last word of which is completed."""
    yield from ([""], ["r"], ["--"], ["nonsense", ""], ["db", ""], ["db", "ch"], ["--version", ""])

    def below(command: Any, words: list[str]) -> Iterator[list[str]]:
        for name, one in getattr(command, "commands", {}).items():
            if not one.hidden:
                yield from below(one, [*words, name])
        if not hasattr(command, "commands"):
            yield from ([*words, last] for last in ("", "2", "state:fa", "-", "--", "--js", "--nonsense"))
            yield [*words, "1", ""]
            yield [*words, "--json", "--js"]
            for option in command.params:
                if option.param_type_name == "option":
                    yield from ([*words, option.opts[0], ""], [*words, option.opts[0], "t"])

    yield from below(typer.main.get_command(app), [])


def parts(text: str) -> list[str]:
    """The words of an answer in any order; rich breaks the lines of long explanations for zsh and fish."""
    return sorted(text.removeprefix("_arguments '*: :((").removesuffix("))'").split())


@pytest.mark.slow
def test_the_quick_answer_is_the_parsers(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer._click.shell_completion import get_completion_class

    completion_init()
    command, seen = typer.main.get_command(app), set()
    for words in lines():
        for name in ("bash", "zsh", "fish"):
            env = {"_MMCTL_COMPLETE": f"complete_{name}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
            env |= {"COMP_WORDS": " ".join(["mmctl", *words]), "COMP_CWORD": str(len(words))}
            env["_TYPER_COMPLETE_ARGS"] = env["COMP_WORDS"]
            for key, value in env.items():
                monkeypatch.setenv(key, value)
            slow = get_completion_class(name)(command, {}, "mmctl", "_MMCTL_COMPLETE").complete()  # type: ignore[misc]
            found = shell.answer(env)
            assert found is not None
            made, other = parts(found[0]), parts(slow)
            assert made == other, (name, words)
            seen.add(found[0])
    assert len(seen) > 100


@pytest.mark.parametrize(
    ("pieces", "offered"),
    [
        ("ls state : fa", "failed"), ("ls state :", "completed failed"), ("ls not : method : mixmatch,su", None),
        ("show @ last-", "@last-failed"), ("show @", "@last @last-failed"), ("run --set labeler.name = fuz", "fuzzy"),
        ("run --set = labeler.name = fuz", "fuzzy"), ("run --set train.st", "train.steps="),
        ("ls state : failed tag : x stat", "state:"), ("show 'un", ""),
    ],
)  # fmt: skip
def test_the_pieces_of_bash(pieces: str, offered: str | None, runs: Path) -> None:
    found = shell.answer(bash(pieces))
    assert found is not None
    assert found == (("mixmatch,supervised" if offered is None else offered).replace(" ", "\n"), 0)


def test_the_value_behind_an_equals_sign(runs: Path) -> None:
    env = {"_MMCTL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "mmctl run --set=labeler.name=fuz"}
    assert shell.answer(env) == ("_arguments '*: :((\"--set=labeler.name=fuzzy\"))'", 0)


def test_after_two_dashes_there_are_no_options(runs: Path) -> None:
    assert names(shell.suggestions(["show", "--"], "2026")) == names(values.complete_run("2026"))
    assert shell.suggestions(["show", "--"], "--js") == []


def test_what_only_the_parser_answers() -> None:
    for said in ("source_bash", "complete_powershell", "nonsense"):
        assert shell.answer({"_MMCTL_COMPLETE": said}) is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself(runs: Path) -> None:
    command = Path(sys.executable).with_name("mmctl")
    shown = [str(command), "--show-completion", "bash"]
    script = subprocess.run(shown, capture_output=True, text=True, timeout=60, check=True).stdout
    code = script.replace("$1 )", f"{command} )")
    code += '\nCOMP_WORDS=(mmctl ls state : fa); COMP_CWORD=4; _mmctl_completion mmctl; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "failed\n"


def test_it_imports_nothing_heavy(runs: Path) -> None:
    code = (
        "import sys, runpy\nsys.argv = ['mmctl']\n"
        "try:\n    runpy.run_module('mmctl', run_name='__main__')\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pydantic', 'rich', 'numpy', 'sqlite_utils', 'typer', 'asyncio'} & {*sys.modules}))"
    )
    for line in ("show 2", "ls state : fa", "run --set optimizer.name = a", "run di", "compare -m te"):
        env = {"PYTHONPATH": ":".join(sys.path), "MMCTL_RUNS": str(runs), **bash(line)}
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=env)
        *offered, last = done.stdout.splitlines()
        assert last == "[]"
        assert offered, line
