"""Whole runs as one file, and out of it again; and what a hostile archive may not do."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.fake_runs import T0, attempt, family, finished_run, make_run, points, state, write
from helpers.run_helpers import After, assert_same, never
from mmctl.exchange.bring_in import Wishes, bring_in
from mmctl.exchange.run_files import FORMAT, HEAD
from mmctl.run_folder.events import Note
from mmctl.run_folder.journal import append
from mmctl.run_folder.lease import Lease
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute

Mm = Callable[..., Result]
WISHES: Wishes = {"again": False, "damaged": False, "heavy": True, "dry_run": False}
UID = "20261125-080000-digits-s0-abcd"


def results(path: Path, runs: Path) -> list[str]:
    return [one["result"] for one in bring_in([path], runs, WISHES)]


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    monkeypatch.setenv("MMCTL_RUNS", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.slow
def test_every_reading_command_says_the_same_elsewhere(tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    family(tmp_path / "runs", 3)
    commands = (["ls", "--json"], ["compare", "--json"], ["show", "2"], ["export", "-w", "series"], ["export"])

    def said() -> list[str]:
        outputs = [mm(*words).out.replace(str(tmp_path / "there"), str(tmp_path / "runs")) for words in commands]
        rows = json.loads(outputs[0])["runs"]
        return [json.dumps([{k: v for k, v in row.items() if k != "age"} for row in rows]), *outputs[1:]]

    before = said()
    assert mm("export", "-o", "all.tar").code == 0
    elsewhere(monkeypatch, tmp_path / "there")
    done = mm("import", "all.tar")
    assert (done.code, done.err) == (0, "")
    assert said() == before
    assert {*results(tmp_path / "all.tar", tmp_path / "there")} == {"unchanged"}


@pytest.mark.slow
def test_an_imported_run_is_resumed_to_the_same_numbers(
    tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugins").mkdir()
    recipe = tiny_project.recipe("supervised", "train.steps=6", "train.save_every=2", "eval.every=2", "train.threads=1")
    folder = create_run(recipe, tmp_path / "runs")
    assert execute(folder, After(3)).state == "interrupted"
    assert mm("export", folder.name, "-o", "run.tar").code == 0
    there = elsewhere(monkeypatch, tmp_path / "there")
    assert mm("import", "run.tar").code == 0
    assert execute(there / folder.name, never).state == "completed"
    assert execute(folder, never).state == "completed"
    assert_same(folder, there / folder.name)
    # The longer run replaces the shorter one elsewhere, but no other way round.
    third = tmp_path / "third"
    assert results(tmp_path / "run.tar", third) == ["imported"]
    assert results(there, third) == ["updated"]
    assert results(tmp_path / "run.tar", third) == ["kept"]
    assert_same(third / folder.name, folder)


def test_folders_are_copied_with_notes_of_both_sides(tmp_path: Path, mm: Mm) -> None:
    source = finished_run(tmp_path / "from", UID)
    assert results(source, tmp_path / "runs") == ["imported"], "one run folder"
    append(tmp_path / "runs" / UID, Note(text="said here"))
    append(source, Note(text="said there"))
    write(source, 1, points(2000, train__loss=0.1))
    assert results(tmp_path / "from", tmp_path / "runs") == ["updated"], "a folder of runs"
    shown = mm("show", UID).out
    assert "said here" in shown
    assert "said there" in shown
    write(tmp_path / "runs" / UID, 1, points(3000, train__loss=0.1))
    write(source, 1, points(3000, train__loss=0.2), points(4000, train__loss=0.2))
    (one,) = bring_in([source], tmp_path / "runs", WISHES)
    assert one["result"] == "kept"
    assert "--again replaces it" in one["message"]


def test_without_checkpoints(tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished_run(tmp_path / "runs", UID)
    for part in ("checkpoints/step-000001000", "predictions"):
        (folder / part).mkdir(parents=True)
        (folder / part / "file").write_bytes(b"heavy")
    (folder / "lease").write_text("{}")
    (folder / ".half.tmp").write_text("")
    (folder / "link").symlink_to("/etc/passwd")
    mm("export", UID, "-o", "all.tar")
    mm("export", UID, "-o", "light.tar", "--no-checkpoints")
    names = []
    for path in ("all.tar", "light.tar"):
        with tarfile.open(path) as tar:
            names.append({name.partition("/")[2] for name in tar.getnames()} - {""})
    assert names[1] == {"run.json", "journal.1.jsonl"}
    assert names[0] - names[1] == {"checkpoints/step-000001000/file", "predictions/file"}
    there = elsewhere(monkeypatch, tmp_path / "there")
    assert mm("import", "all.tar", "--no-checkpoints").code == 0
    assert sorted(path.name for path in (there / UID).iterdir()) == ["journal.1.jsonl", "run.json"]


def test_running_runs_are_left_out(tmp_path: Path, mm: Mm) -> None:
    finished_run(tmp_path / "runs", UID)
    live = make_run(tmp_path / "runs", "live")
    write(live, 1, attempt(), state("running"), points(5, train__loss=1.0))
    with Lease(live):
        alone = mm("export", "live", "-o", "live.tar")
        assert (alone.code, "live: is running" in alone.err, Path("live.tar").exists()) == (2, True, False)
        some = mm("export", "-o", "all.tar")
        assert (some.code, "left out: live: is running" in some.err) == (6, True)
        (one,) = bring_in([live], tmp_path / "there", WISHES)
        assert "is running. Import it when it has ended" in one["message"]
    # One that was killed on another machine is not shown as running for ever.
    assert results(live, tmp_path / "there") == ["imported"]
    assert json.loads((tmp_path / "there" / "live" / "journal.0.jsonl").read_text())["s"] == "interrupted"


def member(tar: tarfile.TarFile, name: str, body: bytes = b"x", **facts: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(body)
    for key, value in facts.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(body) if info.isreg() else None)


@pytest.mark.parametrize(
    ("name", "facts", "words"),
    [
        ("/etc/evil", {}, "outside of a run"),
        ("../evil", {}, "outside of a run"),
        (f"{UID}/../../evil", {}, "outside of a run"),
        (f"{UID}//evil", {}, "outside of a run"),
        (f"{UID}/.hidden", {}, "outside of a run"),
        (f"{UID}/\x1b[31m", {}, "outside of a run"),
        ("evil", {}, "outside of a run"),
        ("/".join([UID, *"abcdefghi"]), {}, "outside of a run"),
        (f"{UID}/run.json", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "not a file"),
        (f"{UID}/run.json", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "not a file"),
        (f"{UID}/run.json", {"type": tarfile.FIFOTYPE}, "not a file"),
        (f"{UID}/run.json", {"type": tarfile.CHRTYPE}, "not a file"),
        (f"{UID}/a", {"type": tarfile.DIRTYPE}, "not a file"),
    ],
)
def test_a_hostile_archive_writes_nothing(
    tmp_path: Path, mm: Mm, name: str, facts: dict[str, object], words: str
) -> None:
    with tarfile.open("evil.tar", "w") as tar:
        member(tar, HEAD, json.dumps({"format": FORMAT}).encode())
        member(tar, name, **facts)
    before = sorted(tmp_path.rglob("*"))
    done = mm("import", "evil.tar")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert words in done.err
    assert "\x1b" not in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_claims_to_be_huge(tmp_path: Path, mm: Mm) -> None:
    info = tarfile.TarInfo(f"{UID}/run.json")
    info.size = 2**44
    with tarfile.open("bomb.tar", "w") as tar:
        member(tar, HEAD, json.dumps({"format": FORMAT}).encode())
    whole = Path("bomb.tar").read_bytes()
    Path("bomb.tar").write_bytes(whole[:1024] + info.tobuf() + bytes(512))
    done = mm("import", "bomb.tar")
    assert done.code in (2, 4)
    assert "not enough space" in done.err or "cut off" in done.err
    assert not list(tmp_path.glob("runs/*"))


def test_archives_that_are_no_run_files(tmp_path: Path, mm: Mm) -> None:
    finished_run(tmp_path / "from", UID)
    with tarfile.open("plain.tar", "w") as tar:
        tar.add(tmp_path / "from", "from")
    assert "unpack it and import the folder" in mm("import", "plain.tar").err
    with tarfile.open("newer.tar", "w") as tar:
        member(tar, HEAD, b'{"format": 99}')
    assert "made by a newer mmctl (format 99" in mm("import", "newer.tar").err
    with tarfile.open("twice.tar", "w") as tar:
        member(tar, HEAD, json.dumps({"format": FORMAT}).encode())
        member(tar, f"{UID}/run.json")
        member(tar, f"{UID}/run.json")
    assert "twice" in mm("import", "twice.tar").err
    with tarfile.open("below.tar", "w") as tar:
        member(tar, HEAD, json.dumps({"format": FORMAT}).encode())
        member(tar, f"{UID}/a")
        member(tar, f"{UID}/a/b/c")
    done = mm("import", "below.tar")
    assert (done.code, done.err) == (
        2, f"mmctl: below.tar: holds {UID}/a/b/c twice, or as a file and as a folder. Export the runs again.\n"
    )  # fmt: skip


def test_no_prefix_and_no_changed_byte_of_a_run_file_is_taken(tmp_path: Path, mm: Mm) -> None:
    finished_run(tmp_path / "runs", UID, created=T0)
    assert mm("export", "-o", "run.tar").code == 0
    path, dice = tmp_path / "run.tar", random.Random(1)
    whole = path.read_bytes()
    end = whole.rindex(f"{UID}/run.json".encode())  # in the checksums; what follows them is padding
    for cut in [0, 1, 511, 512, 1024, *dice.sample(range(end), 25)]:
        path.write_bytes(whole[:cut])
        assert results(path, tmp_path / "there") == ["failed"], cut
    taken = 0
    for _ in range(40):
        n = dice.randrange(end)
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :])
        found = results(path, tmp_path / "there")
        if found == ["imported"]:  # a byte of padding
            taken += 1
            assert whole[n] == 0
            for name in ("run.json", "journal.1.jsonl"):
                assert (tmp_path / "there" / UID / name).read_bytes() == (tmp_path / "runs" / UID / name).read_bytes()
            (tmp_path / "there").rename(tmp_path / f"there{taken}")
        else:
            assert found == ["failed"], n
            assert not (tmp_path / "there").exists()
    assert taken < 40
