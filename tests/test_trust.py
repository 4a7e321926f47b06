"""What a plugin that is gone, broken or another does to each command, and that reading runs runs nothing of theirs."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from helpers import tiny_project
from helpers.command import Result
from helpers.distributions import fake_distribution
from helpers.fake_runs import finished_run
from helpers.paths import REPO
from helpers.run_helpers import After
from mmctl.cli import app
from mmctl.recipe import resolve
from mmctl.recipe.recipe import load
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute

Mm = Callable[..., Result]
LOSS = '''
from torch.nn.functional import cross_entropy

from mmctl.plugin import loss


@loss("calm")
class Calm:
    """Cross-entropy."""

    def __call__(self, out, target_BK, weight_B=None):
        return cross_entropy(out.logits, target_BK)
'''
POINTS = "[mmctl.losses]\ncalm = proto_pkg:Calm\n"
SETS = (
    "train.threads=1", "train.steps=6", "train.save_every=3", "eval.every=2", "loss.labeled.name=calm",
    "requires.numpy='>=1'",
)  # fmt: skip


def new_process() -> None:
    """Forget what was imported, as a new mmctl would not know it."""
    for name in [n for n in sys.modules if n.startswith(("mmctl.local.", "proto_pkg"))]:
        del sys.modules[name]
    import mmctl.local

    mmctl.local.__path__[:] = mmctl.local.__path__[:1]
    for name in ("tiny", "_shared"):
        vars(mmctl.local).pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a run that was stopped half-way: dataset and backbone of plugins/, loss of a package."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MMCTL_RUNS", str(root / "runs"))
        patch.setenv("MMCTL_PLUGINS_DIR", str(root / "plugins"))
        patch.syspath_prepend(str(root / "site"))
        tiny_project.written("supervised")
        tiny = root / "plugins" / "tiny.py"
        names = 'CLASSES = ("rows", "columns", "checks")\n'
        tiny.write_text(tiny.read_text().replace(names, "from ._shared import CLASSES\n"))
        (root / "plugins" / "_shared.py").write_text(names)
        fake_distribution(root / "site", "mmctl-proto", "0.3", POINTS)
        (root / "site" / "proto_pkg.py").write_text(LOSS)
        new_process()
        folder = create_run(load("tiny.toml", SETS), root / "runs")
        assert execute(folder, After(3)).state == "interrupted"
    new_process()
    yield root
    new_process()


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    new_process()
    return next((tmp_path / "runs").glob("2*"))


def append(path: str, text: str) -> Callable[[pytest.MonkeyPatch], None]:
    def change(patch: pytest.MonkeyPatch) -> None:
        with Path(path).open("a") as file:
            file.write(text)

    return change


def version(number: str | None, *requires: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Another version of the package is installed; None = none is."""

    def change(patch: pytest.MonkeyPatch) -> None:
        shutil.rmtree("site/mmctl_proto-0.3.dist-info")
        if number:
            fake_distribution(Path("site"), "mmctl-proto", number, POINTS, requires)

    return change


