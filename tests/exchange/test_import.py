"""`mmctl import`: each run whole or not at all, each one once, and every reading command understands it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import foreign_files as made
from helpers.command import Result
from helpers.fake_runs import finished_run, make_run
from helpers.foreign_files import FILES, T0, event, history, log, scalar, wandb_exit, wandb_run
from helpers.processes import dies_at
from mmctl.exchange.bring_in import Imported, Wishes, bring_in
from mmctl.run_folder.record import read_record
from mmctl.store.store import Store

Mm = Callable[..., Result]
WISHES: Wishes = {"again": False, "damaged": False, "heavy": True, "dry_run": False}


def bring(path: Path, runs: Path, **wishes: bool) -> list[Imported]:
    return bring_in([path], runs, WISHES | wishes)  # type: ignore[operator]


def results(path: Path, runs: Path, **wishes: bool) -> list[str]:
    return [one["result"] for one in bring(path, runs, **wishes)]


def visible(runs: Path) -> list[str]:
    return (
        sorted(path.name for path in runs.iterdir() if path.name[0] != "." and path.is_dir()) if runs.exists() else []
    )


def wandb_file(path: Path, steps: int = 2, *more: bytes, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [history(10 * s, train__loss=1 / s, test__accuracy=0.8 + s / 100) for s in range(1, steps + 1)]
    path.write_bytes(log(wandb_run(f"id{seed}", f"run{seed}", lr=0.03, seed=seed), *rows, *more))
    return path


def test_reading_commands_understand_imported_runs(tmp_path: Path, mm: Mm) -> None:
    """Two programs, two seeds each: two configurations with a mean, beside our own run of the same metric."""
    source = tmp_path / "from"
    for seed in range(2):
        wandb_file(source / f"run-{seed}.wandb", 2, wandb_exit(), seed=seed)
    made.mlflow_db(source / "mlflow.db", {"a": "FINISHED", "b": "FINISHED", "c": "FAILED"})
    made.curve(source / "logs" / "some_seed3")
    finished_run(tmp_path / "runs", "20261125-080000-digits-s0-abcd")
    done = mm("import", source)
    assert (done.code, done.out.count(": imported, from ")) == (0, 6), done.err
    found = json.loads(mm("ls", "--all", "--json").out)["runs"]
    facts = {row["name"]: (row["state"], row["seed"], row["metric"], round(row["value"], 6)) for row in found}
    assert facts["run0"] == ("completed", 0, "test/accuracy", 0.82)
    assert facts["run-b"] == ("completed", 1, "test/accuracy", 0.81)
    assert facts["run-c"] == ("failed", 2, "test/accuracy", 0.82)
    assert facts["some_seed3"] == ("completed", 3, "train/loss", 0.333333)
    panels = json.loads(mm("compare", "-m", "test/accuracy", "--json").out)
    means = json.dumps(panels)
    assert '"n": 2' in means
    assert "0.805" in means, "the mean of run-a and run-b"
    uid = next(row["uid"] for row in found if row["name"] == "run0")
    shown = mm("show", uid)
    assert f"from W&B, id cifar/id0, {source / 'run-0.wandb'}" in shown.out
    assert '"id": "cifar/id0"' in mm("show", uid, "--json").out
    assert "imported from W&B" in mm("logs", uid).out
    assert "cfg.params.lr" in mm("export", "method:wandb").out
    assert mm("ls", "method:mlflow", "cfg.params.lr=0.03", "test/accuracy>0.805").out.count("mlflow-") == 2
    assert mm("diff", "run0", "run1").out.count("\n") == 3, "the seed alone"
    assert mm("plot", "run0", "-m", "test/accuracy").code == 0
    assert mm("compare", "--x", "seconds", "-m", "test/accuracy", "method:wandb").code == 0
    done = mm("compare", "--per-example", "-m", "test/accuracy", "-b", "wandb", "cfg.params.lr=0.03")
    assert (done.code, done.out.count("imported from another program, which stored no predictions")) == (0, 4)
    assert mm("db", "check").code == 0
    assert mm("ls", "tag:nothing").code == 0


@pytest.mark.parametrize("command", [["resume"], ["evaluate"], ["reproduce"], ["run", "--extend"]])
def test_an_imported_run_is_not_trained(tmp_path: Path, mm: Mm, command: list[str]) -> None:
    mm("import", wandb_file(tmp_path / "run.wandb"))
    (uid,) = visible(tmp_path / "runs")
    more = ["--set", "train.steps=99"] if "--extend" in command else []
    refused = mm(*command, uid, *more)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert f"{uid}: was imported from W&B, without recipe and checkpoint" in refused.err


def test_resume_leaves_imported_runs_alone(tmp_path: Path, mm: Mm) -> None:
    mm("import", wandb_file(tmp_path / "run.wandb"))
    (uid,) = visible(tmp_path / "runs")
    assert f"left as they are, imported from another program: {uid}" in mm("resume", "state:crashed").err
    assert "no run to continue" in mm("resume").err


def test_importing_twice_does_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for path in (
        wandb_file(tmp_path / "run.wandb"), made.mlflow_db(tmp_path / "m.db"), made.trackio_db(tmp_path / "t.db"),
        made.curve(tmp_path / "tb").parent, made.mlruns(tmp_path / "mlruns"),
    ):  # fmt: skip
        assert {*results(path, runs)} == {"imported"}
        before = {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()}
        assert {*results(path, runs)} == {"unchanged"}
        assert before == {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()}
    # The same files elsewhere are the same runs.
    (tmp_path / "there").mkdir()
    assert results(shutil.copytree(tmp_path / "tb", tmp_path / "there" / "tb"), runs) == ["unchanged"]


def test_a_run_that_has_grown_is_updated_and_keeps_what_people_said(tmp_path: Path, mm: Mm) -> None:
    runs, path = tmp_path / "runs", tmp_path / "run.wandb"
    assert results(wandb_file(path), runs) == ["imported"]
    (uid,) = visible(runs)
    mm("tag", uid, "mine")
    mm("rename", uid, "better")
    assert results(wandb_file(path, 3), runs) == ["updated"]
    assert results(wandb_file(path, 3, wandb_exit()), runs) == ["updated"], "it has ended"
    assert results(wandb_file(path, 2), runs) == ["kept"], "there is less of it than here"
    assert visible(runs) == [uid]
    (row,) = json.loads(mm("ls", "--json").out)["runs"]
    assert (row["name"], row["tags"], row["state"], row["step"]) == ("better", ["mine"], "completed", 30)
    assert results(path, runs, again=True) == ["updated"]
    assert json.loads(mm("ls", "--json").out)["runs"][0]["step"] == 20
    assert len(json.loads(mm("restore", "--json").out)["trash"]) == 1, "--again throws nothing away for good"


def test_a_run_in_the_trash_stays_there(tmp_path: Path, mm: Mm) -> None:
    path = wandb_file(tmp_path / "run.wandb")
    mm("import", path)
    mm("rm", "@last")
    again = mm("import", path)
    assert (again.code, visible(tmp_path / "runs")) == (0, [])
    assert "in the trash: `mmctl restore" in again.out
    assert mm("import", path, "--again").code == 0
    assert len(visible(tmp_path / "runs")) == 1


def test_a_bad_file_among_good_ones(tmp_path: Path, mm: Mm) -> None:
    wandb_file(tmp_path / "from" / "good.wandb")
    (tmp_path / "from" / "bad.wandb").write_bytes(b"nothing of W&B")
    done = mm("import", tmp_path / "from", tmp_path / "nowhere")
    assert done.code == 6
    assert done.err.splitlines() == [
        f"mmctl: {tmp_path / 'from' / 'bad.wandb'}: not a file of W&B, or cut off in its first bytes.",
        f"{tmp_path / 'nowhere'}: does not exist.",
    ]
    assert len(visible(tmp_path / "runs")) == 1
    report = json.loads(mm("import", tmp_path / "from", "--json").out)
    assert [one["result"] for one in report["runs"]] == ["failed", "unchanged"]


def test_one_damaged_run_of_a_database_keeps_all_of_them_out(tmp_path: Path) -> None:
    path = made.trackio_db(tmp_path / "cifar.db", ("r1", "r2"))
    import sqlite3

    conn = sqlite3.connect(path)
    conn.execute("UPDATE metrics SET metrics = '{' WHERE run_id = 'r2'")
    conn.commit()
    conn.close()
    (one,) = bring(path, tmp_path / "runs")
    assert one["result"] == "failed"
    assert "run name-r2: a value cannot be read" in one["message"]
    assert not (tmp_path / "runs").exists()


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """What people may give by mistake, and what they are told."""
    empty, text, index = folder / "empty", folder / "notes.txt", folder / "index" / "mmctl.db"
    empty.mkdir()
    text.write_text("not a run")
    (folder / "run.tar.gz").write_bytes(b"\x1f\x8b\x08rest")
    (folder / "nothing.wandb").write_bytes(b"")
    (folder / "x.tfevents.1").write_bytes(b"")
    (folder / "other").mkdir()
    index.parent.mkdir()
    with Store(index.parent) as store:
        store.sync()
    os.mkfifo(folder / "pipe")
    broken = make_run(folder / "broken", "uid1")
    (broken / "run.json").write_text('{"uid": "uid1", "config": 3}')
    newer = make_run(folder / "newer", "uid2")
    record = json.loads((newer / "run.json").read_text())
    (newer / "run.json").write_text(json.dumps(record | {"format": 99}))
    escaping = make_run(folder / "escaping", "uid3")
    (escaping / "run.json").write_text(json.dumps(record | {"uid": "../../x"}))
    return {
        "empty folder": (empty, "no runs in this folder. Can be imported: run folders"),
        "text": (text, "not a file that mmctl knows"),
        "compressed": (folder / "run.tar.gz", "is compressed. Unpack it"),
        "empty .wandb": (folder / "nothing.wandb", "not a file of W&B, or cut off"),
        "empty event file": (folder / "x.tfevents.1", "has no scalars"),
        "index": (index, "mmctl's index, which holds no run. Import its folder"),
        "fifo": (folder / "pipe", "is not a file"),
        "broken record": (broken, "not a run folder (run.json: "),
        "newer": (newer, "made by a newer mmctl"),
        "escaping": (escaping, "cannot be the name of a folder"),
        "missing": (folder / "missing", "does not exist"),
    }


def test_bad_input_is_named_in_one_line(tmp_path: Path, mm: Mm) -> None:
    (tmp_path / "in").mkdir()
    for what, (path, words) in bad_inputs(tmp_path / "in").items():
        done = mm("import", path)
        assert done.code == 2, what
        assert done.err.count("\n") == 1, what
        assert str(path) in done.err, what
        assert words in done.err, what
        assert not visible(tmp_path / "runs"), what
    finished_run(tmp_path / "runs", "own")
    assert "this project's own runs" in mm("import", tmp_path / "runs").err


def test_a_folder_that_cannot_be_read(tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb_file(tmp_path / "from" / "a.wandb")
    closed, scan = tmp_path / "from" / "z" / "closed", os.scandir
    closed.mkdir(parents=True)

    def refuse(path: str = ".") -> object:  # root reads everything
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for top, code in ((closed, 2), (tmp_path / "from" / "z", 2), (tmp_path / "from", 6)):
        done = mm("import", top)
        assert (done.code, done.err) == (code, f"mmctl: {closed}: cannot be read (Permission denied).\n")


def test_dry_run_changes_nothing(tmp_path: Path, mm: Mm) -> None:
    wandb_file(tmp_path / "from" / "a.wandb")
    made.curve(tmp_path / "from" / "tb")
    done = mm("import", tmp_path / "from", "--dry-run")
    assert done.out.count("would be imported") == 3
    assert not (tmp_path / "runs").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    wandb_file(tmp_path / "from" / "wandb" / "offline-1" / "a.wandb")
    (tmp_path / "from" / "wandb" / "latest-run").symlink_to("offline-1")
    (tmp_path / "from" / "round").symlink_to("..")
    assert results(tmp_path / "from", tmp_path / "runs") == ["imported"]


def test_runs_without_a_seed_are_one_configuration_only_by_name(tmp_path: Path) -> None:
    for name, id in (("base-seed1", "a"), ("base-seed2", "b"), ("trick", "c")):
        (tmp_path / f"{id}.wandb").write_bytes(log(wandb_run(id, name, lr=1), history(1, acc=0.5)))
        bring(tmp_path / f"{id}.wandb", tmp_path / "runs")
    records = [read_record(tmp_path / "runs" / uid) for uid in visible(tmp_path / "runs")]
    found = {record["name"]: (record["config_id"], record["seed"]) for record in records}
    assert found["base-seed1"][0] == found["base-seed2"][0] != found["trick"][0]
    assert [found[name][1] for name in ("base-seed1", "base-seed2", "trick")] == [1, 2, None]


def test_hostile_text_is_escaped(tmp_path: Path, mm: Mm) -> None:
    name = "\x1b[31m/../\n\u202e x"
    rows = [wandb_run("../../etc", name, **{"k\x1b[2J": name}), history(1, **{f"m{name}": 1.0})]
    (tmp_path / "a.wandb").write_bytes(log(*rows, wandb_exit()))
    for words in (["import", "a.wandb"], ["ls"], ["show", "1"], ["export"], ["export", "-w", "series"], ["logs", "1"]):
        done = mm(*words)
        assert done.code == 0, words
        assert "\x1b" not in done.out + done.err
        assert "\u202e" not in done.out + done.err
    assert [path.name for path in tmp_path.iterdir() if "etc" in path.name] == []


KINDS = {
    "wandb": lambda folder: wandb_file(folder / "run.wandb", 3, wandb_exit()),
    "offline.wandb": lambda folder: Path(shutil.copy(FILES / "offline.wandb", folder)),
    "event file": lambda folder: made.events(
        folder / "events.out.tfevents.1.box.1.0", *(event(s, float(T0 + s), scalar("loss", 1 / s)) for s in range(1, 9))
    ),
    "trackio": lambda folder: made.trackio_db(folder / "cifar.db"),
    "mlflow": lambda folder: made.mlflow_db(folder / "mlflow.db"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damaged", [False, True])
def test_no_prefix_and_no_flipped_byte_raises_or_leaves_halves(kind: str, damaged: bool, tmp_path: Path) -> None:
    dice, runs = random.Random(kind), tmp_path / "runs"
    path = KINDS[kind](tmp_path)
    whole = path.read_bytes()
    (full,) = bring(path, runs)
    assert full["result"] == "imported"
    shutil.rmtree(runs)
    cuts = [whole[:end] for end in [0, 1, len(whole) - 1, *dice.sample(range(len(whole)), 12)]]
    flips = []
    for _ in range(12):
        flipped = bytearray(whole)
        flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        flips.append(bytes(flipped))
    for data in [*cuts, *flips]:
        path.write_bytes(data)
        for one in bring(path, runs, damaged=damaged):
            assert one["result"] in ("imported", "failed")
            assert one["result"] == "imported" or str(path.parent) in one["message"]
            if data in cuts and one["result"] == "imported":
                assert one["points"] <= full["points"]
        assert [name for name in (os.listdir(runs) if runs.exists() else []) if name[0] == "."] == []  # noqa: PTH208
        for uid in visible(runs):
            read_record(runs / uid)
        shutil.rmtree(runs, ignore_errors=True)


def test_cut_off_files_are_imported_only_when_asked(tmp_path: Path) -> None:
    path = wandb_file(tmp_path / "run.wandb", 5, wandb_exit())
    path.write_bytes(path.read_bytes()[:-30])
    (refused,) = bring(path, tmp_path / "runs")
    assert refused["result"] == "failed"
    assert "`--damaged` imports what comes before it" in refused["message"]
    (taken,) = bring(path, tmp_path / "runs", damaged=True)
    assert (taken["result"], taken["state"], taken["points"]) == ("imported", "crashed", 8)


@pytest.mark.slow
def test_kill_at_any_place_leaves_whole_runs_or_none(tmp_path: Path) -> None:
    path = made.mlflow_db(tmp_path / "mlflow.db", {"a": "FINISHED", "b": "FINISHED"})
    n, whole, counts = 0, False, set[int]()
    while not whole:
        n += 1
        runs = tmp_path / f"runs{n}"
        whole = not dies_at(n, bool(n % 2), lambda runs=runs: bring(path, runs) and None)  # type: ignore[misc]
        for uid in visible(runs):
            with Store(runs, memory=True) as store:
                store.sync()
                assert all(row["state"] == "completed" and row["step"] == 30 for row in store.runs()), uid
        counts.add(len(visible(runs)))
        assert {*results(path, runs)} <= {"imported", "unchanged"}
        assert len(visible(runs)) == 2
    assert counts >= {0, 2}
    assert n > 8


@pytest.mark.slow
def test_kill_while_a_run_is_replaced_loses_nothing(tmp_path: Path) -> None:
    n, whole, first, second = 0, False, tmp_path / "1.wandb", tmp_path / "2.wandb"
    wandb_file(first)
    wandb_file(second, 3)
    while not whole:
        n += 1
        runs = tmp_path / f"runs{n}"
        (one,) = bring(first, runs)
        whole = not dies_at(n, bool(n % 2), lambda runs=runs: bring(second, runs) and None)  # type: ignore[misc]
        here = [
            *visible(runs),
            *(path.name for path in (runs / ".trash").glob("*") if not path.name.startswith(".del-")),
        ]
        assert any(name.endswith(one["uid"]) for name in here)
    assert n > 8
