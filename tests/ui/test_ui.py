"""`mmctl ui` as a person uses it: keys in, screen out, journals as the commands write them."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.widgets import RichLog

from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, finished_run, make_run, points, state, write
from helpers.paths import REPO
from helpers.processes import child, finish
from helpers.ui_driver import Driver, play
from mmctl.errors import UserError
from mmctl.run_folder.lease import Lease
from mmctl.runs import detached
from mmctl.ui import keys
from mmctl.ui.app import UiApp, run_ui
from mmctl.ui.dialogs import Ask, Confirm, Help
from mmctl.ui.reading import Reader, View, filter_terms
from mmctl.ui.table import RunTable

Mm = Callable[..., Result]
HOSTILE = "[bold red]x[/] \x1b[31m\x07"


def journal(runs: Path, name: str) -> list[dict[str, Any]]:
    """What was written from outside of training, without the times."""
    (folder,) = runs.glob(f"*-{name}-*")
    path = folder / "journal.0.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in line.items() if key != "t"} for line in lines]


def test_the_table_has_the_words_of_ls(three: Path, mm: Mm) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        assert hands.names() == ["gamma", "beta", "alpha"]
        await hands.press("d")  # closes the pane
        for word in (*mm("ls").out.split("\n")[0].split(), "90.0", "1000/1000", "completed"):
            assert word in hands.screen(), word
        titles = app.table.titles()
        assert titles == [word for word in mm("ls").out.split("\n")[0].split() if word in titles]
        assert {"run", "state", "curve", "test/accuracy"} <= set(titles)

    play(look)


@pytest.mark.slow
def test_a_filter_and_a_wrong_one(three: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("slash")
        await hands.type("mixmatch test/accuracy>0.85")
        assert hands.names() == ["beta"]
        await hands.type("state:complited")
        assert 'Did you mean "completed"?' in hands.message()
        assert hands.names() == ["beta"], "the last good list stays"
        await hands.press("enter")
        assert app.line.display, "it is not left while it is wrong"
        await hands.type('name:"alpha')
        assert "quotes" in hands.message()
        await hands.type("name:alpha")
        await hands.press("enter")
        assert (hands.names(), app.line.display, hands.message()) == (["alpha"], False, "")
        await hands.press("slash")
        await hands.type("gamma")
        await hands.press("escape")
        assert hands.names() == ["alpha"], "Esc takes the new one back"
        await hands.press("escape")
        assert len(hands.names()) == 3
        await hands.press("slash")
        await hands.type("method:nothing")
        assert 'no run has method "nothing"' in hands.screen()

    play(look)
    with pytest.raises(UserError, match="quotes"):
        filter_terms("a 'b")


@pytest.mark.slow
def test_sorting(three: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("o")
        await hands.type("result")
        await hands.press("enter")
        assert hands.names() == ["beta", "alpha", "gamma"]
        await hands.press("O")
        assert hands.names() == ["gamma", "alpha", "beta"]
        await hands.press("o")
        await hands.type("cfg.no.such")
        await hands.press("enter")
        assert any("no run has this setting" in note.message for note in app._notifications)
        assert hands.names() == ["gamma", "alpha", "beta"]

    play(look)


@pytest.mark.slow
def test_a_baseline_and_curves(three: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("down", "b", "d")
        assert app.table.current is not None
        assert app.table.current["name"] == "beta"
        assert all(word in hands.screen() for word in ("diff", "baseline", "-20.0", "-10.0"))
        await hands.press("c")
        assert "#1" not in hands.pane("curves")
        await hands.press("down")
        assert "#2 beta" in hands.pane("curves")
        assert "#1 alpha" in hands.pane("curves"), "the current run, beside the baseline"
        await hands.press("c", "space", "c")
        shown = hands.pane("curves")
        assert "a aa #2 beta" in shown.replace("  ", " ")
        assert "b bb #1 alpha" in shown.replace("  ", " ")
        assert "gamma" not in shown
        await hands.press("v")
        assert hands.pane("curves").count("test/accuracy") > shown.count("test/accuracy")
        await hands.press("y", "x")
        assert "images" in hands.pane("curves")
        await hands.press("m")
        await hands.type("loss")
        await hands.press("enter")
        assert "train/loss" in hands.pane("curves")
        await hands.press("b", "u", "m")
        await hands.type("no such")
        await hands.press("enter", "escape")
        assert app.places() == ["20261125-100000-alpha-s0-0000"]

    play(look)


def test_details_and_logs_follow_the_cursor(three: Path) -> None:
    folder = make_run(three, "20261125-110000-live-s0-0009", name="live", created=T0 + 10_000)
    write(folder, 1, attempt(), state("running"), data())

    async def look(app: UiApp, hands: Driver) -> None:
        assert "live, seed 0: running" in hands.pane("details")
        await hands.press("j")
        assert "gamma, seed 0: completed" in hands.pane("details")
        await hands.press("home", "l")
        logs = app.query_one(RichLog)
        assert "images: 40 labelled" in str(logs.lines)
        write(folder, 1, points(7, train__loss=0.5123))
        app._tick()
        await hands.settle()
        assert "0.5123" in str(logs.lines)
        assert "0.5123" not in str(logs.lines[:-1]), "only what is new is added"
        await hands.press("down")
        assert "0.5123" not in str(logs.lines)

    with Lease(folder):
        play(look)


def test_the_end_of_a_run_is_told(three: Path) -> None:
    folder = make_run(three, "20261125-110000-live-s0-0009", name="live", created=T0 + 10_000)
    write(folder, 1, attempt(), state("running"), data())

    async def look(app: UiApp, hands: Driver) -> None:
        assert "1 running" in hands.screen()
        write(folder, 1, state("completed", 1000))
        app._tick()
        await hands.settle()
        assert any("live-s0-0009: completed at step 1000" in note.message for note in app._notifications)
        assert "1 running" not in hands.screen()

    with Lease(folder):
        play(look)


@pytest.mark.slow
def test_nothing_is_read_again_while_nothing_changes(three: Path, mm: Mm) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        app._tick()  # for what the first reading wrote itself
        await hands.settle()
        before = app.reader.readings
        for _ in range(3):
            app._tick()
            await hands.settle()
        assert app.reader.readings == before
        finished_run(three, "20261125-120000-new-s0-0005", name="new", created=T0 + 50_000)
        app._tick()
        await hands.settle()
        assert app.reader.readings > before
        assert hands.names()[0] == "new"
        assert app.table.current is not None
        assert app.table.current["name"] == "gamma", "the cursor stays with its run"

    play(look)


@pytest.mark.slow
def test_keys_write_what_the_commands_write(three: Path, mm: Mm) -> None:
    mm("ls")

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("end", "t")
        await hands.type("a:b")
        await hands.press("enter")
        assert isinstance(app.screen, Ask), "a wrong tag is said, and the question stays"
        await hands.type("good -draft")
        await hands.press("enter", "asterisk", "asterisk", "a")
        assert hands.names() == ["gamma", "beta"], "archived runs are hidden"
        await hands.press("A", "end", "a", "A")
        assert hands.names() == ["gamma", "beta", "alpha"]

    play(look)
    for command in (
        ["tag", "beta", "good", "--remove", "draft"], ["star", "beta"], ["star", "beta", "--remove"],
        ["archive", "beta"], ["archive", "20261125-100001-beta-s0-0001", "--remove"],
    ):  # fmt: skip
        assert mm(*command).code == 0
    assert journal(three, "alpha") == journal(three, "beta") != []


@pytest.mark.slow
def test_marked_runs_are_acted_on(three: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("M", "space", "asterisk")
        assert [run["starred"] for run in app.table.shown.runs] == [False, True, True]
        await hands.press("u", "asterisk")
        assert [run["starred"] for run in app.table.shown.runs] == [False, False, True]

    play(look)


@pytest.mark.slow
def test_stop_asks_and_signals(three: Path) -> None:
    folder = make_run(three, "20261125-110000-live-s0-0009", name="live", created=T0 + 10_000)
    write(folder, 1, attempt(), state("running"), data())
    code = "import sys, time; from pathlib import Path; from mmctl.run_folder.lease import Lease\n"
    code += "with Lease(Path(sys.argv[1])): print('ready', flush=True); time.sleep(600)"
    process = child(code, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("s")
        assert isinstance(app.screen, Confirm)
        await hands.press("n")
        assert process.poll() is None
        await hands.press("s", "y")
        assert finish(process)[0] == -signal.SIGTERM
        assert "stops after its step" in hands.told()
        await hands.press("end", "s")
        assert not isinstance(app.screen, Confirm)
        assert "not running (completed)" in hands.told()

    play(look)


def test_resume_starts_a_process_that_outlives_the_app(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(three, "20261125-110000-stopped-s0-0009", name="stopped", created=T0 + 10_000)
    write(folder, 1, attempt(), state("interrupted", 5, code=75))
    started: list[Any] = []

    def popen(words: list[str], **how: Any) -> SimpleNamespace:
        how["stdout"].write(b"step 1\nmmctl: the data has changed\n")
        how["stdout"].flush()
        started.append((words, how))
        return SimpleNamespace(pid=77, poll=lambda: 2)

    monkeypatch.setattr(subprocess, "Popen", popen)

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("r")
        ((words, how),) = started
        assert words == [sys.executable, "-m", "mmctl", "resume", str(folder)]
        assert how["start_new_session"]
        assert how["env"]["MMCTL_RUNS"] == str(three)
        assert any("process 77" in note.message for note in app._notifications)
        app._tick()
        await hands.settle()
        assert any("the data has changed" in note.message for note in app._notifications), "why it ended"
        await hands.press("end", "r")
        assert len(started) == 1
        assert any("nothing to continue" in note.message for note in app._notifications)

    play(look)
    assert "step 1" in (folder / "log.txt").read_text()


@pytest.mark.slow
def test_what_can_go_on_is_resumed_once_and_the_others_are_named(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(three, "20261125-110000-stopped-s0-0009", name="stopped", created=T0 + 10_000)
    write(folder, 1, attempt(), state("interrupted", 5, code=75))
    foreign = make_run(three, "20261125-110000-foreign-s0-000a", name="foreign", created=T0 + 20_000)
    write(foreign, 1, attempt(), state("crashed", 5))
    about = json.loads((foreign / "run.json").read_text())
    (foreign / "run.json").write_text(json.dumps(about | {"origin": {"format": "trackio"}}))
    started: list[list[str]] = []
    made = SimpleNamespace(pid=77, poll=lambda: None)
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: started.append(words[4:]) or made)

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("M", "r")
        assert started == [[str(folder)]]
        assert f"{folder.name}: `mmctl resume` started" in hands.told()
        assert f"left as they are, imported from another program: {foreign.name}" in hands.told()
        assert "left as they are, completed: 20261125-100" in hands.told()
        assert "\nleft as they are, " in hands.told()
        await hands.press("r")
        assert len(started) == 1
        assert f"left as they are, resumed already: {folder.name}" in hands.told()

    (resuming,) = play(look).resuming
    resuming.output.close()


def test_several_runs_are_resumed_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    codes = iter([None, 75])
    made = SimpleNamespace(pid=1, poll=lambda: next(codes))
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: made)
    resuming = detached.start_resume(tmp_path, ["a", "b"])
    assert resuming.failure() is None
    assert resuming.failure() == "", "stopped again is no failure"
    assert list(tmp_path.glob("*/*")) == []


def test_help_and_the_document_list_every_key(three: Path) -> None:
    listed = keys.listed(keys.BINDINGS, RunTable.BINDINGS)
    bindings = [*keys.BINDINGS, *RunTable.BINDINGS]
    assert len(listed) == len(bindings)
    assert all(sentence for _, sentence in listed)
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", (REPO / "docs/ui.md").read_text(), re.M)
    assert rows == listed
    used = [key for one in bindings for key in one.key.split(",")]  # type: ignore[union-attr]
    assert len(used) == len(set(used)), "no key has two meanings"
    for one in keys.BINDINGS:
        action = one.action.split("(")[0]  # type: ignore[union-attr]
        assert action.startswith("app.") or hasattr(UiApp, f"action_{action}"), action

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("question_mark")
        assert isinstance(app.screen, Help)
        shown = hands.screen()
        assert "Pin the run as the baseline" in shown
        await hands.press("escape")
        assert not isinstance(app.screen, Help)

    play(look, size=(160, 60))


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("size", [(160, 48), (80, 24), (60, 24), (80, 14)])
def test_every_size_has_room_for_list_and_curves(three: Path, size: tuple[int, int]) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        assert app.side.display == (size[0] >= 120)
        await hands.press("enter")
        assert app.side.display
        assert app.table.display == (size[1] >= 18), "with few lines the pane takes the place of the table"
        side, table = app.side.region, app.table.region
        if size[0] >= 120:
            assert side.y == table.y
        elif app.table.display:
            assert side.y >= table.bottom
        text = hands.pane("curves")
        assert "#3 gamma" in text
        assert max(map(len, text.split("\n"))) <= side.width
        await hands.press("z")
        assert not app.table.display
        await hands.press("z", "escape")
        assert app.table.display
        assert not app.side.display

    play(look, size)


@pytest.mark.slow
def test_the_terminal_is_resized(three: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        assert "20261125" in hands.screen()
        await hands.pilot.resize_terminal(58, 20)
        await hands.pilot.pause()
        await hands.settle()
        assert app.table.titles()[:3] == ["#", "run", "state"]
        assert "accuracy" in app.table.titles()
        assert not app.side.display
        await hands.pilot.resize_terminal(160, 40)
        await hands.pilot.pause()
        await hands.settle()
        assert app.side.display

    play(look)


@pytest.mark.slow
def test_hostile_words_are_shown_as_they_are(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    finished_run(runs, "20261125-100000-evil-s0-0001", name=HOSTILE, method="[/]", tags=["[link=x]"])

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("space", "c")
        assert r"[bold red]x[/] \u001b[31m\u0007" in hands.pane("curves")
        await hands.press("d")
        assert r"[bold red]x[/] \u001b[31m\u0007" in hands.pane("details")
        await hands.press("t")
        await hands.press("escape", "d", "slash")
        await hands.type(HOSTILE)
        assert '"[bold"' in hands.message()
        await hands.press("escape", "asterisk")
        assert "\x1b" not in hands.screen()
        assert "\x07" not in hands.screen()

    play(look)


def test_an_empty_folder_and_the_first_run(tmp_path: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        assert "Start one: mmctl run digits" in hands.screen()
        finished_run(tmp_path / "runs", "20261125-100000-first-s0-0001", name="first")
        app._tick()
        await hands.settle()
        assert hands.names() == ["first"]

    play(look)


@pytest.mark.slow
def test_a_damaged_or_locked_database_is_said(three: Path, mm: Mm) -> None:
    mm("ls")
    path = three / "mmctl.db"
    good = path.read_bytes()

    async def look(app: UiApp, hands: Driver) -> None:
        path.write_bytes(b"no database at all " * 99)
        app._tick()
        await hands.settle()
        assert "not a database of mmctl" in hands.message()
        assert "mmctl db rebuild" in hands.message()
        assert len(hands.names()) == 3, "what was read before stays"
        await hands.press("down", "c", "asterisk")
        path.write_bytes(good)
        await hands.press("R")
        await hands.press("up")
        assert hands.message() == ""
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await hands.press("asterisk")
        assert any("locked" in note.message for note in app._notifications)
        lock.close()

    play(look)


@pytest.mark.slow
def test_a_run_that_is_removed_meanwhile(three: Path, mm: Mm) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("home", "space", "home", "b", "c")
        assert "#3 gamma" in hands.pane("curves")
        await hands.press("l")
        assert mm("rm", "gamma").code == 0
        await hands.press("c")
        app._tick()
        await hands.settle()
        assert hands.names() == ["beta", "alpha"]
        assert app.table.baseline is None
        assert "diff" not in app.table.titles()
        assert "gamma" not in hands.pane("curves")
        assert "#2 beta" in hands.pane("curves"), "the current run"
        await hands.press("c", "d", "l", "R")

    play(look)


@pytest.mark.slow
def test_an_unreadable_run_is_listed(three: Path) -> None:
    (three / "20261125-130000-broken-s0-000b").mkdir()
    (three / "20261125-130000-broken-s0-000b" / "run.json").write_text("{")

    async def look(app: UiApp, hands: Driver) -> None:
        assert "unreadable" in hands.screen()
        assert "mmctl db check" in hands.message()
        await hands.press("home", "end", "d", "d", "c", "l")

    play(look)


def test_without_textual_one_line_says_how_to_get_it(mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)
    result = mm("ui")
    assert result.code == 2
    assert result.err == "mmctl: mmctl ui: needs Textual, which is not installed: pip install 'mmctl[tui]'\n"


def test_without_a_terminal(mm: Mm) -> None:
    result = mm("ui")
    assert result.code == 2
    assert "needs a terminal" in result.err


def test_a_bug_ends_the_app_without_a_traceback(
    three: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Reader, view: View) -> None:
        raise ZeroDivisionError("as a bug would")

    monkeypatch.setattr(Reader, "snapshot", broken)
    plain = UiApp.run
    monkeypatch.setattr(UiApp, "run", lambda self: plain(self, headless=True))
    with pytest.raises(ZeroDivisionError):  # which cli/ tells in one line
        run_ui(three, View())
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_no_key_needs_a_run(tmp_path: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press(*"abcdlmortsuvxyz", "escape", "escape", "space", "asterisk", "enter", "end", "R")
        assert "Start one: mmctl run digits" in hands.screen()

    play(look)


@pytest.mark.slow
def test_ten_thousand_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for n in range(10_000):
        folder = make_run(runs, f"20261125-100000-many-s{n}-{n:04x}", name=f"many{n}", seed=n, created=T0 + n * 1000)
        write(folder, 1, attempt(), state("completed", 1000))
    read: list[int] = []

    async def look(app: UiApp, hands: Driver) -> None:
        while len(app.table.shown.runs) < 10_000:
            await hands.pilot.pause(0.2)
        app._tick()
        await hands.settle()
        lines = app.reader.lines
        app.reader.lines = lambda wanted: (read.append(len(wanted)), lines(wanted))[1]  # type: ignore[assignment]
        await hands.press("end")
        assert app.table.current is not None
        assert app.table.current["name"] == "many0"
        await hands.press("pageup", "home")
        assert read
        assert max(read) <= 40, "only the lines on the screen"
        before = app.reader.readings
        app._tick()
        await hands.settle()
        assert app.reader.readings == before

    play(look)
