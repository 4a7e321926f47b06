"""What git says of the project's code before step 0: branch, commit, changes as a patch, untracked code files.

Git is asked with a limit of time and of output, without locks, prompts, pager, hooks, network and file system monitor.
Whatever fails is unknown afterwards, with the reason in `problem`; no error leaves this module.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from mmctl import redact
from mmctl.filesystem import read_file
from mmctl.text import one_line

PATCH, READ = 2**20, 2**23
"""Bytes of the patch that is kept, and of what git writes that is read."""
FILES, FILE_SIZE, ALL_SIZES = 200, 2**20, 2**24
"""Untracked code files that are listed, and the bytes that are hashed of one and of all."""
CALL, LEAST = 2.0, 0.1
"""Seconds for one call of git, and those that each has although the time for all of them is over."""
NAMED = 50
"""Files that are listed by name as changed or left out."""
CODE = {
    "bash", "c", "cc", "cfg", "cpp", "cu", "cuh", "cxx", "h", "hpp", "ini", "ipynb", "jl", "js", "lua", "pxd", "py",
    "pyi", "pyx", "r", "rs", "sh", "toml", "ts", "yaml", "yml",
}  # fmt: skip
"""Endings of the names of code files; others may be data."""
NO_CODE = re.compile(r"(^|/)(\.env[^/]*|id_[a-z0-9]+|[^/]*\.(pem|key|p12|pfx|keystore))$")
"""Files that hold secrets by their name; a patch of them is not kept."""
DROPPED = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
    "GIT_PREFIX", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_PAGER_IN_USE",
)  # fmt: skip
"""Set in a hook, and then about the repository of the hook."""
QUIET = {
    "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_PAGER": "cat",
    "GIT_ALLOW_PROTOCOL": "none", "GIT_ASKPASS": "false", "SSH_ASKPASS": "false", "GIT_SSH_COMMAND": "false",
}  # fmt: skip
OPTIONS = (
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.bigFileThreshold=1m", "core.quotePath=true",
    "color.ui=false", "diff.noprefix=false", "diff.mnemonicPrefix=false", "diff.relative=false",
    "diff.suppressBlankEmpty=false",
)  # fmt: skip
"""A file above the threshold counts as binary: git says that it differs without reading it."""
DIFF = (
    "diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--full-index", "--submodule=short",
    "--ignore-submodules=dirty", "--src-prefix=a/", "--dst-prefix=b/", "-U3", "--inter-hunk-context=0",
    "--diff-algorithm=myers", "--indent-heuristic", "-O/dev/null", "HEAD", "--",
)  # fmt: skip
"""Nothing that people set may change the patch or its hash, which is compared with those of other runs."""


class Untracked(TypedDict):
    """A code file that git does not know, its path from the project's folder; without a hash it was not read."""

    path: str
    bytes: int
    sha256: str | None


@dataclass
class GitState:
    """What is known; None = unknown, and `problem` says why."""

    is_repository: bool = False  # whether the folder is in one
    branch: str | None = None  # None also where HEAD is on no branch
    commit: str | None = None  # None also before the first commit
    dirty: bool | None = None
    changed: list[str] | None = None  # tracked files that differ from the commit
    submodules: list[str] = field(default_factory=list)  # those whose own files have changes
    prefix: str = ""  # the project's folder within the repository
    patch: bytes = b""
    patch_hash: str | None = None  # of all that git said, before anything was left out
    left_out: list[str] = field(default_factory=list)  # changes that the patch does not have, and why
    untracked: list[Untracked] | None = None
    more_untracked: int = 0
    problem: str | None = None


class GitError(Exception):
    """Git failed; the text says how."""


