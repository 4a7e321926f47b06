"""The lease: one holder a run, known to be gone as soon as it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from helpers.processes import child, finish
from mmctl.errors import EnvironmentFault, ResumeRefused, UserError
from mmctl.run_folder import lease, trash
from mmctl.run_folder.lease import Lease, holder, read

HOLD = """
import sys, time
from pathlib import Path
from mmctl.run_folder.lease import Lease
with Lease(Path(sys.argv[1])) as lease:
    lease.beat(7, 10, 2.5)
    lease._put()
    print("held", flush=True)
    {then}
"""


def hold(folder: Path, then: str = "time.sleep(60)", code: str = HOLD) -> subprocess.Popen[bytes]:
    process = child(code.replace("{then}", then), folder)
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    return process


WORK = """
import sys, time
from pathlib import Path
from mmctl.run_folder.lease import Lease
with Lease(Path(sys.argv[1]), train=False):
    print("held", flush=True)
    time.sleep(60)
"""


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    finish(process)


def test_free_held_free(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    assert read(tmp_path) is None
    with Lease(tmp_path) as held:
        held.beat(3, 10, 1.5)
        held.gpu_memory(7)
        found = holder(tmp_path)
        assert found
        assert found["gpu_memory"] == 7
        assert (found["pid"], found["step"], found["total"], found["rate"]) == (os.getpid(), 3, 10, 1.5)
        assert found["host"] == lease.host()
        assert found["boot"] == lease.boot()
    assert holder(tmp_path) is None
    left = read(tmp_path)
    assert left
    assert left["step"] == 3
    assert isinstance(left["memory"], int)
    assert 2**20 < left["memory"] < 2**40, "bytes"


def test_a_second_holder_in_this_process_is_refused(tmp_path: Path) -> None:
    with (
        Lease(tmp_path),
        pytest.raises(ResumeRefused, match=rf"{os.getpid()}@{lease.host()} since 20"),
        Lease(tmp_path),
    ):
        pass
    with Lease(tmp_path):
        pass


def test_another_process_holds_it(tmp_path: Path) -> None:
    other = hold(tmp_path)
    try:
        found = holder(tmp_path)
        assert found
        assert (found["pid"], found["step"]) == (other.pid, 7)
        with pytest.raises(ResumeRefused, match=rf"process {other.pid}@"), Lease(tmp_path):
            pass
        assert holder(tmp_path)
    finally:
        end(other)


def test_nobody_is_told_to_kill_the_process_of_the_last_attempt(tmp_path: Path) -> None:
    with Lease(tmp_path):
        pass
    left = read(tmp_path)
    assert left
    (tmp_path / lease.FILE).write_text(json.dumps(left | {"pid": 4242}))  # a number that a stranger may have now
    other = hold(tmp_path, code=WORK)
    try:
        for act in (Lease(tmp_path).__enter__, partial(trash.check_free, tmp_path)):
            with pytest.raises(UserError, match=f"is being worked on by process {other.pid}. Try again") as found:
                act()
            assert not re.search("kill|stop|4242|running", str(found.value).partition(": ")[2])
        assert lease.process(tmp_path) is None
    finally:
        end(other)
    with Lease(tmp_path, train=False), pytest.raises(ResumeRefused, match=f"process {os.getpid()}. Try"):
        Lease(tmp_path).__enter__()
    assert lease.busy(tmp_path) is None
    with Lease(tmp_path), pytest.raises(UserError, match="is running"):
        trash.check_free(tmp_path)


def test_kill_frees_it_at_once_although_a_child_lives_on(tmp_path: Path) -> None:
    then = "child = __import__('os').fork(); print(child, flush=True) if child else None; time.sleep(60)"
    parent = hold(tmp_path, then)
    assert parent.stdout
    orphan = int(parent.stdout.readline())
    try:
        assert holder(tmp_path)
        parent.kill()
        parent.wait()
        assert Path(f"/proc/{orphan}").exists()
        assert holder(tmp_path) is None
    finally:
        os.kill(orphan, signal.SIGKILL)
        end(parent)


def test_a_stopped_process_still_holds_it(tmp_path: Path) -> None:
    other = hold(tmp_path)
    try:
        os.kill(other.pid, signal.SIGSTOP)
        assert holder(tmp_path)
    finally:
        end(other)


def test_looking_at_an_own_lease_does_not_drop_it(tmp_path: Path) -> None:
    look = "import sys, pathlib; from mmctl.run_folder import lease\n"
    look += "print(lease.holder(pathlib.Path(sys.argv[1])) is not None)"
    with Lease(tmp_path):
        for _ in range(3):
            assert holder(tmp_path)
            assert read(tmp_path)
            assert lease.process(tmp_path) == os.getpid()
        assert finish(child(look, tmp_path)) == (0, "True\n", "")


def test_the_beat_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PAUSE", 0.02)
    with Lease(tmp_path):
        deadline = time.monotonic() + 10
        while holder(tmp_path)["beat"] < 3 and time.monotonic() < deadline:  # type: ignore[index]
            time.sleep(0.01)
        assert (tmp_path / lease.FILE).stat().st_size == lease.SIZE
    left = read(tmp_path)
    assert left
    assert left["beat"] >= 3


def test_a_garbled_lease_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / lease.FILE).write_text("{")
    assert read(tmp_path) is None
    assert holder(tmp_path) is None
    with Lease(tmp_path):
        assert holder(tmp_path)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lease.fcntl, "lockf", lockf)
    with pytest.raises(EnvironmentFault, match="No locks available"), Lease(tmp_path):
        pass
    with pytest.raises(EnvironmentFault), Lease(tmp_path / "missing"):
        pass


def test_when_this_process_began() -> None:
    assert 0 <= lease.now() - lease.process_start() < 3_600_000
