"""The n-th system call of a run fails, for every n: exit code 4 with a path, nothing lost, nothing left behind."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.faults import ERRORS, Faults
from helpers.run_helpers import assert_same, only
from mmctl.training import checkpoint

Mm = Callable[..., Result]
SETS = ("train.threads=1", "train.steps=9", "train.save_every=3", "train.log_every=4", "eval.every=9")
LEFT = (".tmp-", ".del-", ".old-", ".new-")


def leftovers(runs: Path) -> list[str]:
    return [str(p) for p in runs.rglob("*") if p.name.startswith(LEFT) or p.name.endswith((".tmp", ".part"))]


FAULTS = [
    pytest.param(0, 19, marks=pytest.mark.slow),
    *(pytest.param(n, 1, marks=pytest.mark.exhaustive) for n in (1, 3)),
]
"""Shift of the errors and stride over the calls."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("shift", "stride"), FAULTS)
def test_the_nth_call_fails(
    shift: int, stride: int, lasting: bool, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [tiny_project.written("supervised"), "--quiet", *(w for one in SETS for w in ("--set", one))]
    monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / "whole"))
    assert mm("run", *words).code == 0
    whole = only(tmp_path / "whole")
    assert whole
    assert checkpoint.steps(whole) == [6, 9]
    tolerated, n = 0, 1 - stride
    while True:
        n += stride
        runs = tmp_path / f"runs-{n}"
        monkeypatch.setenv("MMCTL_RUNS", str(runs))
        with monkeypatch.context() as patch:
            number = ERRORS[(n + shift) % 4]
            if lasting and number == errno.EINTR:
                number = errno.EIO  # Python repeats a write that a signal interrupts: for ever, if it always is
            faults = Faults(runs, n, number, lasting, patch)
            ended = mm("run", *words)
        if not faults.done:
            break
        said = f"{faults.done}\n{ended.err}"
        assert ended.code in (0, 4), said
        assert "bug" not in ended.err, said
        assert "Traceback" not in ended.err, said
        if ended.code == 4:
            assert str(runs) in ended.err.splitlines()[-1], said
        tolerated += ended.code == 0
        folder = only(runs)
        if folder is None:
            assert lasting or [p.name for p in runs.glob("*") if not p.name.startswith("mmctl.db")] == [], said
            assert lasting or leftovers(runs) == [], said
            assert mm("run", *words).code == 0
            folder = only(runs)
            assert folder
        else:
            kept = checkpoint.steps(folder)
            found, bad = checkpoint.newest(folder, quarantine=False)
            assert bad == [], said
            assert (found is None) == (not kept), said
            resumed = mm("resume", folder.name, "--quiet")
            assert resumed.code == 0 or "already finished" in resumed.err, said + resumed.err
            assert leftovers(runs) == [], said
        assert_same(folder, whole)
        assert checkpoint.steps(folder) == [6, 9], said
        assert mm("ls").code == 0
    assert n > 60
    assert tolerated or stride > 1