def look(folder: Path, state: GitState, deadline: float, skip: Sequence[Path] = ()) -> None:
    """Fill in the state, the most important first, until the deadline (as in time.monotonic).

    skip: folders of data and runs, in which no code is looked for.
    """
    try:
        # Without a process where there is no repository.
        if not any(os.path.lexists(above / ".git") for above in (folder, *folder.parents)):
            return
        state.is_repository = True
        _head(folder, state, deadline)
        _status(folder, state, deadline)
        if state.commit and state.dirty:
            _patch(folder, state, deadline)
        _untracked(folder, state, deadline, skip)
    except GitError as error:
        if "not a git repository" in str(error) and state.commit is None and not (folder / ".git").exists():
            state.is_repository = False  # a .git above that is none, or one beyond GIT_CEILING_DIRECTORIES
        else:
            state.problem = str(error)
    except Exception as error:  # whatever it is, training goes on
        state.problem = one_line(f"{type(error).__name__}: {error}")[:200]


def _head(folder: Path, state: GitState, deadline: float) -> None:
    """Commit and branch, which takes milliseconds in any repository."""
    asked = ("rev-parse", "--show-prefix", "HEAD", "--symbolic-full-name", "HEAD")
    out, code, said = _git(folder, deadline, asked)
    lines = [_name(line) for line in out.splitlines()]
    if code and not (lines and "HEAD" in said):  # before the first commit, only the prefix is known
        raise GitError(_reason(said, folder))
    state.prefix = lines[0].rstrip("/") if lines else ""
    if not code and len(lines) == 3:
        state.commit = lines[1]
        state.branch = lines[2].removeprefix("refs/heads/") if lines[2].startswith("refs/heads/") else None


def _status(folder: Path, state: GitState, deadline: float) -> None:
    """Whether tracked files differ from the commit, and which."""
    asked = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no", "--ignore-submodules=untracked")
    out, code, said = _git(folder, deadline, asked)
    if code:
        raise GitError(_reason(said, folder))
    changed: list[str] = []
    lines = iter(out.split(b"\0")[:-1])
    for line in lines:
        kind, _, rest = line.partition(b" ")
        if line.startswith(b"# branch.head ") and state.commit is None:
            state.branch = _name(line[14:])
        if kind in (b"1", b"2", b"u"):
            words = rest.split(b" ", {b"1": 7, b"2": 8, b"u": 9}[kind])
            changed.append(_name(words[-1]))
            if words[1][:1] == b"S" and words[1][2:3] == b"M":
                state.submodules.append(changed[-1])
        if kind == b"2":
            next(lines, None)  # the name before the renaming
    state.changed, state.dirty = changed, bool(changed)


def _patch(folder: Path, state: GitState, deadline: float) -> None:
    """The changes of tracked text files as a patch, whole files only: the smallest ones if there is too much."""
    state.left_out += [f"{name}: changes inside of this submodule" for name in state.submodules]
    out, code, said = _git(folder, deadline, DIFF)
    if code:
        raise GitError(_reason(said, folder))
    state.patch_hash = hashlib.sha256(out).hexdigest()
    pieces = re.split(rb"(?m)^(?=diff --git )", out)[1:]
    if len(out) >= READ:
        del pieces[-1:]  # cut in its middle
        state.left_out.append(f"all files after the first {READ >> 20} MiB of changes")
    kept: set[int] = set()
    room = PATCH - 1000  # for the first lines of the file
    for number in sorted(range(len(pieces)), key=lambda n: len(pieces[n])):
        piece = pieces[number]
        name = _name(piece.split(b"\n", 1)[0].removeprefix(b"diff --git ").partition(b" b/")[0].strip(b'"')[2:])
        if re.search(rb"(?m)^Binary files .* differ$", piece):
            state.left_out.append(f"{name}: binary, or larger than 1 MiB")
        elif len(piece) > room:
            state.left_out.append(f"{name}: {len(piece)} bytes of changes")
        elif NO_CODE.search(name) or redact.in_code(piece.decode("utf-8", "replace")):
            state.left_out.append(f"{name}: has what looks like a secret")
        else:
            kept.add(number)
            room -= len(piece)
    state.patch = b"".join(piece for number, piece in enumerate(pieces) if number in kept)


