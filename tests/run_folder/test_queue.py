"""Who will start a waiting run, said by a file that may hold anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmctl.run_folder import queue


def test_a_run_waits_for_a_living_process_until_that_lets_it_go(tmp_path: Path) -> None:
    assert queue.waits_for(tmp_path) is None
    queue.enter(tmp_path)
    assert queue.waits_for(tmp_path) == os.getpid()
    queue.leave(tmp_path)
    assert queue.waits_for(tmp_path) is None


def test_a_process_with_the_number_of_one_that_is_gone_does_not_count(tmp_path: Path) -> None:
    queue.enter(tmp_path)
    said = json.loads((tmp_path / queue.FILE).read_text())
    for change in ({"started": "1"}, {"boot": "another"}, {"pid": 2**22 + 1}, {"pid": True}, {"pid": "x"}):
        (tmp_path / queue.FILE).write_text(json.dumps(said | change))
        assert queue.waits_for(tmp_path) is None, change


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "endless", "huge", "folder", "text", "list"])
def test_a_file_that_is_none_stops_nobody(tmp_path: Path, kind: str) -> None:
    path = tmp_path / queue.FILE
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
        case _:
            path.write_text("no JSON" if kind == "text" else "[1]")
    assert queue.waits_for(tmp_path) is None
