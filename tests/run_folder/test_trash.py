"""rm, restore and gc: kill -9 at any moment loses no run, links are never followed out, a live run is never moved."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from helpers.fake_runs import finished_run, make_run
from helpers.processes import dies_at
from helpers.run_helpers import tree
from mmctl.errors import EnvironmentFault, RunNotFound, UserError
from mmctl.run_folder import lease, trash
from mmctl.run_folder.lease import Lease

UID = "20261125-080000-digits-s0-abcd"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    finished_run(tmp_path / "runs", UID)
    return tmp_path / "runs"


def whole(runs: Path, content: set[str]) -> bool:
    """Whether the run stands, complete, either in its place or in the trash, and once only."""
    places = [runs / UID, *(one.path for one in trash.thrown(runs))]
    return [{p.name for p in place.iterdir()} - {lease.FILE} for place in places if place.is_dir()] == [content]


@pytest.mark.parametrize("after", [False, True])
def test_kill_9_in_rm_and_restore_loses_nothing(runs: Path, after: bool) -> None:
    content = {p.name for p in (runs / UID).iterdir()}
    killed = 0
    for n in range(1, 20):
        died = dies_at(n, after, partial(trash.throw, runs, UID))  # type: ignore[arg-type]
        assert whole(runs, content)
        for one in trash.thrown(runs):
            again = dies_at(n, after, partial(trash.restore, runs, one))  # type: ignore[arg-type]
            assert whole(runs, content)
            killed += again
        for one in trash.thrown(runs):
            trash.restore(runs, one)
        killed += died
        if not died:
            break
    assert killed >= 3


@pytest.mark.parametrize("after", [False, True])
def test_kill_9_in_gc_leaves_nothing_that_looks_like_a_run(runs: Path, after: bool) -> None:
    finished_run(runs, "other")
    before = tree(runs / "other")
    for n in (1, 2, 3):
        entry = trash.throw(finished_run(runs, f"{UID}{n}").parent, f"{UID}{n}")
        assert dies_at(n, after, partial(trash.delete, entry.path)) == (n < 3)  # type: ignore[arg-type]
        assert entry.path.is_dir() == (n == 1 and not after)
    assert all(one.path.is_dir() for one in trash.thrown(runs))
    for left in [*trash.leftovers(runs), *(one.path for one in trash.thrown(runs))]:
        trash.delete(left)
    assert list((runs / trash.FOLDER).iterdir()) == []
    assert tree(runs / "other") == before


def test_what_is_half_deleted_can_not_be_restored_and_goes_with_the_next_gc(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = trash.throw(runs, UID)

    def fail(path: Path) -> None:
        (path / "run.json").unlink()
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        with pytest.raises(EnvironmentFault, match="cannot be deleted"):
            trash.delete(entry.path)
    assert trash.thrown(runs) == []
    (left,) = trash.leftovers(runs)
    trash.delete(left)
    assert list(trash.leftovers(runs)) == []


def test_links_are_never_followed(runs: Path, tmp_path: Path) -> None:
    outside = finished_run(tmp_path / "elsewhere", "linked")
    before = tree(outside)
    (runs / "linked").symlink_to(outside)
    (runs / UID / "data").symlink_to(outside, target_is_directory=True)
    assert trash.size(runs / "linked") < 500 < trash.size(outside)
    for uid in ("linked", UID):
        trash.delete(trash.throw(runs, uid).path)
    assert tree(outside) == before
    assert not (runs / "linked").is_symlink()
    with pytest.raises(UserError, match="no such folder"):
        trash.throw(runs, "../elsewhere/linked")
    shutil.rmtree(runs / trash.FOLDER)
    (runs / trash.FOLDER).symlink_to(tmp_path / "elsewhere")
    for act in (lambda: trash.thrown(runs), lambda: trash.throw(make_run(runs, "new").parent, "new")):
        with pytest.raises(UserError, match="cannot be the trash"):
            act()
    assert tree(outside) == before


def test_a_live_run_stays(runs: Path) -> None:
    with Lease(runs / UID), pytest.raises(UserError, match="is running"):
        trash.throw(runs, UID)
    assert (runs / UID).is_dir()
    said = (runs / UID / lease.FILE).read_bytes()
    entry = trash.throw(runs, UID)
    assert (entry.path / lease.FILE).read_bytes() == said  # what it says of the last attempt is kept
    with Lease(entry.path), pytest.raises(UserError, match="works on this run"):
        trash.delete(entry.path)


def test_what_is_restored_meanwhile_is_not_deleted(runs: Path) -> None:
    entry = trash.throw(runs, UID)
    trash.restore(runs, entry)
    assert trash.delete(entry.path) is False
    assert trash.delete(trash.throw(runs, UID).path) is True


def test_a_moved_run_is_moved_whatever_fails_then(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder))

    (runs / trash.FOLDER).mkdir()
    monkeypatch.setattr(trash, "sync_folder", fail)
    assert trash.throw(runs, UID).path.is_dir()
    (runs / trash.FOLDER).rename(runs / "elsewhere")
    with pytest.raises(EnvironmentFault, match="Input/output error"):
        trash.throw(make_run(runs, "new").parent, "new")


def test_restore_replaces_nothing(runs: Path) -> None:
    entry = trash.throw(runs, UID)
    (runs / UID).mkdir()
    with pytest.raises(UserError, match="exists again"):
        trash.restore(runs, entry)
    assert entry.path.is_dir()
    assert trash.find(trash.thrown(runs), "@last") == entry == trash.find([entry], "digits")
    for word in ("nothing", ""):
        with pytest.raises(RunNotFound, match="in the trash"):
            trash.find([entry], word)
