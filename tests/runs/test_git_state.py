"""What git says of the project, whatever state the repository, git and the files are in."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmctl.filesystem import read_file
from mmctl.runs.git_state import FILE_SIZE, PATCH, GitState, look

HUB = "hf_" + "a1B2" * 6


def git(*words: str | bytes | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True)
    return done.stdout.decode().strip()


def seen(folder: Path, seconds: float = 60, skip: tuple[Path, ...] = ()) -> GitState:
    look(folder, state := GitState(), time.monotonic() + seconds, skip)
    return state


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\tname = A\n\temail = a@b.c\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """One commit with a.py."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git("init", "-q", cwd=folder)
    (folder / "a.py").write_text("a = 1\n")
    git("add", ".", cwd=folder)
    git("commit", "-qm", "one", cwd=folder)
    return folder


def test_clean(repo: Path) -> None:
    state = seen(repo)
    assert (state.branch, state.commit, state.dirty) == ("main", git("rev-parse", "HEAD", cwd=repo), False)
    assert (state.changed, state.untracked, state.patch, state.problem) == ([], [], b"", None)


def test_the_patch_brings_the_changes_back(repo: Path) -> None:
    (repo / "sub").mkdir()
    (repo / "a.py").write_text("a = 2\n")
    (repo / "sub" / "new.py").write_text("n = 1\n")
    git("add", "sub/new.py", cwd=repo)
    plain = seen(repo).patch_hash
    # What people set must not change the patch.
    for key, value in (("diff.noprefix", "true"), ("diff.external", "false"), ("color.ui", "always"),
                       ("diff.relative", "true"), ("core.fsmonitor", "touch RAN; false"),
                       ("diff.context", "0")):  # fmt: skip
        git("config", key, value, cwd=repo)
    state = seen(repo / "sub")
    assert state.patch_hash == plain
    assert (state.prefix, state.dirty, state.changed) == ("sub", True, ["a.py", "sub/new.py"])
    assert state.left_out == []
    assert not list(repo.rglob("RAN"))
    (repo / "code.patch").write_bytes(b"# a comment\n" + state.patch)
    git("reset", "-q", "--hard", cwd=repo)
    assert not (repo / "sub" / "new.py").exists()
    git("apply", "code.patch", cwd=repo)
    assert (repo / "a.py").read_text() == "a = 2\n"
    assert (repo / "sub" / "new.py").read_text() == "n = 1\n"
    again = seen(repo)
    assert again.dirty
    assert again.patch_hash != state.patch_hash  # new.py is untracked now
    assert [one["path"] for one in again.untracked or []] == ["sub/new.py"]


def test_settings_of_git_do_not_change_the_patch(repo: Path) -> None:
    pieces = ("def f():\n    return 0\n\n", "x = 1\n", "    y = 2\n", "\n", "z = 3\n")
    # Found by chance: each of the settings changes the difference between these two.
    old, new = ("".join(pieces[int(n)] for n in text) for text in ("44413010402104", "44412113010441004"))
    (repo / "b.py").write_text(old)
    git("add", ".", cwd=repo)
    git("commit", "-qm", "two", cwd=repo)
    (repo / "a.py").write_text("a = 2\n")
    (repo / "b.py").write_text(new)
    plain = seen(repo)
    (repo.parent / "order").write_text("b.py\na.py\n")
    for key, value in (("diff.context", "0"), ("diff.interHunkContext", "9"), ("diff.algorithm", "patience"),
                       ("diff.indentHeuristic", "false"), ("diff.orderFile", str(repo.parent / "order")),
                       ("diff.suppressBlankEmpty", "true")):  # fmt: skip
        before = git("diff", cwd=repo)
        git("config", key, value, cwd=repo)
        assert git("diff", cwd=repo) != before, "the setting means something here"
        assert seen(repo).patch_hash == plain.patch_hash, key
        git("config", "--unset", key, cwd=repo)
    (repo / "p").write_bytes(plain.patch)
    git("checkout", "-q", ".", cwd=repo)
    git("apply", "p", cwd=repo)
    assert (repo / "b.py").read_text() == new


