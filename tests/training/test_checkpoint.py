"""A checkpoint is there whole or not at all, and a damaged one is never loaded."""

from __future__ import annotations

import ast
import errno
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.manifests import facts
from helpers.paths import REPO
from helpers.processes import dies_at
from mmctl.errors import EnvironmentFault, ResumeRefused
from mmctl.training import checkpoint
from mmctl.training.checkpoint import MANIFEST, STATE, copy_into, folder_of, newest, publish, read, retain, steps, tidy

FACTS = facts()


def tensors(step: int) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(step)
    return {
        "model.weight": torch.randn(4, 3, generator=made),
        "model.steps": torch.tensor(step),
        "tally.sums": torch.randn(5, dtype=torch.float64, generator=made),
    }


def same(found: Mapping[str, Tensor], step: int) -> bool:
    wanted = tensors(step)
    return found.keys() == wanted.keys() and all(torch.equal(found[k], t) for k, t in wanted.items())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints after 10 and 20 steps."""
    for step in (10, 20):
        publish(tmp_path, step, tensors(step), FACTS)
    return tmp_path


def test_what_is_published_is_what_is_read(tmp_path: Path) -> None:
    about = publish(tmp_path, 7, tensors(7), FACTS)
    found, bad = newest(tmp_path)
    assert found is not None
    assert (found.step, bad, same(found.tensors, 7)) == (7, [], True)
    assert {k: found.manifest[k] for k in FACTS} == FACTS
    folder = tmp_path / about["path"]
    assert (folder, (folder / STATE).stat().st_size) == (found.folder, about["bytes"])
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, STATE]
    assert newest(tmp_path / "nowhere") == (None, [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("again", [False, True], ids=["new step", "step that is there"])
def test_kill_9_at_every_operation(after: bool, again: bool, tmp_path: Path) -> None:
    new = 20 if again else 30

    def work() -> None:
        publish(run, new, tensors(new), FACTS)
        retain(run, 2)

    seen = set()
    for n in range(1, 100):
        run = tmp_path / str(n)
        for step in (10, 20):
            publish(run, step, tensors(step), FACTS)
        killed = dies_at(n, after, work)
        found, bad = newest(run)
        assert found is not None, n
        assert bad == [], n
        assert same(found.tensors, found.step)
        seen.add(found.step)
        tidy(run)
        assert {p.name for p in (run / "checkpoints").iterdir()} == {folder_of(run, step).name for step in steps(run)}
        publish(run, new, tensors(new), FACTS)  # what the next attempt does
        assert newest(run)[0].step == new  # type: ignore[union-attr]
        if not killed:
            break
    assert n > 10
    assert seen == ({10, 20} if again else {20, 30})


def damaged(run: Path, name: str, change: Callable[[bytes], bytes | None]) -> tuple[checkpoint.Checkpoint | None, int]:
    """Change a file of the newest checkpoint; what is found then, and how many warnings there are."""
    path = folder_of(run, 20) / name
    data = change(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    found, bad = newest(run)
    assert all(str(folder_of(run, 20)) in line for line in bad)
    return found, len(bad)


@pytest.mark.parametrize("name", [STATE, MANIFEST])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.8, 1.0])
def test_truncation(name: str, share: float, run: Path) -> None:
    found, warnings = damaged(run, name, lambda data: data[: int(share * (len(data) - 1))])
    assert found is not None
    assert (found.step, warnings, same(found.tensors, 10)) == (10, 1, True)
    assert steps(run) == [10]
    assert (run / "checkpoints" / f"bad-{folder_of(run, 20).name}").is_dir()
    assert newest(run)[1] == [], "one warning, and no more"


@pytest.mark.parametrize("name", [STATE, MANIFEST])
@pytest.mark.parametrize("content", [None, b"garbage", b"\0" * 400, b"[]", b'{"format": 1}', b"\x80\x04K\x01."])
def test_deletion_and_garbage(name: str, content: bytes | None, run: Path) -> None:
    found, warnings = damaged(run, name, lambda data: content)
    assert found is not None
    assert (found.step, warnings) == (10, 1)


def test_both_files_of_another_step(run: Path) -> None:
    shutil.copy(folder_of(run, 10) / STATE, folder_of(run, 20) / STATE)
    found, bad = newest(run)
    assert found is not None
    assert (found.step, len(bad)) == (10, 1)


@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_no_flipped_bit_is_loaded_in_silence(name: str, tmp_path: Path) -> None:
    dice = random.Random(5)
    publish(tmp_path, 20, tensors(20), FACTS)
    folder = folder_of(tmp_path, 20)
    whole, data = read(folder), (folder / name).read_bytes()
    refused = 0
    for _ in range(200):
        flipped = bytearray(data)
        flipped[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (folder / name).write_bytes(flipped)
        try:
            found = read(folder)
        except ResumeRefused:
            refused += 1
        else:  # white space of the manifest: nothing has changed
            assert name == MANIFEST
            assert found.manifest == whole.manifest
            assert same(found.tensors, 20)
    assert refused > 190


def test_two_damaged_ones_of_the_same_name_are_both_kept(run: Path) -> None:
    for _ in range(3):
        damaged(run, STATE, lambda data: data[1:])
        publish(run, 20, tensors(20), FACTS)
    assert len(list((run / "checkpoints").glob("bad-*"))) == 3


def test_where_none_is_whole_each_attempt_is_told(run: Path) -> None:
    for step in (10, 20):
        (folder_of(run, step) / STATE).write_bytes(b"")
    for _ in range(2):  # the second must not take the run for one that never had a checkpoint
        found, bad = newest(run)
        assert found is None
        assert len(bad) == 2
    assert steps(run) == [10, 20]


def test_a_newer_format_is_refused_and_left_alone(run: Path) -> None:
    path = folder_of(run, 20) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": checkpoint.FORMAT + 1}))
    with pytest.raises(ResumeRefused, match=r"newer mmctl \(format 2.*Upgrade"):
        newest(run)
    assert steps(run) == [10, 20]


def test_looking_does_not_set_aside(run: Path) -> None:
    (folder_of(run, 20) / STATE).unlink()
    found, bad = newest(run, quarantine=False)
    assert found is not None
    assert (found.step, len(bad), steps(run)) == (10, 1, [10, 20])


def test_retention_keeps_the_newest_and_touches_nothing_else(tmp_path: Path) -> None:
    run, neighbour = tmp_path / "a", tmp_path / "b"
    for step in (5, 10, 999_999_999, 15):
        for each in (run, neighbour):
            publish(each, step, tensors(step), FACTS)
    (run / "checkpoints" / "step-mine").mkdir()
    (run / "checkpoints" / "step-000000001").write_text("a file")
    retain(run, 2)
    assert steps(run) == [15, 999_999_999]
    assert len(steps(neighbour)) == 4
    names = {p.name for p in (run / "checkpoints").iterdir()}
    assert names == {"step-000000015", "step-999999999", "step-mine", "step-000000001"}


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_leaves_the_ones_before(failing: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    with pytest.raises(EnvironmentFault, match=r"No space left on device.*Free disk space"):
        publish(run, 30, tensors(30), FACTS)
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["step-000000010", "step-000000020"]


def test_replacing_a_checkpoint_never_loses_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.startswith(".tmp-"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(EnvironmentFault):
            publish(run, 20, tensors(21), FACTS)
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["step-000000010", "step-000000020"]
    folder_of(run, 20).rename(run / "checkpoints" / ".old-step-000000020")  # kill -9 between the two halves
    tidy(run)
    found, bad = newest(run)
    assert found is not None
    assert (found.step, bad, same(found.tensors, 20)) == (20, [], True)


def test_a_retention_that_fails_is_a_warning_and_is_tried_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(run, 30, tensors(30), FACTS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", full)
        problem = retain(run, 2)
    assert problem
    assert "No space left on device" in problem
    assert steps(run) == [20, 30], "half of a checkpoint is none"
    assert retain(run, 2) is None
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"step-000000020", "step-000000030"}


def test_a_checkpoint_that_may_not_be_read_is_no_damaged_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder_of(run, 20) / MANIFEST))

    monkeypatch.setattr(checkpoint, "read_file", denied)
    with pytest.raises(EnvironmentFault, match=r"step-000000020/manifest.json: cannot be read \(Permission denied"):
        newest(run)
    assert steps(run) == [10, 20]


def test_other_tensors_are_refused_by_name(run: Path) -> None:
    found = read(folder_of(run, 20))
    live = tensors(1)
    copy_into(live, found.tensors, run)
    assert same(live, 20)
    for change, says in (
        ({"model.bias": torch.zeros(3)}, "model.bias is missing"),
        (
            {"model.weight": torch.zeros(3, 4)},
            r"model.weight is float32 \[4, 3\] in the checkpoint and float32 \[3, 4\] in the recipe",
        ),
        (
            {"model.weight": torch.zeros(4, 3).double()},
            "model.weight is float32 .* in the checkpoint and float64 .* in the recipe",
        ),
    ):
        other = {**tensors(1), **change}
        with pytest.raises(ResumeRefused, match=says):
            copy_into(other, found.tensors, run)
        assert torch.equal(other["model.steps"], torch.tensor(1)), "nothing is copied before all is known to fit"
    with pytest.raises(ResumeRefused, match=r"tally.sums is unknown"):
        copy_into({k: t for k, t in tensors(1).items() if k != "tally.sums"}, found.tensors, run)
    with pytest.raises(ResumeRefused, match=r"\(and 4 more\)"):
        copy_into({f"x{n}": torch.zeros(1) for n in range(4)}, found.tensors, run)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_is_honoured(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        publish(tmp_path, 5, tensors(5), FACTS)
    finally:
        os.umask(before)
    folder = folder_of(tmp_path, 5)
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {mode}
    assert folder.stat().st_mode & 0o777 == 0o777 & ~mask


def test_nothing_is_ever_unpickled() -> None:
    for path in sorted((REPO / "mmctl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                if path.name == "_cifar_files.py":  # of known bytes, and arrays alone
                    names -= {"pickle"}
                assert not names & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("torch.load", "torch.save"), path
                allow = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("allow_pickle", "False")
                assert allow == "False", path