def _untracked(folder: Path, state: GitState, deadline: float, skip: Sequence[Path]) -> None:
    """List and hash the code files in the project's folder that git neither knows nor ignores."""
    within = [path for path in skip if path != folder and path.is_relative_to(folder)]
    above = f"/{state.prefix}/" if state.prefix else "/"
    words = [f"--exclude={above}{path.relative_to(folder).as_posix()}/" for path in within]
    # Before the first commit, the files of the index are in no commit either.
    cached = [] if state.commit else ["--cached"]
    out, code, said = _git(folder, deadline, ["ls-files", *cached, "--others", "--exclude-standard", "-z", *words])
    if code:
        raise GitError(_reason(said, folder))
    names = sorted(name for name in out.split(b"\0")[:-1] if name.rpartition(b".")[2].decode("latin-1").lower() in CODE)
    found: list[Untracked] = []
    room = ALL_SIZES
    for name in names[:FILES]:
        path = folder / os.fsdecode(name)
        size, digest = 0, None
        with suppress(OSError, ValueError):  # a link to nowhere, a file that may not be read
            size = path.lstat().st_size
            size = path.stat().st_size
            if path.is_file() and size <= min(FILE_SIZE, room) and time.monotonic() < deadline:
                digest = hashlib.sha256(read_file(path, FILE_SIZE)).hexdigest()
                room -= size
        if os.path.lexists(path):
            found.append({"path": _name(name), "bytes": size, "sha256": digest})
    state.untracked, state.more_untracked = found, max(0, len(names) - FILES)


def _git(folder: Path, deadline: float, words: Sequence[str]) -> tuple[bytes, int, str]:
    """What git writes (at most READ bytes), exit status (0 also if cut), complaints; GitError if there is no answer.

    This thread may stand still for seconds while another one imports torch. So a call begins with a limit of its own,
    and what git has answered counts, however late it is read.
    """
    deadline = max(min(deadline, time.monotonic() + CALL), time.monotonic() + LEAST)
    looks = READ >> 16  # so often a late answer is read on
    line = ["git", "--no-pager", "-C", str(folder)] + [word for option in OPTIONS for word in ("-c", option)]
    env = {key: value for key, value in os.environ.items() if key not in DROPPED} | QUIET
    out = bytearray()
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*line, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=env,
                start_new_session=True,  # to end it with all that it started; and Ctrl-C is not meant for it
            )  # fmt: skip
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise GitError("git is not installed" if missing else f"git cannot be started ({error.strerror})") from None
        late = False
        assert process.stdout is not None
        with process.stdout as pipe:
            while len(out) < READ:
                left = max(0.0, deadline - time.monotonic())
                looks -= not left
                if late := looks < 0 or not select.select([pipe], [], [], left)[0]:
                    break
                if not (piece := os.read(pipe.fileno(), 2**16)):
                    break
                out += piece
        cut = len(out) >= READ
        if late or cut:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        try:
            code = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it closed its output and stays, or the kernel does not let it go
            late, code = True, -1
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        if late:
            raise GitError(f"git {words[0]} took too long")
        complaints.seek(0)
        return bytes(out), 0 if cut else code, complaints.read(4000).decode("utf-8", "replace")


def _reason(said: str, folder: Path) -> str:
    """Why git failed, in one line."""
    if "dubious ownership" in said:
        top = re.search(r"repository at '([^'\n]*)'", said)
        return (
            "git does not trust the repository, which belongs to somebody else; if you do: "
            f"git config --global --add safe.directory {one_line(top[1]) if top else folder}"
        )
    if "must be run in a work tree" in said:
        return "the repository is bare: it has no files"
    first = next((line for line in said.splitlines() if line.startswith(("fatal", "error"))), said)
    return one_line(redact.text(first.removeprefix("fatal: ").removeprefix("error: ")))[:200] or "git failed"


def _name(raw: bytes) -> str:
    """The name of a file or branch; bytes that are not UTF-8 are escaped."""
    return raw.decode("utf-8", "backslashreplace")
