"""The journal: what is written is read back, whatever ended the writer."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.processes import child, finish
from mmctl import filesystem
from mmctl.errors import EnvironmentFault, Superseded
from mmctl.run_folder import journal
from mmctl.run_folder.events import Event, Note, Points, decode, encode
from mmctl.run_folder.journal import Journal, append, attempts, claim, path_of, read_lines


def texts(path: Path, offset: int = 0) -> list[str | None]:
    """The notes of a journal file."""
    return [line.event.text for line in read_lines(path, offset) if isinstance(line.event, Note)]


def test_events_come_back_in_order_with_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path, 1) as book:
        for step in range(2500):
            book.write(Points(step=step, values={"train/loss": 0.5}))
    read = [line.event for line in read_lines(path_of(tmp_path, 1))]
    assert [event.step for event in read if isinstance(event, Points)] == list(range(2500))
    assert all(isinstance(event.t, int) for event in read)


def test_a_given_time_is_kept(tmp_path: Path) -> None:
    assert json.loads(encode(Note(t=7)))["t"] == 7


def test_values_that_json_has_not() -> None:
    v = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": [1.0, math.nan], "f": 0.1}
    line = encode(Points(step=0, t=1, values=v))
    assert json.loads(line)["v"] == {"a": None, "b": "inf", "c": "-inf", "d": [1.0, None], "f": 0.1}


def test_numpy_values_are_plain_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    values = {"a": numpy.float32(0.5), "b": numpy.array([1, 2]), "c": numpy.float64("nan")}
    event = Points(step=0, t=1, values=values)
    assert json.loads(encode(event))["v"] == {"a": 0.5, "b": [1, 2], "c": None}


def test_an_event_reaches_the_file_without_being_asked(tmp_path: Path) -> None:
    with Journal(tmp_path, 1) as book:
        book.write(Note(text="x"))
        deadline = time.monotonic() + 10
        while not path_of(tmp_path, 1).stat().st_size and time.monotonic() < deadline:
            time.sleep(0.02)
        assert texts(path_of(tmp_path, 1)) == ["x"]


def test_flush_writes_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path, 1) as book:
        book.write(Note(text="now"))
        book.flush(sync=True)
        assert texts(path_of(tmp_path, 1)) == ["now"]


def test_a_torn_last_line_is_left_out_and_read_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.1.jsonl"
    whole, torn = encode(Note(text="a")), encode(Note(text="b"))
    path.write_bytes(whole + torn[:5])
    assert [(line.event, line.offset) for line in read_lines(path)] == [(decode(whole), len(whole))]
    path.write_bytes(whole + torn)
    assert texts(path, len(whole)) == ["b"]


@pytest.mark.parametrize(
    "bad", [b"\n", b"{\n", b"[1]\n", b'{"t":1}\n', b'{"e":1}\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n"]
)
def test_a_foreign_line_is_passed_over(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "journal.1.jsonl"
    path.write_bytes(encode(Note(text="a")) + bad + encode(Note(text="b")))
    assert texts(path) == ["a", "b"]


def test_append_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    append(tmp_path, Note(text="one"))
    with path_of(tmp_path, 0).open("ab") as file:
        file.write(b'{"e":"no')
    append(tmp_path, Note(text="two"))
    assert texts(path_of(tmp_path, 0)) == ["one", "two"]


def test_a_journal_opened_again_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path_of(tmp_path, 1).write_bytes(encode(Note(text="a")) + b'{"e"')
    with Journal(tmp_path, 1) as book:
        book.write(Note(text="b"))
    assert texts(path_of(tmp_path, 1)) == ["a", "b"]


def test_claims_are_numbered(tmp_path: Path) -> None:
    append(tmp_path, Note())
    assert claim(tmp_path) == 1
    assert claim(tmp_path) == 2
    for name in ("journal.10.jsonl", "journal.x.jsonl", "journal.99.jsonl.bak"):
        (tmp_path / name).touch()
    assert claim(tmp_path) == 11


def test_two_processes_never_claim_the_same_attempt(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(claim, [tmp_path] * 40))
    assert sorted(numbers) == list(range(1, 41)) == attempts(tmp_path)


def test_a_newer_attempt_ends_the_writing_of_an_older_one(tmp_path: Path) -> None:
    book = Journal(tmp_path, claim(tmp_path))
    book.write(Note(text="a"))
    book.flush()
    claim(tmp_path)
    book.check_newest(look=False)  # nobody has looked yet
    book.write(Note(text="b"))
    said = r"attempt 2 of this run has started, so this one \(attempt 1\) ends"
    with pytest.raises(Superseded, match=said):
        book.flush(sync=True)
    with pytest.raises(Superseded):
        book.check_newest(look=False)
    book.write(Note(text="c"))
    with pytest.raises(Superseded):
        book.close()
    assert texts(path_of(tmp_path, 1)) == ["a"]


def test_the_thread_that_writes_sees_a_newer_attempt(tmp_path: Path) -> None:
    book = Journal(tmp_path, claim(tmp_path))
    claim(tmp_path)
    book.write(Note(text="a"))
    while not book._newer:
        time.sleep(0.01)
    with pytest.raises(Superseded):
        book.check_newest(look=False)
    with pytest.raises(Superseded):
        book.close()
    assert texts(path_of(tmp_path, 1)) == []


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmctl.run_folder.journal import Journal\n"
        "from mmctl.run_folder.events import Points\n"
        "book = Journal(Path(sys.argv[1]), 1); step = 0\n"
        "while True:\n    book.write(Points(step=step, values={})); step += 1\n"
        "    if step == 3000: print('go', flush=True)\n"
        "    if step > 3000: __import__('time').sleep(0.0001)\n"
    )
    writer = child(code, tmp_path)
    assert writer.stdout
    writer.stdout.readline()
    time.sleep(0.7)
    writer.kill()
    finish(writer)
    steps = [line.event.step for line in read_lines(path_of(tmp_path, 1)) if isinstance(line.event, Points)]
    assert len(steps) >= 3000
    assert steps == list(range(len(steps)))
    assert claim(tmp_path) == 2


def test_a_full_disk_is_told_at_a_flush_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Journal(tmp_path, 1)
    real, room = os.write, [10]

    def write(fd: int, data: bytes) -> int:
        if fd != book._fd:
            return real(fd, data)
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        done = real(fd, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(journal.os, "write", write)
    book.write(Note(text="longer than ten bytes"))
    with pytest.raises(EnvironmentFault, match="No space left"):
        book.flush()
    room[0] = 1_000_000
    book.write(Note(text="b"))
    book.close()
    assert texts(path_of(tmp_path, 1)) == ["longer than ten bytes", "b"]


@pytest.mark.slow
def test_a_failing_import_never_reaches_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise EnvironmentFault("no room")

    (tmp_path / "r").mkdir()
    with Journal(tmp_path / "r", 1, broken) as book:
        for _ in range(3):
            book.write(Note(text="a"))
            book.flush()
            time.sleep(0.6)
    assert capfd.readouterr().err.count("the database was not updated") == 1
    assert texts(path_of(tmp_path / "r", 1)) == ["a"] * 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"journal\.1\.jsonl"):
        Journal(tmp_path / "missing", 1)
    with pytest.raises(EnvironmentFault, match=r"journal\.0\.jsonl"):
        append(tmp_path / "missing", Note())


@pytest.mark.parametrize(
    ("mounts", "network"),
    [
        ("25 1 8:1 / / rw - ext4 /dev/sda rw", False),
        ("25 1 8:1 / / rw - ext4 /dev/sda rw\n30 25 0:40 / {here} rw shared:1 - nfs4 host:/x rw", True),
        ("25 1 8:1 / / rw - nfs4 host:/x rw\n30 25 0:40 / {here} rw - ext4 /dev/sdb rw", False),
        ("25 1 8:1 / / rw - fuse.sshfs host rw", True),
        ("25 1 8:1 / / rw - fuse /disk rw", True),
        ("25 1 8:1 / / rw - fuse.fuse-overlayfs x rw", False),
        ("25 1 8:1 / / rw - lustre x rw\ngarbled line", True),
        ("25 1 8:1 / / rw - ext4 x rw\n30 25 0:40 / /elsewhere rw - nfs4 host:/x rw", False),
    ],
)
def test_network_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, network: bool) -> None:
    here = tmp_path / "a folder"
    here.mkdir()
    text = mounts.replace("{here}", str(here).replace(" ", "\\040"))
    monkeypatch.setattr(Path, "read_text", lambda self, **named: text)
    assert filesystem.is_network(here) is network


def test_writing_leaves_the_work_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of training must not wait for the encoding of its events or for the disk."""
    encoding, writing = list[str](), list[str]()
    encoded, written = journal.encode, os.write

    def encode(event: Event, t: int | None = None) -> bytes:
        encoding.append(threading.current_thread().name)
        return encoded(event, t)

    def write(fd: int, data: bytes) -> int:
        writing.append(threading.current_thread().name)
        return written(fd, data)

    monkeypatch.setattr(journal, "encode", encode)
    monkeypatch.setattr(os, "write", write)
    with Journal(tmp_path, 1) as book:
        for step in range(5000):
            book.write(Points(step=step, values={"train/loss": 0.5}))
    assert encoding == ["journal"] * 5000
    assert set(writing) == {"journal"}
