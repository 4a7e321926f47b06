"""The reading commands as people and programs meet them."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_runs import family, finished_run, make_run
from helpers.paths import REPO
from mmctl.cli.runs import open_store
from mmctl.run_folder.journal import path_of
from mmctl.store.store import Store

Mm = Callable[..., Any]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    family(tmp_path / "runs", 3)
    return tmp_path / "runs"


def test_ls(mm: Mm, runs: Path) -> None:
    result = mm("ls")
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].split()[:7] == ["#", "run", "state", "step", "curve", "test/accuracy", "balanced"]
    assert len(lines) == 12
    assert "test/accuracy: last evaluation" in result.out
    assert "\x1b" not in result.out
    shown = json.loads(mm("ls", "--json").out)
    assert shown["schema_version"] == 1
    assert (shown["total"], len(shown["runs"]), shown["runs"][1]["number"]) == (10, 10, 2)
    assert 0.5 < shown["runs"][-1]["value"] < 1


def test_ls_limits_and_filters(mm: Mm, runs: Path) -> None:
    assert "the newest 2 of 10" in mm("ls", "-n", "2").out
    assert mm("ls", "-n", "2", "--all").out.count("20261125") == 10
    assert mm("ls", "state:failed").out.count("20261125") == 1
    assert mm("ls", "tag:x").err == "no run matches\n"
    assert mm("ls", "stat:x").code == 2
    assert 'no field "stat"' in mm("ls", "stat:x").err


def test_values_from_outside_break_no_page(mm: Mm, tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "runs", "odd")
    path = path_of(folder, 1)
    huge = re.sub(rb'"(macro_f1|nll|seconds|bytes)":[0-9.]+', rb'"\1":1' + b"0" * 400, path.read_bytes())
    path.write_bytes(re.sub(rb'"path":"[^"]*"', b'"path":"' + b"x" * 5000 + b'"', huge))
    for command in (
        ("ls",),
        ("show", "odd"),
        ("show", "odd", "--json"),
        ("compare",),
        ("diff", "1", "1"),
        ("db", "check"),
    ):
        result = mm(*command)
        assert result.code == 0, (command, result.err)


@pytest.mark.slow
def test_a_run_that_cannot_be_read_is_named(mm: Mm, runs: Path) -> None:
    uid = json.loads(mm("ls", "--json").out)["runs"][0]["uid"]
    (runs / uid / "run.json").write_text("[")
    result = mm("ls")
    assert (result.code, result.out.count("20261125"), result.out.count("unreadable")) == (0, 10, 1)
    assert f"{uid}/run.json: not the record of a run" in result.err
    for command in ("resume", "evaluate"):
        refused = mm(command, uid)
        assert refused.code == 2
        assert f"{uid}/run.json: not the record of a run" in refused.err


@pytest.mark.parametrize("command", ["show", "resume", "evaluate", "ls", "compare"])
def test_a_name_longer_than_a_file_name(mm: Mm, runs: Path, command: str) -> None:
    assert mm(command, "x" * 5000).code == 2


def test_ls_without_runs(mm: Mm, tmp_path: Path) -> None:
    result = mm("ls")
    assert (result.code, result.out) == (0, "")
    assert "no runs in" in result.err
    assert json.loads(mm("ls", "--json").out)["runs"] == []
    assert not (tmp_path / "runs").exists()


def test_show(mm: Mm, runs: Path) -> None:
    result = mm("show", "@last")
    assert result.code == 0
    for words in (
        "marginmix, seed 2: completed",
        "89.0 \u00b1 0.4 (table 2, unstated), ours",
        "macro-F1",
        "recall, %: anger",
        "Components",
    ):
        assert words in result.out
    shown = json.loads(mm("show", "@last", "--json").out)["run"]
    assert shown["config"]["split"]["labels"] == 40
    assert shown["published"]["value"] == 0.89
    assert mm("show", "nosuch").code == 2
    assert "Traceback" not in mm("show", "marginmix").err
    assert "3 runs" in mm("show", "marginmix").err


def test_text_of_users_is_shown_as_it_is(mm: Mm, runs: Path) -> None:
    out = mm("show", "@last-failed").out
    assert "see [bold]log[/bold] \\u001b[31m" in out
    make_run(
        runs, "20261225-000000-x-s0-abcd", name="[red]x[/red]\x1b]0;t\x07", created=1_800_000_000_000, tags=["[b]"]
    )
    out = mm("ls").out
    assert "[red]x[/red]\\u001b]0;t\\u0007" in out
    assert "\x1b" not in out + mm("show", "@last").out


def test_diff(mm: Mm, runs: Path) -> None:
    result = mm("diff", "2", "5")
    assert "method.name" in result.out
    assert "optimizer.lr" not in result.out
    assert "optimizer.lr" in mm("diff", "2", "5", "--all").out
    assert json.loads(mm("diff", "2", "5", "--json").out)["differences"]["method.name"] == [
        "mmctl:supervised",
        "mmctl:mixmatch",
    ]
    assert mm("diff", "2", "2").out == "no difference\n"
    assert "same configuration, different seed" in mm("diff", "2", "3").out


def test_compare(mm: Mm, runs: Path) -> None:
    result = mm("compare")
    assert result.code == 0
    for words in (
        "digits, 40 labels",
        "vs supervised",
        "baseline",
        "paired t",
        "below .25",
        "1 failed",
        "Settings that differ",
    ):
        assert words in result.out
    shown = json.loads(mm("compare", "--json").out)
    assert (shown["schema_version"], len(shown["panels"][0]["configurations"])) == (1, 3)
    assert "by_seed" not in json.dumps(shown)
    assert mm("compare", "--per-seed").out.count("20261125") == 10
    assert "vs mixmatch" in mm("compare", "-b", "mixmatch", "-m", "test/accuracy@last").out
    assert "optimistically biased" in mm("compare", "-m", "test/accuracy@max").out
    assert "optimizer.lr" in mm("compare", "--all-keys").out
    assert "no baseline" in mm("compare", "mixmatch", "marginmix").out
    assert mm("compare", "--test", "x").code == 2
    assert mm("compare", "tag:x").err == "no run matches; `mmctl ls` shows all\n"


def test_tags_and_notes(mm: Mm, runs: Path) -> None:
    assert mm("tag", "@last", "good", "+kept").out.endswith("-0009: good kept\n")
    assert mm("tag", "@last", "--remove", "good").out.endswith(": kept\n")
    assert mm("tag", "@last").out.endswith(": kept\n")
    assert "-0009" in mm("ls", "tag:kept").out
    assert mm("tag", "@last", "two words").code == 2
    assert mm("note", "@last", "worth a look").code == 0
    assert "worth a look" in mm("show", "@last").out
    assert mm("note", "@last", " ").code == 2
    assert json.loads(mm("tag", "@last", "--json").out)["tags"] == ["kept"]
    mm("db", "rebuild")
    assert mm("tag", "@last").out.endswith(": kept\n")


def test_db(mm: Mm, runs: Path) -> None:
    assert "10 runs" in mm("db", "info").out
    assert "10 runs, nothing wrong" in mm("db", "check").out
    assert json.loads(mm("db", "info", "--json").out)["rows"]["runs"] == 10
    (runs / "mmctl.db").write_bytes(b"no database at all" * 100)
    for command in ("ls", "show", "compare"):
        result = mm(command, *(["@last"] if command == "show" else []))
        assert result.code == 4
        assert "mmctl db rebuild" in result.err
    assert "10 runs" in mm("db", "rebuild").out
    assert mm("ls").code == 0


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_tables_keep_to_the_width(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = mm("ls").out
    assert max(map(len, out.splitlines())) <= columns
    assert "no room for" in out
    assert "marginmix" in mm("compare").out


@pytest.mark.slow
def test_in_a_pipe_nothing_is_cut(runs: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(REPO), "MMCTL_RUNS": str(runs), "PATH": "/usr/bin", "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "mmctl", "ls"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "no room" not in done.stdout
    assert "a loss is not finite" in done.stdout
    assert "\x1b" not in done.stdout
    ascii_only = subprocess.run(
        [sys.executable, "-m", "mmctl", "show", "@last"],
        env=env | {"PYTHONIOENCODING": "ascii"}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "89.0 +- 0.4" in ascii_only.stdout


def test_reading_needs_no_torch_and_lists_print_json_without_rich(runs: Path) -> None:
    Store(runs).close()  # making the database takes sqlite-utils, which imports numpy
    code = (
        "import sys; from mmctl.cli import main\n"
        "for args in (['ls', '--json'], ['show', '@last', '--json'], ['compare', '--json']):\n"
        "    try: main(args)\n    except SystemExit as end: assert not end.code\n"
        "print({'torch', 'rich', 'scipy', 'numpy', 'timm'} & set(sys.modules), file=sys.stderr)\n"
    )
    env = {"PYTHONPATH": str(REPO), "MMCTL_RUNS": str(runs), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


def test_a_runs_folder_that_was_copied_in(mm: Mm, runs: Path, tmp_path: Path) -> None:
    finished_run(tmp_path / "other", "20261201-000000-new-s0-beef", name="new").rename(
        runs / "20261201-000000-new-s0-beef"
    )
    assert "new-s0-beef" in mm("ls").out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["ls", "state:complete"], 2, 'no state "complete". Did you mean "completed"?'),
        (["ls", "state:failed,complete"], 2, '"completed"'),
        (["ls", "cfg.optimizer.lrr=1"], 2, 'Did you mean "cfg.optimizer.lr"'),
        (["compare", "cfg.optimizer.lrr>1"], 2, 'Did you mean "cfg.optimizer.lr"'),
        (["ls", "method:mixmach"], 0, 'no run has method "mixmach". Did you mean "mixmatch"?'),
        (["compare", "recipe:mixmach"], 0, 'no run has recipe "mixmach". Did you mean "mixmatch"?'),
        (["ls", "cfg.optimizer.lr=7"], 0, "no run matches\n"),
        (["compare", "-b", "mixmach"], 2, 'Did you mean "mixmatch"'),
    ],
)
def test_words_that_match_nothing(mm: Mm, runs: Path, words: list[str], code: int, says: str) -> None:
    done = mm(*words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert mm("tag", "1").out.endswith(": no tags\n")


def test_a_tag_may_look_like_a_run_if_it_is_marked(mm: Mm, runs: Path) -> None:
    assert mm("tag", "1", "+2", "x").out.endswith(": 2 x\n")


def test_note_shows_the_notes(mm: Mm, runs: Path) -> None:
    assert mm("note", "2").out.endswith(": no notes\n")
    assert mm("note", "2", "first").out.endswith(": first\n")
    assert mm("note", "2", "second").out.splitlines()[-1].endswith(": second")
    assert [one["text"] for one in json.loads(mm("note", "2", "--json").out)["notes"]] == ["first", "second"]


def test_a_component_without_version_is_named_without_none(mm: Mm, tmp_path: Path) -> None:
    for number, version in enumerate((None, "1.0")):
        record = finished_run(tmp_path / "runs", f"2026-{number}") / "run.json"
        held = json.loads(record.read_text())
        held["components"][0]["version"] = version
        record.write_text(json.dumps(held))
    out = mm("diff", "1", "2").out
    assert "version of method" in out
    assert "None" not in out


@pytest.mark.parametrize("columns", range(30, 170, 10))
def test_ls_shows_states_whole_and_leaves_no_room_unused(
    mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = mm("ls").out.splitlines()
    rows = [line for line in lines if re.match(r" ?\d+ ", line)]
    assert len(rows) == 10
    assert {word for row in rows for word in row.split() if word in ("completed", "failed", "running?")} == {
        "completed", "failed"
    }  # fmt: skip
    assert max(map(len, lines)) <= columns
    hidden = re.search(r"no room for: ([^;]*);", " ".join(lines))
    widths = {"age": 6, "labels": 6, "seed": 4, "method": 10, "balanced": 8, "step": 9, "run": 34}
    free = columns - max(map(len, rows))
    for title in hidden[1].split(", ") if hidden else ():
        assert widths.get(title, 12) + 2 > free, (title, free)


def test_show_breaks_no_number_from_its_class(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(30, 100, 7):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = mm("show", "@last").out
        recalls = out[out.index("recall, %:") :].split("\n\n")[0]
        for line in out[out.index("recall, %:") :].splitlines()[:1]:
            assert re.fullmatch(r"recall, %:( \w+ [\d.]+,?)+", line.rstrip()), line
        assert re.match(r"recall, %: anger [\d.]+, fear [\d.]+, joy [\d.]+, neutral [\d.]+", " ".join(recalls.split()))
        for line in out.splitlines():
            if line.startswith(("raw", "ema")):
                assert "\u2026" not in line


def named(runs: Path, uid: str, name: str, lr: float, seed: int = 0) -> None:
    record = (
        finished_run(
            runs, uid, name="digits", seed=seed, config_id=f"id-{lr}", settings={"optimizer__lr": lr}, final=0.8 + lr
        )
        / "run.json"
    )
    record.write_text(json.dumps({**json.loads(record.read_text()), "name": name}))


def test_compare_shows_the_names_of_runs(mm: Mm, tmp_path: Path) -> None:
    for seed in range(2):
        for lr, name in ((0.01, "digits"), (0.02, "digits"), (0.03, "fast")):
            named(tmp_path / "runs", f"2026-{lr}-{seed}", name, lr, seed)
    out = mm("compare").out
    assert "fast (digits)" in out
    assert "vs fast (digits)" in mm("compare", "-b", "fast").out
    refused = mm("compare", "-b", "digits")
    assert refused.code == 2
    assert refused.err.splitlines()[1:] == [
        f"  id-{lr}  digits{name}, method mixmatch, 2 runs, optimizer.lr={lr}"
        for lr, name in ((0.03, " fast"), (0.02, ""), (0.01, ""))
    ]


def test_collections_are_seldom_while_runs_are_read_and_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with open_store():
        assert gc.get_threshold()[0] > 10_000
    assert gc.get_threshold() == before
