"""`mmctl ui` while its reading thread works: keys are answered, nothing is lost and nothing comes too late."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import RichLog

from helpers.fake_runs import T0, attempt, data, make_run, points, state, write
from helpers.ui_driver import Driver, play
from mmctl.run_folder.lease import Lease
from mmctl.ui import acts, live_app
from mmctl.ui.app import UiApp
from mmctl.ui.logs import Follower
from mmctl.ui.reading import Reader, View

ENOUGH = 30.0
"""Seconds after which something has hung."""


class Gate:
    """Work of the reading thread that waits, once it is done, until the gate is open."""

    def __init__(self) -> None:
        self.arrived, self.open = threading.Event(), threading.Event()
        self.open.set()

    def before(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def held(*given: Any) -> Any:
            answer = work(*given)
            self.arrived.set()
            assert self.open.wait(ENOUGH)
            return answer

        return held

    def close(self) -> None:
        self.arrived.clear()
        self.open.clear()

    async def wait(self, hands: Driver) -> None:
        """Until the thread stands before the gate."""
        while not self.arrived.is_set():
            await hands.pilot.pause(0.01)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_keys_are_answered_during_a_long_reading(three: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr(Reader, "refresh", gate.before(Reader.refresh))

    async def look(app: UiApp, hands: Driver) -> None:
        async def keys() -> None:
            await hands.pilot.press("R")
            await gate.wait(hands)
            for key in ("O", "A", "asterisk", "r", "m", "escape", "b", "q"):
                await hands.pilot.press(key)
            while not app._exit:
                await asyncio.sleep(0.01)

        gate.close()
        try:
            await asyncio.wait_for(keys(), ENOUGH / 3)
        finally:
            gate.open.set()

    play(look)
    (written,) = three.glob("*/journal.0.jsonl")
    assert json.loads(written.read_text())["star"] is True, "the star is given although the person has quit"


@pytest.mark.slow
def test_keys_pressed_meanwhile_are_all_done(three: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr(Reader, "snapshot", gate.before(Reader.snapshot))

    async def look(app: UiApp, hands: Driver) -> None:
        gate.close()
        for key in ("O", "A", "O", "A", "A", "asterisk", "asterisk"):
            await hands.pilot.press(key)
        gate.open.set()
        await hands.settle()
        assert (app.view.reverse, app.view.archived) == (False, True)
        assert [run["starred"] for run in app.table.shown.runs] == [False, False, False]

    play(look)


@pytest.mark.slow
def test_an_order_that_cannot_be_shown_is_taken_back(three: Path) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("o")
        await hands.type("-result")
        await hands.press("enter")
        assert hands.names() == ["gamma", "alpha", "beta"], "the smallest at the top, as after ls --sort=-result"
        await hands.press("O")
        assert hands.names() == ["beta", "alpha", "gamma"]
        app.view = View(sort="cfg.no.such")
        await hands.press("O")
        assert app.view.reverse is False
        assert "no run has this setting" in hands.told()

    play(look)
    assert View().ordered("-result") == View(sort="result", reverse=True)
    assert View(sort="name", reverse=True).ordered("") == View()


@pytest.mark.slow
def test_esc_takes_back_what_was_typed_just_before(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(app: UiApp, hands: Driver) -> None:
        monkeypatch.setattr(live_app, "PAUSE", 0.08)
        await hands.press("slash")
        app.line.value = "name:gamma"
        await hands.pilot.pause(0)
        app.simulate_key("escape")
        await hands.settle()
        assert (app.view.filter, len(hands.names()), app.line.display) == ("", 3, False)
        await hands.press("slash")
        app.line.value = "name:gamma"  # said after Esc, which comes first
        await app.run_action("close")
        await hands.settle()
        assert (app.view.filter, len(hands.names())) == ("", 3)
        await hands.press("slash")
        app.line.value = "name:gamma"
        await hands.press("enter")
        assert (app.view.filter, hands.names(), app.line.display) == ("name:gamma", ["gamma"], False)

    play(look)


def test_no_line_of_a_log_is_lost_or_shown_of_another_run(
    three: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    folder = make_run(three, "20261125-110000-live-s0-0009", name="live", created=T0 + 10_000)
    write(folder, 1, attempt(), state("running"), data())
    monkeypatch.setattr(Follower, "read", gate.before(Follower.read))
    monkeypatch.setattr(live_app, "EVERY", 1e6)

    async def look(app: UiApp, hands: Driver) -> None:
        def logs() -> str:
            return "\n".join(line.text for line in app.query_one(RichLog).lines)

        async def cancelled(begin: Callable[[], object]) -> None:
            gate.close()
            begin()
            await gate.wait(hands)
            app.update_pane()  # as a resize or a key of the cursor does
            await hands.pilot.pause(0)
            gate.open.set()
            await hands.settle()

        await hands.press("home", "l")
        assert "40 labelled" in logs()
        write(folder, 1, points(7, train__loss=0.5123))
        await cancelled(app._tick)
        assert logs().count("0.5123") == logs().count("40 labelled") == 1
        await cancelled(lambda: app.table.go(1))
        assert "0.5123" not in logs(), "of the run above"
        assert "completed at step 1000" in logs()

    with Lease(folder):
        play(look)


def test_the_end_of_a_run_that_dies_while_it_is_watched(three: Path) -> None:
    folder = make_run(three, "20261125-110000-live-s0-0009", name="live", created=T0 + 10_000)
    write(folder, 1, attempt(), state("running"), data())
    (folder / "log.txt").write_text("step 1\nCUDA error: the last word\n")

    async def look(app: UiApp, hands: Driver) -> None:
        await hands.press("home", "l")
        assert "the last word" not in str(app.query_one(RichLog).lines)
        write(folder, 1, state("failed", 7, "out of memory", 3))
        for _ in range(2):
            app._tick()
            await hands.settle()
        assert str(app.query_one(RichLog).lines).count("the last word") == 1

    with Lease(folder):
        play(look)
    follower = Follower(folder)
    follower.read("running", None)
    assert follower.read("crashed", "its process is gone")[0] == "crashed: its process is gone"
    assert follower.read("crashed", "its process is gone") == []


def test_an_error_of_the_system_is_said(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object) -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(acts, "annotate", refused)
    monkeypatch.setattr(acts, "imported", refused)

    async def look(app: UiApp, hands: Driver) -> None:
        for key in ("asterisk", "r"):
            app.clear_notifications()
            await hands.press(key)
            assert "Operation not permitted" in hands.told()

    assert play(look).fault is None
