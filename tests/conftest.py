"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.paths import REPO
from mmctl.runs.signals import SIGNALS

if (worker := os.environ.get("PYTEST_XDIST_WORKER", "gw")[2:]) and hasattr(os, "sched_setaffinity"):
    # A core for each worker, so a thread too: threads that wait for one another on shared cores burn most of the time.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})

pytest.register_assert_rewrite(
    "helpers.method_checks", "helpers.method_steps", "helpers.processes", "helpers.run_helpers"
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it sends to the background; the tests of Ctrl-C would wait for ever, children included.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So nohup starts what it runs; mmctl would rightly leave it ignored, and the tests of a closed terminal would fail.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`sampled(n)`: of the cases of a test, each n-th is in the default tier and the others are in the slow one.

    `sampled(n, m)`: of the others each m-th is in the slow tier, and what is left is exhaustive.
    """
    seen: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            n, m = mark.args if len(mark.args) == 2 else (*mark.args, 1)
            if seen[test] % n and not item.get_closest_marker("exhaustive"):
                item.add_marker("exhaustive" if seen[test] % m else "slow")
            seen[test] += 1


@pytest.fixture(scope="session", autouse=True)
def _installed_is_read_once() -> Iterator[None]:
    """What is installed is the same in all tests, but for those that add a folder to the import path."""
    known = set(sys.path)

    def once(read: Callable[..., Any]) -> Callable[..., Any]:
        kept = cache(read)
        return lambda *words, **more: (kept if known.issuperset(sys.path) else read)(*words, **more)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("version", "entry_points"):
            patch.setattr(metadata, name, once(getattr(metadata, name)))
        yield


@pytest.fixture(autouse=True)
def _own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in an empty project of its own, so that no run, plugin or cache of the developer's leaks in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMCTL_PLUGINS_DIR", str(tmp_path / "plugins"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))  # of all tests of this process
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("MMCTL_DEBUG", raising=False)


@pytest.fixture
def mm(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run one mmctl command in this process: `mm("ls", "--json")`."""

    def run(*args: object) -> Result:
        from mmctl.cli import main

        capfd.readouterr()
        code = 0
        try:
            main([str(a) for a in args])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture(scope="session")
def slurm_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a Slurm cluster on this machine, which the tests with the mark `slurm` share."""
    from helpers.slurm_cluster import cluster

    worker = os.environ.get("PYTEST_XDIST_WORKER")
    temporary = tmp_path_factory.getbasetemp()
    with cluster(temporary.parent if worker else temporary, worker or "main") as folder:
        yield folder


@pytest.fixture
def slurm_environment(slurm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What programs and jobs of that cluster need; one test at a time has it, since some take a node away."""
    from helpers.slurm_cluster import alone

    monkeypatch.setenv("SLURM_CONF", str(slurm_folder / "slurm.conf"))
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with alone(slurm_folder.with_name("slurm-test.lock")):
        yield


@pytest.fixture
def handlers_kept() -> Iterator[None]:
    """Signal handlers that a command sets in this process are gone after the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
