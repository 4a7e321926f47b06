"""What a command imports: nothing heavy before it is needed. Deterministic, no stopwatch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.fake_runs import finished_run
from helpers.paths import REPO

HEAVY = {"torch", "torchvision", "timm", "numpy", "sklearn", "scipy", "pydantic", "rich", "sqlite_utils", "sqlite3"}


def loaded(*words: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a command."""
    code = (
        "import sys, json, io, contextlib\n"
        "code = 0\n"
        "from mmctl.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    try: main(sys.argv[1:])\n"
        "    except SystemExit as end: code = end.code\n"
        "assert code in (0, None) or sys.argv[1:] == ['show', '@last'] or code == 2 and sys.argv[1] == 'run', code\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules} | "
        "({'importlib.metadata'} & set(sys.modules)))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=REPO, capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_and_version_import_nothing_heavy() -> None:
    for words in (("--help",), ("--version",)):
        assert not loaded(*words) & (HEAVY | {"importlib.metadata"})


@pytest.mark.slow
def test_reading_commands_do_without_torch(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    loaded("ls")  # makes the database, by sqlite-utils, which takes numpy where it finds it
    for words in (("ls",), ("ls", "--json"), ("compare",), ("show", "@last"), ("plugins", "list")):
        seen = loaded(*words)
        assert not seen & {"torch", "torchvision", "timm", "numpy", "sklearn", "scipy"}, words
        assert "secrets" not in seen or words[0] == "plugins", "it takes milliseconds: os.urandom does the same"


READING = (
    ("ls",), ("ls", "--json"), ("show", "@last"), ("compare",), ("diff", "1", "1"), ("tag", "1", "a"),
    ("table", "table3"), ("table", "table5", "--commands"), ("note", "1", "b"),
    ("db", "info"), ("db", "check"), ("recipe", "validate", "recipes/digits.toml", "--fast"),
    ("recipe", "list"), ("plot",), ("watch",), ("logs", "@last"),
    ("report", "--no-images", "--no-embedding", "-o", "TMP/r.html"),
    ("star", "1"), ("archive", "1", "--remove"), ("rename", "1", "c"), ("query", "SELECT 1"),
    ("checkpoints", "ls"), ("rm", "1", "--dry-run"), ("restore",), ("gc", "--dry-run"),
)  # fmt: skip


@pytest.mark.sampled(12, 3)
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_reads_runs_imports_no_torch(words: tuple[str, ...], tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", "20261125-080000-x-s0-abcd")
    words = tuple(word.replace("TMP", str(tmp_path)) for word in words)
    assert not loaded(*words) & {"torch", "torchvision", "timm", "sklearn", "scipy"}


@pytest.mark.slow
def test_training_needs_neither_torchvision_nor_timm(tmp_path: Path) -> None:
    seen = loaded("run", "recipes/digits.toml", "--set", "train.steps=1", "--quiet")
    assert "torch" in seen
    assert not seen & {"torchvision", "timm"}


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "words",
    [
        ("digits", "--seeds", "a"), ("digts",), ("digits", "--tag", "a,b"),
        ("ferplus-2000", "--set", "dataset.root=nowhere"),
        ("ferplus-2000", "--dry-run", "--set", "dataset.root=nowhere"),
    ],
)  # fmt: skip
def test_mistakes_that_need_neither_torch_nor_data_are_found_without_them(words: tuple[str, ...]) -> None:
    assert not loaded("run", *words) & {"torch", "torchvision", "timm", "sklearn", "scipy"}
