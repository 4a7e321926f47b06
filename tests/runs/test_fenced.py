"""Two attempts of one run on machines that do not see each other's locks: the newer one takes over, exactly."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from helpers.run_helpers import After, assert_same, never, started
from mmctl.errors import Superseded
from mmctl.run_folder import journal
from mmctl.run_folder.record import states
from mmctl.runs import execute as run
from mmctl.store.store import Store
from mmctl.training import checkpoint


class NoLock(AbstractContextManager["NoLock"]):
    """A lease whose lock nobody else sees."""

    def __init__(self, folder: Path) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def beat(self, *said: object) -> None:
        pass


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    folder = started(tmp_path, method="mixmatch")
    run.execute(folder, never)
    return folder


@pytest.fixture
def _no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Lease", NoLock)


@pytest.mark.usefixtures("_no_locks")
@pytest.mark.parametrize("taken_over_at", [1, 5, 7])
def test_a_ghost_ends_and_writes_nothing(taken_over_at: int, whole: Path, tmp_path: Path) -> None:
    folder = started(tmp_path, method="mixmatch")
    ghost = run.attempt(folder, never, lambda *seen: None)
    for _ in range(taken_over_at):
        next(ghost)
    assert run.execute(folder, After(4)).state == "interrupted"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(Superseded, match="attempt 2 of this run has started"):
        for _ in ghost:
            pass
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert run.execute(folder, never).state == "completed"
    assert_same(folder, whole)
    assert journal.attempts(folder) == [1, 2, 3]
    assert states(folder) == ["running", "running", "interrupted", "running", "completed"]
    with Store(folder.parent) as store:
        store.sync()
        (found,) = store.runs([folder.name])
        curve = [step for step, _ in store.points(found, "train/loss")]
    assert (found["state"], found["attempt"], found["step"]) == ("completed", 3, 12)
    assert curve == sorted(set(curve))


@pytest.mark.usefixtures("_no_locks")
@pytest.mark.parametrize("at", [checkpoint.STATE, checkpoint.MANIFEST])
def test_a_checkpoint_that_is_being_written_does_not_appear(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = started(tmp_path), checkpoint.write_synced

    def write(path: Path, data: bytes) -> None:
        real(path, data)
        if path.name == at:
            journal.claim(folder)
            if at == checkpoint.STATE:
                checkpoint.tidy(folder)  # as the newer attempt does: this one cannot write the rest

    monkeypatch.setattr(checkpoint, "write_synced", write)
    with pytest.raises(Superseded):
        run.execute(folder, never)
    assert list((folder / "checkpoints").iterdir()) == []
    lines: list[Any] = [line.event for line in journal.read_lines(journal.path_of(folder, 1))]
    assert "Checkpoint" not in {type(event).__name__ for event in lines}
