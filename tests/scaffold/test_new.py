"""`mmctl plugins new`: what it writes works at once, and it never harms what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.paths import REPO
from helpers.run_helpers import tree
from mmctl.plugin import KINDS
from mmctl.registry.index import Index
from mmctl.scaffold.new import TEMPLATES

LOCAL = ("plugins/{0}.py", "tests/test_{0}.py", "recipes/{0}.toml")
PACKAGE = (
    "src/mmctl_{0}/{0}.py", "tests/test_{0}.py", "recipes/{0}.toml", "pyproject.toml", "README.md",
    ".github/workflows/test.yml", ".gitignore", "src/mmctl_{0}/__init__.py", "src/mmctl_{0}/py.typed",
)  # fmt: skip


def command(*words: str | Path, where: Path, **env: str) -> str:
    """Run a program; its output if it succeeds."""
    own = {**os.environ, "PYTHONPATH": str(REPO), **env}
    done = subprocess.run(words, cwd=where, env=own, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ruff(where: Path, *words: str | Path) -> None:
    for part in (("check",), ("format", "--check")):
        command(sys.executable, "-m", "ruff", *part, "--no-cache", *words, ".", where=where)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_it_says_what_it_wrote_and_what_to_type_next(mm: Any, tmp_path: Path) -> None:
    done = mm("plugins", "new", "mine", "--kind", "labeler")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "wrote plugins/mine.py\n"
        "wrote tests/test_mine.py\n"
        "wrote recipes/mine.toml\n"
        "\n"
        "What to type next:\n"
        "  mmctl plugins show mine --kind labeler              explains its parameters\n"
        "  python -m pytest tests/test_mine.py                 runs its tests\n"
        "  mmctl run recipes/mine.toml                         trains with it\n"
        "  mmctl recipe schema -o recipes/recipe.schema.json   makes the file by which an editor completes recipes\n"
    )
    assert files(tmp_path) == {path.format("mine") for path in LOCAL}
    out = mm("plugins", "new", "my_net", "--kind", "backbone", "--package").out
    assert out.endswith(
        "  cd mmctl-my-net && pip install -e '.[test]'         installs it; edits take effect at once\n"
        "  python -m pytest                                    runs its tests\n"
        "  mmctl run recipes/my_net.toml                       trains with it\n"
        "  mmctl recipe schema -o recipes/recipe.schema.json   makes the file by which an editor completes recipes\n"
    )
    assert files(tmp_path / "mmctl-my-net") == {path.format("my_net") for path in PACKAGE}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_kinds_are_clean_documented_and_pass_their_tests(mm: Any, tmp_path: Path) -> None:
    for kind in KINDS:
        assert mm("plugins", "new", f"my_{kind}", "--kind", kind).code == 0
        assert mm("plugins", "show", f"my_{kind}").code == 0
        assert mm("recipe", "validate", f"recipes/my_{kind}.toml").code == 0
    rows = [entry for entry in Index().entries if entry.origin == "plugins"]
    assert [(e.kind, e.name) for e in rows if e.summary and not e.broken] == [(kind, f"my_{kind}") for kind in KINDS]
    ruff(tmp_path, "--config", REPO / "pyproject.toml")
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            text = path.read_text(encoding="ascii")
            assert "my_component" not in text.lower().replace("mycomponent", "my_component"), path
    # A launcher's contract starts eight processes: it is tested with the packages, in the slow tests.
    fast = [f"tests/test_my_{kind}.py" for kind in KINDS if kind != "launcher"]
    command(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *fast, where=tmp_path)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("kind", KINDS)
def test_its_recipe_trains(mm: Any, tmp_path: Path, kind: str) -> None:
    mm("plugins", "new", "mine", "--kind", kind)
    words = ["--set", "train.steps=2", "--set", "eval.every=2"]
    if kind == "dataset":
        write_images(tmp_path)
        words += ["--set", "train.batch=8", "--set", "train.unlabeled_batch=8"]
    done = mm("run", "recipes/mine.toml", *words)
    assert done.code == 0, done.err
    assert "completed" in done.out


def write_images(project: Path) -> None:
    """The images that the test of the new data set writes, in the data folder of the project."""
    text = (project / "tests" / "test_mine.py").read_text()
    made: dict[str, Any] = {"np": np, "Image": Image, "Path": Path}
    exec(text[text.index("def write_images") : text.index("class Test")], made)
    made["write_images"](project / "data" / "mine")


WRONG = [
    (["Mine", "--kind", "loss"], '"Mine" is an invalid name: use lower-case letters'),
    (["my-loss", "--kind", "loss"], "for example my_idea"),
    (["../mine", "--kind", "loss"], "is an invalid name"),
    (["\x1b[31m", "--kind", "loss"], '"\\u001b[31m" is an invalid name'),
    (["lambda", "--kind", "loss"], '"lambda" is a word of Python'),
    (["a" * 41, "--kind", "loss"], "has 41 characters: use at most 40"),
    (["brier", "--kind", "loss"], "there is a loss brier already (mmctl 0.1.0): choose another name"),
    (["mine"], "--kind is needed: backbone, dataset, augment"),
    (["mine", "--kind", "los"], 'there is no kind "los". Did you mean "loss"'),
    (["mine", "--from", "fuzy"], 'there is no component "fuzy". Did you mean "fuzzy"'),
    (["mine", "--from", "fuzzy", "--kind", "loss"], '"fuzzy" is a labeler, not a loss'),
    (["mine", "--from", "plugins:other"], '"plugins:other" is not of mmctl'),
]


@pytest.mark.parametrize("form", [[], ["--package"]])
@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_words_write_nothing(mm: Any, tmp_path: Path, words: list[str], message: str, form: list[str]) -> None:
    done = mm("plugins", "new", *words, *form)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert files(tmp_path) == set()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("form", ["local", "package"])
@pytest.mark.parametrize("source", [[], ["--from", "fuzzy"]])
def test_no_file_is_ever_overwritten(mm: Any, tmp_path: Path, form: str, source: list[str]) -> None:
    words = ["plugins", "new", "mine", "--kind", "labeler", *source] + (["--package"] if form == "package" else [])
    base = tmp_path / "mmctl-mine" if form == "package" else tmp_path
    assert mm(*words).code == 0
    made = files(base)
    assert made >= {path.format("mine") for path in (PACKAGE if form == "package" else LOCAL)}
    for name in made:
        for path in base.rglob("*"):
            if path.is_file():
                path.unlink()
        (base / name).write_text("# of the user\n")
        before = tree(tmp_path)
        done = mm(*words)
        assert (done.code, done.out) == (2, ""), name
        assert f"{(base / name).relative_to(tmp_path)} exists already" in done.err
        assert tree(tmp_path) == before


def test_a_file_that_cannot_be_written_leaves_nothing_behind(mm: Any, tmp_path: Path) -> None:
    (tmp_path / "tests").write_text("a file, not a folder")
    done = mm("plugins", "new", "mine", "--kind", "loss")
    assert done.code == 4
    assert "tests/test_mine.py cannot be written" in done.err
    assert files(tmp_path) == {"tests"}


def test_templates_are_real_python() -> None:
    """They are checked with the code of mmctl: ruff and mypy read them as they stand."""
    for kind in KINDS:
        compile((TEMPLATES / f"{kind}.py").read_text(), kind, "exec")
        assert f'@{kind}("my_component")' in (TEMPLATES / f"{kind}.py").read_text()
