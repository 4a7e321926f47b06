"""What a run folder keeps of code, packages and machine before step 0, and how seeds that differ are noticed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import tomllib
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_runs, tiny_project
from helpers.command import Result
from helpers.processes import dies_at
from helpers.run_helpers import never
from mmctl.errors import UserError
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder.provenance import read_provenance
from mmctl.run_folder.record import read_record
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.runs.other_seeds import compare
from mmctl.runs.preflight import preflight
from mmctl.runs.provenance import Provenance, installed_packages

Mm = Callable[..., Result]
SETS = ("train.threads=1", "train.steps=2", "train.save_every=2", "eval.every=2")
SECRET = "s3cr3t-s3cr3t-s3cr3t"


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of the test as a repository with one commit."""
    (tmp_path / "gitconfig").write_text("[user]\n\tname = A\n\temail = a@b.c\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    tiny_project.written("supervised")
    (tmp_path / "tools.py").write_text("t = 1\n")
    (tmp_path / ".gitignore").write_text("runs/\ngitconfig\n__pycache__/\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return tmp_path


def made(*sets: str, provenance: Provenance | None = None, seed: int = 0) -> Path:
    recipe = tiny_project.recipe("supervised", *SETS, *sets).with_seed(seed)
    return create_run(recipe, Path("runs").absolute(), provenance=provenance)


def alerts(folder: Path) -> list[str]:
    path = folder / "journal.0.jsonl"
    return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_keeps_what_it_is_computed_from(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DATA_TOKEN", SECRET)
    Path("tiny.toml").write_text(Path("tiny.toml").read_text() + f"# https://me:{SECRET}@host/x\n")
    Path("plugins/more.py").write_text("m = 1\n")
    monkeypatch.setattr("sys.argv", ["mmctl", "run", "--token", SECRET])
    recipe = tiny_project.load(Path("tiny.toml"), sets=SETS, index=tiny_project.Index(sources="local"))
    folder = create_run(recipe, repo / "runs")
    record, found = read_record(folder), read_provenance(folder)
    assert record["command"] == ["mmctl", "run", "--token", "***"]
    kept: Any = record["git"]
    assert (kept["branch"], kept["commit"]) == ("main", git("rev-parse", "HEAD"))
    assert (kept["dirty"], kept["changed"], kept["untracked"]) == (True, 1, 1)
    files: Any = found["git"]
    assert files["changed"] == ["tiny.toml"]
    assert [(one["path"], one["bytes"]) for one in files["untracked"]] == [("plugins/more.py", 6)]
    assert files["left_out"] == ["tiny.toml: has what looks like a secret"]
    packages: Any = found["packages"]
    assert packages["numpy"] == metadata.version("numpy")
    assert len(packages) > 20
    variables: Any = found["variables"]
    assert variables["OMP_NUM_THREADS"] == "1"
    assert found["hardware"]
    assert found["torch"]
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert SECRET not in path.read_text(), path


def test_packages_are_those_of_importlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, url in (
        ("Some_Thing-1.0+x.dist-info", {"url": f"https://me:{SECRET}@h", "vcs_info": {"commit_id": "abc"}}),
        ("edited-2.0.dist-info", {"url": "file:///x", "dir_info": {"editable": True}}),
        ("broken-3.0.dist-info", None),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "direct_url.json").write_text(json.dumps(url) if url else "{")
    monkeypatch.syspath_prepend(tmp_path)
    found = installed_packages()
    assert (found["some-thing"], found["edited"]) == ("1.0+x (git abc)", "2.0 (editable)")
    assert SECRET not in str(found)
    for name in ("torch", "numpy", "pydantic-core"):
        assert found[name] == metadata.version(name)


def test_an_unknown_is_a_warning_in_the_run(repo: Path, monkeypatch: pytest.MonkeyPatch, mm: Mm) -> None:
    monkeypatch.setattr("mmctl.runs.provenance.LIMIT", 0.2)
    (repo / "git").write_text("#!/bin/sh\nexec sleep 100\n")
    (repo / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{repo}:{os.environ['PATH']}")
    folder = made()
    kept: Any = read_record(folder)["git"]
    assert (kept["commit"], kept["dirty"]) == (None, None)
    (line,) = alerts(folder)
    assert line.startswith("git: git rev-parse took too long; what of the code is unknown: commit, changes")
    shown = json.loads(mm("show", "@last", "--json").out)["run"]
    assert [one["text"] for one in shown["alerts"]] == [line]
    assert "changes unknown" in mm("show", "@last").out


def test_late_packages_are_no_problem_of_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> dict[str, str]:
        asked.set()
        go.wait(60)
        return {}

    monkeypatch.setattr("mmctl.runs.provenance.installed_packages", slow)
    provenance = Provenance()
    assert asked.wait(60)
    monkeypatch.setattr("mmctl.runs.provenance.LIMIT", 0.01)
    provenance._end = 0.0
    folder = made(provenance=provenance)
    go.set()
    kept: Any = read_record(folder)["git"]
    assert (kept["dirty"], "problem" in kept) == (False, False)
    assert alerts(folder) == ["packages: to list them took too long, so they are not kept."]


def test_outside_of_a_repository_there_is_no_warning(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    os.environ["GIT_CEILING_DIRECTORIES"] = str(tmp_path)
    try:
        folder = made()
    finally:
        del os.environ["GIT_CEILING_DIRECTORIES"]
    assert read_record(folder)["git"] is None
    assert alerts(folder) == []
    assert capfd.readouterr().err == ""
    assert not (folder / "code.patch").exists()


def test_kill_9_at_any_write_leaves_a_whole_folder_or_none(repo: Path) -> None:
    Path("tiny.toml").write_text(Path("tiny.toml").read_text() + "\n")
    provenance = Provenance()
    assert provenance.state.dirty  # no thread in the children
    for n in range(1, 40, 3):
        died = dies_at(n, True, partial(made, provenance=provenance))  # type: ignore[arg-type]
        for folder in (repo / "runs").glob("2*"):
            assert read_record(folder)["git"]
            assert read_provenance(folder)
            assert (folder / "code.patch").read_bytes().endswith(provenance.state.patch)
        if not died:
            break
    assert list((repo / "runs").glob("2*"))


def test_show_diff_and_reproduce(repo: Path, mm: Mm) -> None:
    first = made()
    commit = git("rev-parse", "HEAD")
    Path("tools.py").write_text("t = 2\n")
    Path("notes.py").write_text("n = 1\n")
    second = made(seed=1)
    text = mm("show", second.name).out
    assert f"main {commit[:10]}, 1 changed file, 1 untracked code file" in text
    page = mm("show", second.name, "--env").out
    for words in ("numpy ", "changed           tools.py", "untracked         notes.py", "code.patch", "cudnn"):
        assert words in page
    different = json.loads(mm("diff", first.name, second.name, "--json").out)["differences"]
    assert different["git.changes"][0] == "none"
    assert different["git.changes"][1].startswith("1 file, patch ")
    assert different["untracked.notes.py"][0] is None
    assert not [key for key in different if key.startswith("package.")]
    body = json.loads((second / "provenance.json").read_text())
    body["packages"]["numpy"] = "0.1"
    (second / "provenance.json").write_text(json.dumps(body))
    different = json.loads(mm("diff", first.name, second.name, "--json").out)["differences"]
    assert different["package.numpy"] == [metadata.version("numpy"), "0.1"]

    assert json.loads(mm("reproduce", second.name, "--json").out)["before"] == []
    git("stash", "-q")
    git("commit", "-q", "--allow-empty", "-m", "two")
    Path("notes.py").unlink()
    found = json.loads(mm("reproduce", second.name, "--json").out)
    assert found["before"] == [f"git checkout {commit}", f"git apply {second / 'code.patch'}"]
    assert any("notes.py (not here)" in line for line in found["differences"])
    for line in found["before"]:
        subprocess.run(line, shell=True, check=True, capture_output=True)
    assert Path("tools.py").read_text() == "t = 2\n"
    assert json.loads(mm("reproduce", second.name, "--json").out)["before"] == []


def test_changes_of_which_nothing_is_kept_are_no_patch(repo: Path, mm: Mm) -> None:
    Path("net.npy").write_bytes(b"\0" * 100)
    git("add", "net.npy")
    folder = made()
    assert not (folder / "code.patch").exists()
    git("reset", "-q", "--hard")
    for _ in range(2):
        found = json.loads(mm("reproduce", folder.name, "--json").out)
        assert found["before"] == []
        assert any("they were not kept; not in code.patch: net.npy: binary" in line for line in found["differences"])
        (folder / "code.patch").write_text("# Changes of tracked files\n# Left out: net.npy")  # as it was once written


def test_runs_of_older_versions_are_shown(repo: Path, mm: Mm) -> None:
    runs = repo / "runs"
    for n, about in enumerate(({"commit": "0" * 40, "dirty": True}, None)):
        folder = fake_runs.make_run(runs, f"20260101-00000{n}-digits-s0-000{n}")
        record = json.loads((folder / "run.json").read_text()) | {"git": about}
        (folder / "run.json").write_text(json.dumps(record))
    assert "code       0000000000, with changes" in mm("show", "1").out
    assert mm("show", "2", "--env").code == 0
    assert mm("diff", "1", "2").code == 0
    (folder / "provenance.json").write_text('{"git": 3, "packages": [1], "hardware": "x", "torch": null}')
    assert mm("show", "2", "--env").code == 0


def test_planned_runs_are_compared_with_the_newest_of_each_other_seed(repo: Path) -> None:
    old = made(seed=0)
    one, two = (tiny_project.recipe("supervised", *SETS).with_seed(n) for n in (1, 2))

    def differs(*planned: Recipe) -> str:
        compare(planned, lambda _: ("d", "s"), repo / "runs", provenance := Provenance())
        return provenance.differs.get(one.config_id, "")

    assert differs(one, two) == ""
    Path("tools.py").write_text("t = 2\n")
    assert f"seed 0 ({old.name}) had uncommitted changes none (here " in differs(one, two)
    made(seed=1)
    assert old.name in differs(two)
    assert differs(one.with_seed(0), two) == ""  # seed 1 has the same changes
    git("commit", "-qam", "two")
    assert "and 1 more" not in differs(two)  # in another way
    assert differs(one.with_seed(0), one, two) == ""
    Path("tools.py").write_text("t = 3\n")
    newest = made(seed=0)
    Path("tools.py").write_text("t = 2\n")
    line = differs(two)
    assert line.index(f"seed 0 ({newest.name})") < line.index("seed 1 (")


@pytest.mark.slow
def test_other_seeds_that_differ_are_named(repo: Path, mm: Mm) -> None:
    words = ["tiny.toml", *(word for one in SETS for word in ("--set", one)), "--quiet"]

    def warned(seeds: str, *more: str) -> str:
        done = mm("run", *words, "--seeds", seeds, *more)
        assert done.code == 0, done.err
        return "\n".join(line for line in done.err.splitlines() if "other seeds" in line)

    assert warned("0") == ""
    assert warned("1") == ""  # the split is another one, by design
    _, second = sorted((repo / "runs").glob("2*"))
    Path("README").write_text("x")
    git("add", "README")
    git("commit", "-qm", "two")
    line = warned("2")
    assert line.startswith(
        f"warning: tiny: not all is as in other seeds: seed 1 ({second.name}) and 1 more had git commit"
    )
    third = max((repo / "runs").glob("2*"))
    assert alerts(third) == [line.removeprefix("warning: ")]
    recipes = [tiny_project.recipe("supervised", *SETS).with_seed(n) for n in range(3)]
    compare(recipes, lambda _: ("0", "0"), repo / "runs", every := Provenance())
    assert every.differs == {}  # all of them anew
    compare(recipes[:1], lambda _: ("0", "0"), repo / "runs", one := Provenance())
    assert "had data set" in one.differs[recipes[0].config_id]

    for path in (repo / "runs").glob("*/journal.1.jsonl"):
        path.write_text(path.read_text().replace('"data_hash":"', '"data_hash":"0'))
    mm("db", "rebuild")
    assert "had data set 0" in warned("3")

    (repo / "plugins" / "tiny.py").write_text(tiny_project.PLUGIN + "\nMORE = 1\n")
    line = warned("4")
    assert "backbone plugins:tiny" in line
    assert "different configurations" in line
    assert "changed since" in line


@pytest.mark.slow
def test_a_database_that_cannot_be_read_does_not_stop_a_run(
    repo: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise UserError("no")

    (repo / "runs").mkdir()
    monkeypatch.setattr("mmctl.runs.other_seeds.origins", broken)
    words = [word for one in SETS for word in ("--set", one)]
    assert mm("run", "tiny.toml", *words, "--quiet").code == 0


def test_a_recipe_with_a_secret_is_refused(repo: Path) -> None:
    recipe = tiny_project.recipe("supervised", *SETS, f'note="https://me:{SECRET}@host"')
    with pytest.raises(UserError, match="note: looks like a password or token") as found:
        preflight([recipe], quiet=True)
    assert str(found.value).endswith("Take it out of the recipe.")


def test_secrets_in_notes_and_replaced_values_are_not_kept(repo: Path, mm: Mm) -> None:
    text = Path("tiny.toml").read_text()
    Path("tiny.toml").write_text(f'note = "https://me:{SECRET}@host"\n{text}')
    recipe = tiny_project.load(Path("tiny.toml"), sets=[*SETS, 'note="x"'], index=tiny_project.Index(sources="local"))
    create_run(recipe, repo / "runs", note=f"see https://me:{SECRET}@host")
    assert "see https://***@host" in mm("note", "@last").out
    assert "https://***@host/2" in mm("note", "@last", f"https://me:{SECRET}@host/2").out
    for path in (path for path in (repo / "runs").rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path


def test_the_kept_recipe_file_is_toml(repo: Path) -> None:
    own = 'note = "class_token = averaged"  # https://me:pw@host\n' + Path("tiny.toml").read_text()
    Path("tiny.toml").write_text(own)
    recipe = tiny_project.load(Path("tiny.toml"), sets=SETS, index=tiny_project.Index(sources="local"))
    kept = (create_run(recipe, repo / "runs") / "source.toml").read_text()
    assert tomllib.loads(kept) == tomllib.loads(own)
    assert "# https://***@host" in kept


def test_a_traceback_has_no_values(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        hidden = SECRET  # noqa: F841
        raise ZeroDivisionError(f"at https://me:{SECRET}@host")

    folder = made()
    monkeypatch.setattr("mmctl.runs.recorder.train", fails)
    with pytest.raises(Exception, match="a bug in mmctl"):
        execute(folder, never)
    text = (folder / "crash.txt").read_text() + (folder / "journal.1.jsonl").read_text()
    assert "ZeroDivisionError: at https://***@host" in text
    assert SECRET not in text
