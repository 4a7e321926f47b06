"""Several runs: how they end is told run by run, and the exit code says whether all did."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.processes import spawn
from mmctl.plugin import available_cores
from mmctl.run_folder.record import read_record
from mmctl.runs.signals import SIGNALS

Mm = Callable[..., Result]

LAUNCHER = '''
from mmctl.plugin import Limits, launcher


@launcher("scripted")
class Scripted:
    """Pretends that runs end as told, or go on until they are cancelled.

    Args:
        ends: One end for each run, in order; running = until it is cancelled.
        slots: Runs at a time.
    """

    def __init__(self, *, ends: list[str], slots: int = 2):
        self.ends, self.slots, self.asked = ends, slots, 0

    def start(self, run_dirs):
        ids = [f"job-{n}" for n, _ in enumerate(run_dirs)]
        self.states_ = dict(zip(ids, self.ends, strict=True))
        for folder, end in zip(run_dirs, self.ends):
            if end == "failed":
                (folder / "log.txt").write_text("run\\nmmctl: the loss is not finite since step 3.\\n\\n")
        return ids

    def states(self, ids):
        self.asked += 1
        if self.asked == 1:
            return dict.fromkeys(ids, "queued")
        return {i: self.states_[i] for i in ids}

    def cancel(self, ids):
        self.states_ |= dict.fromkeys(ids, "interrupted")

    def requeue(self, ids): ...

    def limits(self):
        return Limits(self.slots)
'''


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "scripted.py").write_text(LAUNCHER)
    tiny_project.recipe("supervised")
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def words(*ends: str, slots: int = 2) -> list[str]:
    quoted = ", ".join(f'"{end}"' for end in ends)
    settings = (f'launcher={{name="scripted", ends=[{quoted}], slots={slots}}}', "train.device=cpu")
    return ["run", "tiny.toml", "--seeds", f"0-{len(ends) - 1}", *(w for s in settings for w in ("--set", s))]


def folders(tmp_path: Path) -> list[Path]:
    """In the order of their seeds."""
    return sorted((tmp_path / "runs").glob("2*"), key=lambda folder: read_record(folder)["seed"])


def test_all_complete(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "completed", "completed"), "--name", "trio", "--tag", "t", "--note", "n")
    assert done.code == 0, done.err
    assert done.out.startswith("3 runs, 2 in parallel\n[1/3] ")
    abouts = [read_record(folder) for folder in folders(tmp_path)]
    assert [(a["seed"], a["name"], a["tags"], a["note"]) for a in abouts] == [(n, "trio", ["t"], "n") for n in range(3)]
    assert len({a["config_id"] for a in abouts}) == 1
    assert [a["config"]["train"]["threads"] for a in abouts] == [max(1, available_cores() // 2)] * 3


def test_some_fail(mm: Mm, tmp_path: Path) -> None:
    done = mm(*words("completed", "failed", "interrupted"))
    assert done.code == 6
    assert done.err == "mmctl: 2 of 3 runs did not complete; list them with `mmctl ls`.\n"
    _, failed, interrupted = folders(tmp_path)
    assert f"{failed.name}: failed  mmctl: the loss is not finite since step 3.\n" in done.out
    assert f"{interrupted.name}: interrupted  (resume it with: mmctl resume {interrupted.name})\n" in done.out


def test_some_are_stopped(mm: Mm) -> None:
    done = mm(*words("completed", "interrupted"))
    assert done.code == 6
    assert "1 of 2 runs did not complete" in done.err


def test_a_failure_without_a_log_names_the_place(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = mm(*words("interrupted", "failed"))
    failed = folders(tmp_path)[1]
    (failed / "log.txt").unlink()
    from mmctl.runs.launch import _ending

    assert _ending(failed, "failed") == f"failed  (see {failed}/log.txt)"
    assert done.code == 6


def test_one_at_a_time_may_use_all_cores(mm: Mm, tmp_path: Path) -> None:
    assert mm(*words("completed", "completed", slots=1)).code == 0
    assert ["threads" in read_record(f)["config"]["train"] for f in folders(tmp_path)] == [False, False]


def test_ctrl_c_stops_them_all(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The signal itself is test_signals.py's; here it is what follows from it.
    asked = iter([False, False, *[True] * 1000])
    monkeypatch.setattr("mmctl.runs.launch.StopSignal", lambda: lambda: next(asked))
    monkeypatch.setattr("mmctl.runs.launch.PAUSE", 0.0)
    done = mm(*words("completed", "running", "running"))
    assert done.code == 75
    assert "stopped: 1 completed, 2 interrupted. List runs with `mmctl ls`" in done.err
    assert done.out.count("interrupted  (resume it with: mmctl resume ") == 2


def test_nothing_is_made_where_one_recipe_is_wrong(mm: Mm, tmp_path: Path) -> None:
    Path("bad.toml").write_text(Path("tiny.toml").read_text().replace("labels = 30", "labels = 3000"))
    done = mm("run", "tiny.toml", "bad.toml", "--seeds", "0-1")
    assert done.code == 2
    assert "3000" in done.err
    assert not (tmp_path / "runs").exists()


def test_a_run_that_did_not_converge_is_not_called_completed(mm: Mm, tmp_path: Path) -> None:
    sets = ("train.steps=8", "train.log_every=4", "eval.every=4", "loss.labeled.weight=10000", "train.on_collapse=stop")
    done = mm("run", "tiny.toml", "--seeds", "0-1", "--jobs", "2", *(w for s in sets for w in ("--set", s)))
    assert done.code == 0, done.err
    assert done.out.count("not converged (nc)") == 2
    assert "completed" not in done.out


def test_a_reader_that_has_gone_ends_no_batch(tmp_path: Path) -> None:
    process = spawn(tmp_path / "runs", *words("completed", "completed"), cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