def test_before_the_first_commit(tmp_path: Path) -> None:
    git("init", "-q", "r", cwd=tmp_path)
    (tmp_path / "r" / "a.py").write_text("a = 1\n")
    git("add", ".", cwd=tmp_path / "r")
    (tmp_path / "r" / "b.py").write_text("b = 1\n")
    state = seen(tmp_path / "r")
    assert (state.branch, state.commit, state.dirty, state.problem) == ("main", None, True, None)
    assert [one["path"] for one in state.untracked or []] == ["a.py", "b.py"]


def test_detached_head(repo: Path) -> None:
    git("checkout", "-q", "--detach", cwd=repo)
    state = seen(repo)
    assert (state.branch, state.dirty, state.problem) == (None, False, None)
    assert state.commit


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # nothing is asked
    state = seen(tmp_path)
    assert (state.is_repository, state.problem) == (False, None)


def test_git_is_not_installed(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    state = seen(repo)
    assert (state.is_repository, state.dirty, state.problem) == (True, None, "git is not installed")


@pytest.mark.parametrize(
    "script",
    ["sleep 100", "exec sleep 100", "exec >&-; exec sleep 100", "sleep 100 & exit 0", "while :; do echo xxxxxxx; done"],
    ids=["child", "hangs", "closes its output", "leaves a child", "never ends"],
)
def test_git_hangs(script: str, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(f"#!/bin/sh\n{script}\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    state = seen(repo, 0.3)
    assert state.commit is None
    assert state.dirty is None
    assert state.problem


def test_what_git_answered_counts_however_late_it_is_read(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports torch, the one that asks git may stand still for seconds."""
    (repo / "a.py").write_text("a = 2\n")
    clock, start = [0.0], subprocess.Popen

    def started(*words: Any, **keys: Any) -> subprocess.Popen[bytes]:
        process = start(*words, **keys)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        clock[0] += 100.0
        return process

    monkeypatch.setattr("mmctl.runs.git_state.subprocess.Popen", started)
    monkeypatch.setattr("mmctl.runs.git_state.time", SimpleNamespace(monotonic=lambda: clock[0]))
    look(repo, state := GitState(), 4.0)
    assert state.problem is None
    assert (state.branch, state.dirty, state.untracked) == ("main", True, [])
    assert b"+a = 2" in state.patch


def test_what_was_found_before_git_hung_is_kept(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *porcelain*) exit 1;; esac\nexec {shutil.which("git")} "$@"\n'
    )
    (tmp_path / "git").chmod(0o755)
    commit = git("rev-parse", "HEAD", cwd=repo)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    state = seen(repo)
    assert (state.commit, state.branch, state.dirty) == (commit, "main", None)  # not "clean"
    assert state.problem == "git failed"


def test_a_repository_of_somebody_else(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    state = seen(repo)
    assert (state.commit, state.dirty) == (None, None)
    assert f"git config --global --add safe.directory {repo}" in (state.problem or "")


def test_bare(repo: Path) -> None:
    git("config", "core.bare", "true", cwd=repo)
    state = seen(repo)
    assert state.dirty is None
    assert "bare" in (state.problem or "")


def test_damaged(repo: Path) -> None:
    (repo / ".git" / "index").write_bytes(b"nothing")
    state = seen(repo)
    assert state.commit
    assert state.dirty is None
    assert state.problem


def test_a_lock_is_not_waited_for_and_none_is_taken(repo: Path) -> None:
    (repo / ".git" / "index.lock").touch()
    (repo / "a.py").write_text("a = 2\n")
    index = (repo / ".git" / "index").stat()
    assert seen(repo).dirty
    assert (repo / ".git" / "index").stat().st_mtime_ns == index.st_mtime_ns


def test_a_hook_around_us_does_not_mislead(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "none"))
    (repo / "sub").mkdir()
    assert seen(repo / "sub").dirty is False


def test_submodule(repo: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    git("init", "-q", str(outer))
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", repo, "inner", cwd=outer)
    git("commit", "-qm", "one", cwd=outer)
    assert seen(outer).dirty is False
    assert seen(outer / "inner").commit == git("rev-parse", "HEAD", cwd=repo)
    (outer / "inner" / "a.py").write_text("a = 3\n")
    state = seen(outer)
    assert (state.dirty, state.changed) == (True, ["inner"])
    assert state.left_out == ["inner: changes inside of this submodule"]


def test_names_that_are_not_utf8(repo: Path) -> None:
    strange = os.fsdecode(b"caf\xe9 \n.py")
    (repo / strange).write_text("x = 1\n")
    state = seen(repo)
    assert [one["path"] for one in state.untracked or []] == ["caf\\xe9 \n.py"]
    git("add", ".", cwd=repo)
    git("commit", "-qm", "two", cwd=repo)
    (repo / strange).write_text("x = 2\n")
    state = seen(repo)
    assert state.changed == ["caf\\xe9 \n.py"]
    git("checkout", "-q", ".", cwd=repo)
    (repo / "p").write_bytes(state.patch)
    git("apply", "p", cwd=repo)
    assert (repo / strange).read_text() == "x = 2\n"


def test_large_and_binary_changes_are_left_out(repo: Path) -> None:
    sizes = {"binary.npy": 1000, "huge.csv": FILE_SIZE + 1, "long.csv": PATCH // 2, "longer.csv": PATCH * 3 // 4}
    for name, size in sizes.items():
        (repo / name).write_bytes(b"\0" * size if name == "binary.npy" else b"1,2\n" * (size // 4))
    (repo / "z.py").write_text("z = 1\n")
    (repo / "huge.csv").write_bytes(b"3,4\n" * (FILE_SIZE // 4 + 1))
    git("add", ".", cwd=repo)
    state = seen(repo)
    assert state.dirty
    left = {text.split(":")[0]: text for text in state.left_out}
    assert set(left) == {"binary.npy", "huge.csv", "longer.csv"}
    assert b"a/z.py" in state.patch  # the small ones, wherever they stand
    assert len(state.patch) < PATCH


def test_more_changes_than_are_read(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmctl.runs.git_state.READ", 2**16)
    (repo / "b.csv").write_text("1,2,3\n" * 2**14)
    (repo / "a.py").write_text("a = 2\n")
    git("add", ".", cwd=repo)
    state = seen(repo)
    assert b"+a = 2" in state.patch
    assert b"1,2,3" not in state.patch
    assert state.left_out[0].startswith("all files after the first")


def test_secrets_are_not_in_the_patch(repo: Path) -> None:
    (repo / "login.py").write_text(f'login("{HUB}")\n')
    (repo / ".env").write_text("A=1\n")
    (repo / "fine.py").write_text("token = tokens[0]\n")
    git("add", "-f", ".", cwd=repo)
    state = seen(repo)
    assert HUB.encode() not in state.patch
    assert b"A=1" not in state.patch
    assert b"fine.py" in state.patch
    assert state.left_out == [f"{name}: has what looks like a secret" for name in (".env", "login.py")]


def test_untracked_code_is_listed_but_not_data_and_runs(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = repo / "project"

    def read(path: Path, limit: int) -> bytes:
        if path.name == "shut.py":
            raise PermissionError(13, "Permission denied", str(path))
        return read_file(path, limit)

    for name in ("new.py", "shut.py", "data.npy", "runs/x/crash.py", "data/d.py", "pkg/data/ok.py", "ignored.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / "large.py").write_bytes(b"#" * (FILE_SIZE + 1))
    (project / "pipe.py").symlink_to(project / "nowhere")
    (project / "link.py").symlink_to(project / "large.py")
    os.mkfifo(project / "fifo.py")
    monkeypatch.setattr("mmctl.runs.git_state.read_file", read)
    (repo / ".gitignore").write_text("ignored.py\n")
    state = seen(project, skip=(project / "runs", project / "data"))
    found = {one["path"]: one["sha256"] for one in state.untracked or []}
    assert found.pop("pkg/data/ok.py") == found.pop("new.py")
    assert found == dict.fromkeys(("large.py", "link.py", "pipe.py", "shut.py"))
    assert {one["path"]: one["bytes"] for one in state.untracked or []}["link.py"] == FILE_SIZE + 1
    monkeypatch.setattr("mmctl.runs.git_state.FILES", 1)
    state = seen(project, skip=(project / "runs", project / "data"))
    assert (len(state.untracked or []), state.more_untracked) == (1, 5)
