"""Whatever is wrong with one run folder: it is named everywhere, its rows stay, and the other runs are as they were."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.fake_runs import attempt, evaluation, finished_run, points, state, write
from mmctl.run_folder import journal, record
from mmctl.run_folder.upgrade import upgrade_record
from mmctl.run_folder.values import DEPTH, deeper_than
from mmctl.store import connection, run_row
from mmctl.store.store import Store
from mmctl.text import printable

Mm = Callable[..., Result]
BAD = "20261125-081502-digits-s1-0002"
CREATED = 1_795_594_501_000  # as the first name says
UIDS = ["20261125-081501-digits-s0-0001", BAD, "20261125-081503-digits-s2-0003"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed, uid in enumerate(UIDS):
        finished_run(tmp_path / "runs", uid, seed=seed, final=0.9, created=CREATED + 1000 * seed)
    return tmp_path / "runs"


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


DEEP = '{"format": 2, "config": ' + '{"a":' * 200 + "1" + "}" * 201
DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda p: p.write_bytes(p.read_bytes()[:40]),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("no JSON"),
    "list": lambda p: p.write_text("[1]"),
    "deep": lambda p: p.write_text(DEEP),
    "deeper": lambda p: p.write_text("[" * 100_000),
    "not UTF-8": lambda p: p.write_bytes(b'{"name": "\xff"}'),
    "zeros": lambda p: p.write_bytes(b"\0" * 4096),
    "long number": lambda p: p.write_text('{"seed": ' + "9" * 5000 + "}"),
    "huge": sparse,
    "folder": lambda p: (p.unlink(), p.mkdir()),
    "fifo": lambda p: (p.unlink(), os.mkfifo(p)),
    "socket": lambda p: (p.unlink(), socket_at(p)),
    "endless": lambda p: (p.unlink(), p.symlink_to("/dev/zero")),
    "loop": lambda p: (p.unlink(), p.symlink_to(p.name)),
    "dangling": lambda p: (p.unlink(), p.symlink_to("gone")),
    "missing": lambda p: p.unlink(),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_record_that_cannot_be_read_is_named_by_every_command(mm: Mm, runs: Path, damage: str, known: bool) -> None:
    if known:
        assert json.loads(mm("ls", "--json").out)["found"] == 3
    DAMAGES[damage](runs / BAD / "run.json")
    told = f"mmctl: warning: {runs / BAD / 'run.json'}: "
    for words in (["ls"], ["compare"], ["show", BAD], ["diff", UIDS[0], BAD, "--json"]):
        done = mm(*words)
        assert done.code == 0, done
        assert done.err.startswith(told), done.err
        assert "Restore it from a copy" in done.err
        assert "bug" not in done.err
    listed = json.loads(mm("ls", "--json").out)["runs"]
    assert [row["uid"] for row in listed] == UIDS
    assert [row["state"] for row in listed] == ["completed", "unreadable", "completed"]
    assert listed[1]["unreadable"].startswith(str(runs / BAD / "run.json"))
    assert "unreadable" in mm("ls").out
    if known:  # what the index knows of it stays
        assert (listed[1]["seed"], listed[1]["value"]) == (1, 0.9)
    (row, *others) = json.loads(mm("compare", "--json").out)["panels"][0]["configurations"]
    assert row["values"][0]["n"] == 2
    assert sum(one["counts"].get("unreadable", 0) for one in (row, *others)) == 1
    assert "1 unreadable" in mm("compare").out
    assert f"not counted: {runs / BAD / 'run.json'}" in mm("compare").out.replace("\n", " ").replace("  ", " ")
    checked = mm("db", "check")
    assert checked.code == 4
    assert f"{runs / BAD / 'run.json'}: " in checked.err
    assert "mmctl db rebuild" not in checked.err
    (problem,) = json.loads(mm("db", "check", "--json").out)["folders"]
    assert BAD in problem
    before = json.loads(mm("show", BAD, "--json").out)
    rebuilt = mm("db", "rebuild")
    assert rebuilt.code == 0
    assert told in rebuilt.err
    after = json.loads(mm("show", BAD, "--json").out)
    assert after == before
    assert len(before["run"]["evaluations"]) == 4, "the journal can still be read"


def test_a_run_that_cannot_be_read_does_not_count_as_computed(runs: Path) -> None:
    about = json.loads((runs / BAD / "run.json").read_text()) | {"code": "c"}
    (runs / BAD / "run.json").write_text(json.dumps(about))
    with Store(runs) as store:
        store.sync()
        asked = (about["config_id"], 1, ("d1", "s1", "c"))
        assert [twin["uid"] for twin in store.twins(*asked)] == [BAD]
        (runs / BAD / "run.json").write_text("{")
        store.sync()
        assert store.twins(*asked) == []
        (runs / BAD / "run.json").write_text(json.dumps(about))
        store.sync()
        assert [twin["uid"] for twin in store.twins(*asked)] == [BAD]


JOURNALS = ["folder", "fifo", "socket", "endless", "loop", "dangling", "huge", "missing", "empty", "cut short"]


@pytest.mark.parametrize("damage", JOURNALS)
def test_a_journal_that_cannot_be_read_takes_nothing_from_the_index(mm: Mm, runs: Path, damage: str) -> None:
    before = json.loads(mm("show", BAD, "--json").out)["run"]
    path = journal.path_of(runs / BAD, 1)
    whole = path.read_bytes()
    DAMAGES[damage](path)
    done = mm("ls", "--json")
    assert done.code == 0
    assert done.err.startswith(f"mmctl: warning: {path}: ")
    assert [row["state"] for row in json.loads(done.out)["runs"]] == ["completed", "unreadable", "completed"]
    after = json.loads(mm("show", BAD, "--json").out)["run"]
    assert {key: after[key] for key in ("series", "evaluations", "states", "curve")} == {
        key: before[key] for key in ("series", "evaluations", "states", "curve")
    }
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(whole)
    restored = json.loads(mm("show", BAD, "--json").out)["run"]
    assert restored == before


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", ["lease", "split.json", "recipe.toml"])
@pytest.mark.parametrize("damage", [*DAMAGES])
def test_other_files_of_a_folder_may_be_anything(mm: Mm, runs: Path, name: str, damage: str) -> None:
    write(runs / BAD, 2, attempt(2, 500), state("running"))
    (runs / BAD / name).write_text("{}")
    DAMAGES[damage](runs / BAD / name)
    for words in (["ls"], ["compare"], ["show", BAD]):
        done = mm(*words, "--json")
        assert done.code == 0, done
        assert done.err == ""
    assert len(json.loads(mm("ls", "--json").out)["runs"]) == 3


def test_damaged_lines_are_counted_and_named_and_the_rest_is_used(mm: Mm, runs: Path) -> None:
    path = journal.path_of(runs / BAD, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    torn, deep = lines[5][:20] + b"\n", b'{"e":"points","step":7,"v":{"a":' + b"[" * 99 + b"]" * 99 + b"}}\n"
    unknown = b'{"e":"of a newer mmctl","x":1}\n'
    good = b"".join([*lines[:4], torn, b"\n", b"x" * (journal.LINE_SIZE + 7) + b"\n", deep, unknown, *lines[4:]])
    path.write_bytes(good)
    run = json.loads(mm("show", BAD, "--json").out)["run"]
    begin = len(b"".join(lines[:4]))
    assert len(run["bad_lines"]) == 1
    assert run["bad_lines"][0].startswith(
        f"journal.1.jsonl: 3 damaged lines, left out (the first at byte {begin}: not JSON"
    )
    assert (run["state"], run["value"]) == ("completed", 0.9)
    assert "3 damaged lines" in mm("show", BAD).out
    with path.open("ab") as file:
        file.write(b"damaged\n")
    assert "journal.1.jsonl: 4 damaged lines" in json.loads(mm("show", BAD, "--json").out)["run"]["bad_lines"][0]
    checked = mm("db", "check")
    assert checked.code == 0
    assert f"note: {runs / BAD}: journal.1.jsonl: 4 damaged lines" in checked.out


def test_a_new_folder_that_is_only_being_created_is_no_run(mm: Mm, runs: Path) -> None:
    (runs / "new").mkdir()
    (runs / "new" / "recipe.toml").write_text("")
    assert mm("ls").err == ""
    assert json.loads(mm("ls", "--json").out)["found"] == 3
    (runs / "new" / "checkpoints").mkdir()  # but this has something to lose
    assert "new/run.json: is missing" in mm("ls").err


def test_a_link_to_a_folder_that_is_not_there_now_keeps_its_run(mm: Mm, runs: Path, tmp_path: Path) -> None:
    (runs / BAD).rename(tmp_path / "elsewhere")
    (runs / BAD).symlink_to(tmp_path / "elsewhere")
    assert json.loads(mm("ls", "--json").out)["found"] == 3
    (tmp_path / "elsewhere").rename(tmp_path / "unmounted")
    done = mm("ls", "--json")
    assert [row["state"] for row in json.loads(done.out)["runs"]] == ["completed", "unreadable", "completed"]
    assert BAD in done.err


@pytest.mark.parametrize("name", [b"20261125-081509-\xff", b"red\x1b[31m", b"two\nlines"])
def test_a_folder_whose_name_cannot_be_printed_is_named_escaped(mm: Mm, runs: Path, name: bytes) -> None:
    strange = runs / os.fsdecode(name)
    (runs / BAD).rename(strange)
    (runs / os.fsdecode(b"nothing\xff")).mkdir()
    shown = printable(strange.name)
    for _ in range(2):
        done = mm("ls", "--json")
        assert done.code == 0
        assert done.err == (
            f"mmctl: warning: {runs / shown}: its name has characters that cannot be printed. Rename the folder.\n"
        )
        states = {row["uid"]: row["state"] for row in json.loads(done.out)["runs"]}
        assert states == {UIDS[0]: "completed", shown: "unreadable", UIDS[2]: "completed"}
    assert mm("db", "check").code == 4
    assert mm("show", shown).code == 0
    strange.rename(runs / BAD)
    assert [row["state"] for row in json.loads(mm("ls", "--json").out)["runs"]] == ["completed"] * 3


@contextmanager
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(journal, "SIZE", 20_000)
        patch.setattr(journal, "LINE_SIZE", 2_000)
        patch.setattr(record, "SIZE", 20_000)
        yield


INTERESTING = [
    b"null", b"true", b"-1", b"1e999", b"NaN", b"-Infinity", b'""', b"[]", b"{}", b"[[]]", b'{"a":{}}', b"9" * 25,
    b"9" * 400, b'"\\ud800"', b'"\\u0000"', b'"\\u001b[31m"', b"0.5", b'"running"', b"[" * 60 + b"]" * 60,
]  # fmt: skip


def mutated(dice: random.Random, text: bytes) -> bytes:
    """One of the ways in which a file goes wrong, or in which somebody writes another type into it."""
    kind = dice.randrange(8)
    at = dice.randrange(len(text))
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + bytes([text[at] ^ 1 << dice.randrange(8)]) + text[at + 1 :]
    if kind == 2:
        end = at + dice.randrange(200)
        return text[:at] + text[end:]
    if kind == 3:
        return text[:at] + dice.randbytes(dice.randrange(1, 60)) + text[at:]
    # A value of another type: from a colon to the next comma or bracket.
    spots = [i for i, byte in enumerate(text) if byte == ord(":")]
    if not spots:  # an earlier mutation left a piece
        return text + b":"
    at = dice.choice(spots) + 1
    end = at
    while end < len(text) and text[end] not in b",}]\n":
        end += 1
    return text[:at] + dice.choice(INTERESTING) + text[end:]


def test_every_key_of_a_record_with_every_kind_of_value(runs: Path) -> None:
    """Readers of the row find texts, numbers and tables, whatever run.json says."""
    path = runs / BAD / "run.json"
    whole = {"labeler": "fuzzy", "code": "c0", "published": {"value": 0.9}, **json.loads(path.read_text())}
    texts = ("published", "code_hash", "name", "recipe", "method", "labeler", "config_id", "primary_metric")
    with Store(runs) as store:
        store.sync()
        store._conn.execute("BEGIN")
        for key in whole:
            for value in INTERESTING:
                found = record_of(b'{%s, "%s": %s}' % (json.dumps(whole).encode()[1:-1], key.encode(), value))
                if found is None:
                    continue
                run_row.delete_run(store._conn, BAD)
                run_row.insert_run(store._conn, BAD, found, "")
                (row,) = store._rows("SELECT * FROM runs WHERE uid = ?", [BAD])
                assert all(isinstance(row[one], (str, type(None))) for one in texts), (key, value)
                about = store.about(row)  # type: ignore[arg-type]
                assert isinstance(about["config"], dict)
                assert all(isinstance(one, dict) for one in about["components"])
                assert store.components([row])[row["id"]] == about["components"]  # type: ignore[list-item]


def record_of(data: bytes) -> dict[str, Any] | None:
    """A record as the importer reads it; None if it refuses it."""
    try:
        made = json.loads(data)
        return None if deeper_than(made, DEPTH) else upgrade_record(made)
    except ValueError:
        return None


def storm(mm: Mm, runs: Path, rounds: int, seed: int) -> tuple[int, int]:
    """Mutate run.json and the journal of one run; every command must answer, and the other runs stay as they were."""
    dice = random.Random(seed)
    folder = runs / BAD
    write(folder, 1, points(1000, train__loss=0.1), evaluation(1000, 0.9))
    whole = {name: (folder / name).read_bytes() for name in ("run.json", "journal.1.jsonl")}
    right = {uid: json.loads(mm("show", uid, "--json").out) for uid in UIDS if uid != BAD}
    commands: list[list[object]] = [
        ["ls", "--json"], ["ls"], ["show", BAD], ["show", BAD, "--json"], ["compare", "--json"], ["compare"],
        ["compare", "--per-seed", "--all-keys"], ["diff", UIDS[0], BAD], ["ls", "cfg.split.labels=40", "seed:1"],
    ]  # fmt: skip
    seen = 0
    for n in range(rounds):
        name = dice.choice(["run.json", "journal.1.jsonl"])
        for _ in range(dice.choice([1, 1, 3])):
            (folder / name).write_bytes(mutated(dice, (folder / name).read_bytes() or b"{:}"))
        if dice.random() < 0.5:  # as a new reader sees it
            for file in runs.glob("mmctl.db*"):
                file.unlink()
        for words in dice.sample(commands, 2):
            done = mm(*words)
            assert done.code in (0, 2), (n, words, done)
            assert "bug" not in done.err, (n, words, done.err)
            assert "\x1b" not in done.out + done.err, (n, words)
            if "--json" in words and done.code == 0:
                json.loads(done.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        for uid, was in right.items():
            now = json.loads(mm("show", uid, "--json").out)
            assert now["run"] | {"number": 0} == was["run"] | {"number": 0}, (n, uid)
        seen += any(row["uid"] == BAD for row in json.loads(mm("ls", "--json").out)["runs"])
        for file, text in whole.items():
            (folder / file).write_bytes(text)
        if n % 10 == 0:  # else, the next one damages what the index has seen whole
            mm("ls")
    return seen, rounds


@pytest.mark.slow
def test_mutations_of_records_and_journals_hurt_nobody(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with limited(monkeypatch):
        seen, rounds = storm(mm, runs, 12, 1)
    assert seen == rounds


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_two_thousand_mutations_hurt_nobody(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with limited(monkeypatch):
        seen, rounds = storm(mm, runs, 2000, 2)
    assert seen == rounds


def test_what_only_the_index_knows_survives_a_newer_version_and_a_rebuild(mm: Mm, runs: Path) -> None:
    before = json.loads(mm("show", BAD, "--json").out)["run"]
    for file in [*(runs / BAD).iterdir()]:
        file.unlink()
    (runs / BAD / "run.json").write_text("")
    mm("db", "rebuild")
    after = json.loads(mm("show", BAD, "--json").out)["run"]
    assert after["unreadable"]
    same = {"series", "curve", "config", "seed", "evaluations", "data"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    import sqlite3

    conn = sqlite3.connect(runs / connection.FILE)
    conn.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('mmctl', 'm999_later')")
    conn.execute("ALTER TABLE runs ADD COLUMN later TEXT")
    conn.commit()
    conn.close()
    again = json.loads(mm("show", BAD, "--json").out)["run"]
    assert {key: again[key] for key in same} == {key: before[key] for key in same}
    shutil.rmtree(runs / BAD)  # somebody removes the run: so does the index
    assert json.loads(mm("ls", "--json").out)["found"] == 2
