"""Standard output and error as they can be: closed, full, a pipe that ends, of any width."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.fake_runs import family
from helpers.paths import REPO
from helpers.run_helpers import only
from mmctl.cli.options import share, whole
from mmctl.run_folder.record import last_state
from mmctl.terminal import SafeStream, safe_output, styled
from mmctl.text import one_line, printable_lines, whole_number

Mm = Callable[..., Result]

READING = (
    "ls", "ls --json", "show @last", "show @last --json", "compare", "compare --json", "diff 1 2", "tag @last",
    "table table3", "table table3 -f csv", "recipe list", "recipe schema", "recipe show digits --plain",
    "recipe validate digits --fast", "plugins list", "plugins show fuzzy", "db info", "db check", "--help", "--version",
)  # fmt: skip
NOT_A_WIDTH = ("0", "-5", "", "abc", "\u00b2", "\u0663", "1e3", "1_0", "99999999", " 80")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    family(tmp_path / "runs", 2)
    return tmp_path / "runs"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which `mm` is mmctl."""
    script = f'mm() {{ "{sys.executable}" -m mmctl "$@"; }}; {line}'
    env = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=100, check=False)


class Ended(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def write(self, text: str) -> int:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("words", READING)
def test_a_pipe_that_ended_is_no_error_and_a_full_disk_is(
    words: str, mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, code in ((errno.EPIPE, 0), (errno.ENOSPC, 4), (errno.EIO, 4)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Ended(number))
            done = mm(*words.split())
        assert done.code == code, done.err
        assert done.err == (
            f"mmctl: standard output: {os.strerror(number)}. Part of the output is lost.\n" if code else ""
        )
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)  # as Python has it where the descriptor is closed
        patch.setattr(sys, "stderr", None)
        assert mm(*words.split()).code == 0


@pytest.mark.slow
def test_real_streams_that_are_closed_or_full(runs: Path) -> None:
    done = shell(
        "for end in '>&-' '2>&-' '>&- 2>&- <&-' '>/dev/full'; do eval \"mm ls $end\"; echo $?; done; "
        "mm ls | true; echo ${PIPESTATUS[0]}"
    )
    assert [line for line in done.stdout.splitlines() if line in "0123456789"] == ["0", "0", "0", "4", "0"]
    assert done.stderr == "mmctl: standard output: No space left on device. Part of the output is lost.\n"


@pytest.mark.parametrize(
    "redirect",
    [
        pytest.param(">&- 2>&- <&-", marks=pytest.mark.slow),
        *(pytest.param(word, marks=pytest.mark.exhaustive) for word in ("2>/dev/full", "2>&1 | true")),
    ],
)
def test_a_run_trains_without_its_streams(redirect: str, tmp_path: Path) -> None:
    done = shell(f"mm run digits --set train.steps=2 --set train.threads=1 {redirect}; echo ${{PIPESTATUS[0]}}")
    folder = only(tmp_path / "runs")
    assert folder is not None
    assert last_state(folder) == "completed"
    assert done.stdout.splitlines()[-1] == "0"
    journal = (folder / "journal.1.jsonl").read_bytes()
    assert all(line.startswith(b"{") for line in journal.splitlines()), "no output in a file that got its descriptor"


@pytest.mark.slow
def test_an_error_without_its_stream(runs: Path) -> None:
    done = shell(
        "mm show nosuch 2>&-; echo $?; mm show nosuch 2>/dev/full; echo $?; mm show nosuch >/dev/full; echo $?"
    )
    assert done.stdout.split() == ["2", "2", "2"]
    assert done.stderr.count("mmctl: ") == 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("columns", NOT_A_WIDTH)
def test_what_is_no_width_counts_as_none(columns: str, mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    whole_page = mm("ls").out
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    assert mm("ls").out == whole_page
    monkeypatch.setenv("COLUMNS", columns)
    assert mm("--help").code == 0
    assert "completed" in whole_page


def test_digits_are_ascii_digits(mm: Mm, runs: Path) -> None:
    assert [whole_number(text) for text in ("0", "12", "1_0", "\u0663", "\u00b2", "-1", "+1", "", " 1", "1\n")] == [
        0, 12, *[None] * 8
    ]  # fmt: skip
    for words in (
        ("ls", "-n", "1_0"), ("ls", "-n", "\u0663"), ("run", "digits", "-j", "\u00b2"), ("ls", "-n", "-1"),
        ("run", "digits", "--profile", "1_0"), ("run", "digits", "--seeds", "\u0663"), ("ls", "labels>\u0663"),
        ("run", "digits", "--seeds", "0-\u0663"), ("compare", "-m", "test/accuracy@step=\u0663"), ("ls", "labels>1_0"),
        ("evaluate", "1", "--min", "0_0.5"), ("evaluate", "1", "--min", "\u0661"), ("evaluate", "1", "--min", "1.5"),
        ("evaluate", "1", "--min", "nan"), ("compare", "-m", "test/accuracy@step=\u00b2"),
    ):  # fmt: skip
        done = mm(*words)
        assert (done.code, done.out) == (2, ""), words
        assert "a bug" not in done.err, words
    assert [share(text) for text in ("0", "1", ".5", "0.8", "1.0", "0.")] == [0, 1, 0.5, 0.8, 1, 0]
    assert whole("7") == 7


def test_a_safe_stream_escapes_what_is_not_styled() -> None:
    inner = io.StringIO()
    stream = SafeStream(inner)
    stream.write("a\x1b[2J\r\x07\x9b\u202e\tb\n\udcff\u00e9\u00a0")
    styled(stream).write("\x1b[1mbold")
    assert inner.getvalue() == "a\\u001b[2J\\u000d\\u0007\\u009b\\u202e\tb\n\\udcff\u00e9\u00a0\x1b[1mbold"
    assert printable_lines("a\n\x1b") == "a\n\\u001b"
    assert one_line("  name\r\n  FORGED: x\x07\n") == "  name FORGED: x\\u0007"


def test_the_streams_are_put_back() -> None:
    before = sys.stdout, sys.stderr
    with safe_output():
        assert isinstance(sys.stdout, SafeStream)
    assert (sys.stdout, sys.stderr) == before


def test_every_console_is_the_safe_one() -> None:
    """Only report/console.py makes a console of rich: any other one would print control characters of foreign text."""
    made = [path for path in (REPO / "mmctl").rglob("*.py") if "Console(" in path.read_text()]
    bars = {"data_get.py", "progress.py"}  # their bars show words of mmctl and numbers alone
    assert [path.name for path in made if path.name not in bars] == ["console.py"]
