"""Who will start a waiting run, said by two files that may hold anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from helpers.queued import TABLE, enqueue
from mmctl.run_folder import lease, queue, supervisor
from mmctl.run_folder.supervisor import Supervising

MINE = "waits in the queue of this machine"


def waiting(runs: Path, *uids: str, lasting: bool = False, job: str = "", sweep: str = "") -> list[Path]:
    """New run folders in the queue, in this order."""
    folders = [runs / uid for uid in uids]
    for folder in folders:
        folder.mkdir()
    enqueue(*folders, lasting=lasting, job=job, sweep=sweep)
    return folders


def test_a_group_and_its_entries_are_read_as_written(tmp_path: Path) -> None:
    folders = waiting(tmp_path, "b", "a", sweep="noise")
    (group,) = queue.groups(tmp_path)
    assert (group.launcher, group.runs, group.sweep, group.host) == (TABLE, ["b", "a"], "noise", lease.host())
    assert group.jobs == f"mmctl-{group.name}"
    queue.put(folders[1], queue.Entry(group.name, 1, "123_4", 1))
    assert queue.members(tmp_path, group) == {
        folders[0]: queue.Entry(group.name, 0), folders[1]: queue.Entry(group.name, 1, "123_4", 1)
    }  # fmt: skip
    queue.leave(folders[0])
    queue.leave(folders[0])
    assert list(queue.members(tmp_path, group)) == folders[1:]
    queue.remove_group(tmp_path, group.name)
    assert queue.groups(tmp_path) == []
    assert queue.group_of(folders[1]) is None


def test_the_oldest_group_is_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment, uid in ((3, "c"), (1, "a"), (2, "b")):
        monkeypatch.setattr(lease, "now", lambda moment=moment: moment)
        waiting(tmp_path, uid)
    assert [group.runs for group in queue.groups(tmp_path)] == [["a"], ["b"], ["c"]]


def test_a_run_waits_for_the_supervisor_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = waiting(tmp_path, "run")
    assert queue.waits_for(folder) is None, "nobody works on the queue"
    assert queue.place_of(folder) == "nobody starts it any more: mmctl resume run"
    assert queue.place_of(tmp_path) is None, "is in no queue"
    with Supervising(tmp_path) as first:
        assert first.held
        assert supervisor.pid(tmp_path) == os.getpid()
        assert queue.waits_for(folder) == MINE
        assert queue.place_of(folder) == MINE
        assert supervisor.pid(tmp_path) == os.getpid(), "to ask does not drop the lock"
        if (child := os.fork()) == 0:
            with Supervising(tmp_path) as second:
                os._exit(0 if not second.held and supervisor.pid(tmp_path) == os.getppid() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert supervisor.pid(tmp_path) is None
    monkeypatch.setattr(lease, "host", lambda: "elsewhere")
    assert queue.waits_for(folder) != MINE


def test_a_run_of_a_lasting_launcher_waits_for_its_engine(tmp_path: Path) -> None:
    (waits,) = waiting(tmp_path, "a", lasting=True)
    (handed,) = waiting(tmp_path, "b", lasting=True, job="123_4")
    assert queue.waits_for(waits) == "waits to be handed to local"
    assert queue.waits_for(handed) == "is job 123_4 of local"


@pytest.mark.parametrize(
    "change", [{"runs": ["other"]}, {"runs": 3}, {"launcher": "slurm"}, {"launcher": {}}, {"more": 1}, {"created": "x"}]
)
def test_a_run_whose_group_does_not_name_it_is_not_in_the_queue(tmp_path: Path, change: dict[str, object]) -> None:
    (folder,) = waiting(tmp_path, "run", lasting=True)
    (path,) = (tmp_path / queue.FOLDER).glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert queue.waits_for(folder) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "endless", "huge", "folder", "text", "list", "path", "number"])
def test_a_file_that_is_none_stops_nobody(tmp_path: Path, kind: str) -> None:
    (folder,) = waiting(tmp_path, "run", lasting=True)
    path = folder / queue.FILE
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**40)
        case "folder":
            path.mkdir()
        case "path":
            path.write_text('{"group": "../run/queue", "order": 0}')
        case "number":
            path.write_text('{"group": 3, "order": 0}')
        case _:
            path.write_text("no JSON" if kind == "text" else "[1]")
    assert queue.waits_for(folder) is None
