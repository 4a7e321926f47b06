"""The plain converters of the command line give what typer's own give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers.fake_runs import family
from mmctl.cli import app
from mmctl.cli.plain_values import use_plain_values

WORDS = (None, "", "3", "x", "0.5", "a/b", "1_0", "-1", "\u0663", "a\udcffb")


def value_of(param: Any, value: Any, command: Any) -> tuple[str, Any]:
    """What a converter makes of a value, or how it fails."""
    try:
        context = typer.Context(command)
        return "value", param.get_runtime_param().coerce(value, param=param, ctx=context)
    except typer.BadParameter as error:
        return "wrong", error.message


def test_they_give_what_typers_own_give() -> None:
    ours, theirs, seen = typer.main.get_command(app), typer.main.get_command(app), 0
    use_plain_values(ours)

    def check(one: Any, other: Any) -> None:
        nonlocal seen
        for param, original in zip(one.params, other.params, strict=True):
            for word in WORDS:
                many = param.nargs == -1 or getattr(param, "multiple", False)
                given = word if word is None or not many else (word, "2")
                assert value_of(param, given, one) == value_of(original, given, other), (one.name, param.name, given)
                seen += 1
            if many:
                assert value_of(param, (), one) == value_of(original, (), other)
        for name in getattr(one, "commands", {}):
            check(one.commands[name], other.commands[name])

    check(ours, theirs)
    assert seen > 1000


@pytest.mark.sampled(3)
@pytest.mark.parametrize("words", [["ls"], ["show", "1"], ["compare"]], ids=lambda words: words[0])
def test_a_reading_command_does_without_pydantic(words: list[str], tmp_path: Path) -> None:
    family(tmp_path / "runs", 2)
    code = (
        "import sys\nfrom mmctl.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('pydantic' in sys.modules, file=sys.stderr)"
    )
    env = {"PYTHONPATH": ":".join(sys.path), "MMCTL_RUNS": str(tmp_path / "runs")}
    line = [sys.executable, "-c", code, *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=env, check=True)
    assert done.stderr.splitlines()[-1] == "False"