def variable(value: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setenv("MMCTL_PLUGINS", value)


class Case(NamedTuple):
    change: Callable[[pytest.MonkeyPatch], None]
    resume: str  # what the refusal says; "" = it goes on
    evaluate: str  # what the refusal says; "" = it evaluates
    run: str = ""  # "" = trains a new run, "continues" = goes on with the old one, else what the refusal says


BROKEN = "plugins:tiny cannot be imported: ZeroDivisionError"
GONE = 'no dataset "plugins:tiny"'
CASES = {
    "nothing": Case(lambda patch: None, "", "", "already done"),
    "local plugin missing": Case(lambda patch: Path("plugins/tiny.py").unlink(), GONE, GONE, 'no dataset "tiny"'),
    "local plugin broken": Case(append("plugins/tiny.py", "1 / 0\n"), "plugins/tiny.py", BROKEN, BROKEN),
    "local plugin changed": Case(append("plugins/tiny.py", "# x\n"), "began (plugins/tiny.py)", ""),
    "its helper changed": Case(append("plugins/_shared.py", "# x\n"), "began (_shared.py, which it imports)", ""),
    "local plugin for a newer mmctl": Case(
        append("plugins/tiny.py", "MMCTL_API = 99\n"), "upgrade mmctl", "upgrade mmctl", "upgrade mmctl"
    ),
    "local plugin for an older mmctl": Case(
        append("plugins/tiny.py", "MMCTL_API = 0\n"), "the changelog", "the changelog", "the changelog"
    ),
    "package missing": Case(
        version(None), "pip install mmctl-proto==0.3", "pip install mmctl-proto==0.3", 'no loss "calm"'
    ),
    "package older": Case(version("0.2"), "(version 0.3; 0.2 is installed)", ""),
    "package newer": Case(version("0.4"), "(version 0.3; 0.4 is installed)", ""),
    "package for another mmctl": Case(version("0.3", "mmctl>=99"), *["mmctl-proto 0.3 needs mmctl>=99"] * 3),
    "MMCTL_PLUGINS=off": Case(variable("off"), *["(MMCTL_PLUGINS=off)"] * 3),
    "MMCTL_PLUGINS=local": Case(variable("local"), *["(MMCTL_PLUGINS=local)"] * 3),
    "MMCTL_PLUGINS=all": Case(variable("all"), "", "", "already done"),
    "[requires] not met any more": Case(
        lambda patch: patch.setattr(resolve, "installed_version", lambda name: "0.5"),
        *["requires.numpy: needs numpy >=1; version 0.5 is installed", "", "needs numpy >=1"],
    ),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", CASES)
def test_what_a_plugin_that_is_not_as_it_was_does_to_each_command(
    name: str, mm: Mm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    case.change(monkeypatch)

    def told(*words: str, refusal: str) -> Result:
        new_process()
        done = mm(*words)
        assert done.code == (2 if refusal else 0), done
        assert refusal in done.err
        assert "Traceback" not in done.out + done.err
        return done

    for words in (("ls",), ("show", folder.name), ("compare",), ("diff", folder.name, folder.name), ("db", "check")):
        assert told(*words, refusal="").err == ""
    result = told("evaluate", folder.name, "--json", refusal=case.evaluate)
    if not case.evaluate:
        found = json.loads(result.out)
        assert found["exact"] is not bool(case.resume)
        assert case.resume in "".join(found["changes"])
    told("resume", folder.name, "--quiet", refusal=case.resume)
    sets = [word for one in SETS for word in ("--set", one)]
    again = case.run == "already done"
    done = told("run", "tiny.toml", *sets, "--quiet", refusal="" if again else case.run)
    assert (case.run in done.out + done.err) or not again
    assert len([*folder.parent.glob("2*")]) == (1 if case.run else 2)
    if case.resume and not case.evaluate:
        told("resume", folder.name, "--quiet", "--accept-changes", refusal="")
        assert json.loads(mm("show", folder.name, "--json").out)["run"]["exact"] in (False, 0)


def test_a_record_without_hashes_of_imported_files_is_not_called_changed(mm: Mm, folder: Path) -> None:
    from mmctl.identity import config_id_of
    from mmctl.run_folder.verify import identity_hash

    record = json.loads((folder / "run.json").read_text())
    for part in record["components"]:
        part.pop("helpers", None)
    old = config_id_of(record["config"], record["components"])
    assert record["config_id"] != old
    record |= {"config_id": old}
    record |= {"identity": identity_hash(record)}
    before = json.loads((folder / "run.json").read_text())["identity"]
    for path in folder.rglob("*"):  # the hash stands in the journal and the manifests too, as an old mmctl wrote it
        if path.suffix in (".json", ".jsonl") and path.name != "run.json":
            path.write_text(path.read_text().replace(before, record["identity"]))
    (folder / "run.json").write_text(json.dumps(record))
    append("plugins/_shared.py", "# x\n")(pytest.MonkeyPatch())
    assert mm("ls").code == 0
    done = mm("evaluate", folder.name, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["changes"] == []


READING = (
    ("ls",), ("ls", "--json"), ("show", "1"), ("show", "1", "--json"), ("compare",), ("compare", "--json"),
    ("diff", "1", "2"), ("tag", "1", "a"), ("note", "1", "b"), ("db", "rebuild"), ("db", "info"), ("resume",),
    ("plugins", "list"), ("recipe", "list"), ("recipe", "validate", "mine", "--fast"),
)  # fmt: skip


def trapped(tmp_path: Path) -> Path:
    """A stranger's project in which everything that can be run leaves a trace; returns the file of traces."""
    trace = tmp_path / "trace"
    trap = f"with open({str(trace)!r}, 'a') as file: file.write(__name__ + chr(10))\n"
    mark = "from mmctl.plugin import dataset\n@dataset('mine')\ndef mine(): ...\n"
    (tmp_path / "plugins").mkdir()
    for name in ("mine", "_helper", "__init__", "conftest"):
        (tmp_path / "plugins" / f"{name}.py").write_text(trap + (mark if name == "mine" else ""))
    recipe = 'extends = "digits"\n[dataset]\nname = "mine"\n'
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.toml").write_text(recipe)
    for n in (1, 2):
        folder = finished_run(tmp_path / "runs", f"2026112{n}-080000-x-s0-abcd", seed=n)
        record = json.loads((folder / "run.json").read_text())
        record["components"][0] |= {"name": "plugins:mine", "origin": "plugins", "file": "plugins/mine.py"}
        record["components"][0]["file_hash"] = "00" * 32
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "recipe.toml").write_text(recipe)
        saved = folder / "checkpoints" / "step-000001000"
        saved.mkdir(parents=True)
        os_system = f"cposix\nsystem\n(S'echo pickle >> {trace}'\ntR.".encode()
        for name in ("state.safetensors", "state.pt", "manifest.json", "state.pkl"):
            (saved / name).write_bytes(os_system)
        for name in ("sitecustomize.py", "conftest.py", "torch.py", "numpy.py", "rich.py", "json.py", "setup.py"):
            (folder / name).write_text(trap)
    return trace


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_reading_runs_nothing_of_a_stranger(words: tuple[str, ...], mm: Mm, tmp_path: Path) -> None:
    trace = trapped(tmp_path)
    assert mm(*words).code == (2 if words == ("resume",) else 0)  # there is none to continue
    assert not trace.exists()


def test_the_traps_work(mm: Mm, tmp_path: Path) -> None:
    trace = trapped(tmp_path)
    assert mm("recipe", "validate", "mine").code == 0
    assert trace.read_text() == "mmctl.local.mine\n"
    import pickle

    pickle.loads((tmp_path / "runs/20261121-080000-x-s0-abcd/checkpoints/step-000001000/state.pkl").read_bytes())
    assert trace.read_text().endswith("pickle\n")


def test_reading_imports_neither_torch_nor_pickle_code_of_a_run(tmp_path: Path) -> None:
    """In a process of its own, from within the run folder, whose `torch.py` must not be taken for torch."""
    trace = trapped(tmp_path)
    code = (
        "import sys\nfrom mmctl.cli import main\n"
        "for words in (['ls'], ['show', '1'], ['compare']):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "print('torch' in sys.modules, any(m.startswith('mmctl.local') for m in sys.modules))\n"
    )
    inside = tmp_path / "runs" / "20261121-080000-x-s0-abcd"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=inside, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"
    assert not trace.exists()


def test_a_word_that_is_no_source_is_told_by_commands_that_need_plugins(mm: Mm, monkeypatch: Any) -> None:
    monkeypatch.setenv("MMCTL_PLUGINS", "none")
    for words in (("plugins", "list"), ("run", "digits")):
        done = mm(*words)
        assert (done.code, done.out) == (2, "")
        assert "off, local or all" in done.err


def test_the_page_says_of_every_command_what_it_runs() -> None:
    rows = re.findall(r"^\| (`.+?) \|", (REPO / "docs" / "trust.md").read_text(), re.M)
    said = {word for row in rows for word in re.findall(r"`([a-z]+(?: [a-z.]+)?)", row)}
    said |= {word.split(" ")[0] for word in said if word.endswith(" ...") or "..." in word}
    app_commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in app_commands.items():
        if hasattr(command, "commands") and name not in said:
            assert {f"{name} {sub}" for sub in command.commands} <= said, name
        elif not command.hidden:
            assert name in said, name
