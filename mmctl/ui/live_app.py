"""`mmctl ui` without its keys: what it shows, and when it reads it again."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Footer, Input, Static

from mmctl.report.listing_columns import SHORT, SHORTER
from mmctl.runs.detached import Resuming
from mmctl.store.rows import RunRow
from mmctl.text import printable
from mmctl.ui import pages, style
from mmctl.ui.logs import Follower
from mmctl.ui.reading import Change, Snapshot, View
from mmctl.ui.reading_app import ReadingApp
from mmctl.ui.side import Side
from mmctl.ui.table import RunTable

EVERY = 1.0
"""Seconds between two looks whether anything has changed."""
AGES = 30.0
"""Seconds between two drawings of what only the clock changes."""
PAUSE = 0.08
"""Seconds after the last of several keys before something is read for them."""


class LiveApp(ReadingApp):
    """All runs of a folder, full screen."""

    CSS = style.CSS
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (style.WIDE, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (style.TALL, "-tall")]

    def __init__(self, runs_dir: Path, view: View) -> None:
        super().__init__(runs_dir)
        self.view = view
        self.curves = pages.Curves([])
        self.marked: list[str] = []  # ids of runs, in the order of their letters
        self.resuming: list[Resuming] = []
        self._before = ""  # the filter, while another one is typed
        self.opened: bool | None = None  # the pane: by a person, or None: where the terminal is wide
        self.head = Static(id="head", markup=False)
        self.line = Input(id="filter", compact=True, placeholder=style.PLACEHOLDER, select_on_focus=False)
        self.table, self.side = RunTable(id="table"), Side(id="side")
        self._follower: Follower | None = None
        self._following = False
        self._refreshing, self._changing = asyncio.Lock(), asyncio.Lock()

    def compose(self) -> ComposeResult:
        """The widgets, from top to bottom."""
        yield self.head
        yield self.line
        yield self.message
        yield Container(self.table, self.side, id="body")
        yield Footer(show_command_palette=False, compact=True)

    async def on_mount(self) -> None:
        """Begin to read."""
        self.animation_level = "none"
        self.table.focus()
        self.show_head(Snapshot())
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, partial(self.exit, return_code=128 + number))
        self.start("begin", self._begin)

    async def _begin(self) -> None:
        await self.attempt("index", self.reader.first)
        await self.show()
        await self.refresh_runs(force=True)
        self.set_interval(EVERY, self._tick)
        self.set_interval(AGES, lambda: self.table.redraw())

    def _tick(self) -> None:
        for one in list(self.resuming):
            if (failure := one.failure()) is not None:
                self.resuming.remove(one)
                if failure:
                    self.tell(f"resume of {', '.join(one.uids)}: {failure}", wrong=True)
        if not self._refreshing.locked():
            self.start("refresh", self.refresh_runs)
        if self.side.display and self.side.pane == "logs" and not self._following:
            self.start("pane", self._follow)

    async def refresh_runs(self, force: bool = False) -> None:
        """Read what has changed and show it; force: look into all folders."""
        async with self._refreshing:
            changes = await self.attempt("index", self.reader.refresh, force, self.progress)
        self.say("heard", "")
        for change in changes or ():
            self._tell_end(change)
        if changes is not None:
            await self.show()
            self.update_pane()

    async def show(self) -> bool:
        """Show what the view asks for; what was there stays if its filter or order is wrong."""
        shown = await self.attempt("filter", self.reader.snapshot, self.view)
        if shown is None:
            return False
        self.mark_places()
        kept = {self.table.baseline, *(run["uid"] for run in shown.runs)}
        self.table.lines = {uid: line for uid, line in self.table.lines.items() if uid in kept}
        self.say("unreadable", f"{shown.unreadable} runs cannot be read: mmctl db check" if shown.unreadable else "")
        self.show_head(shown)
        self.table.show(shown)
        return True

    def change(self, view: Callable[[View], View]) -> None:
        """Show the runs in another order or choice; as before if that cannot be shown."""
        self.start("change", partial(self._change, view), exclusive=False)

    async def _change(self, view: Callable[[View], View]) -> None:
        async with self._changing:  # each key changes what the one before it has left
            before, self.view = self.view, view(self.view)
            if await self.show():
                return
            self.tell(self.said.get("filter", ""), wrong=True)
            self.view = replace(before, filter=self.view.filter, width=self.view.width)
            await self.show()

    def places(self) -> list[str]:
        """The baseline and the marked runs; the place of each says which colour and letter it has."""
        base = self.table.baseline
        return [*([base] if base else []), *(uid for uid in self.marked if uid != base)]

    def drawn(self) -> list[str]:
        """The runs whose curves are shown: the baseline and the marked ones, or without marks the current one."""
        uids, run = self.places(), self.table.current
        return uids if self.marked or run is None or run["uid"] in uids else [*uids, run["uid"]]

    def mark_places(self) -> None:
        """Show in the table which runs are marked; those that are gone are let go."""
        known = {run["uid"] for run in self.reader.runs}
        self.marked = [uid for uid in self.marked if uid in known]
        if self.table.baseline not in known:
            self.table.baseline = None
        self.table.places = {uid: n for n, uid in enumerate(self.places())}
        self.table.redraw()

    def targets(self) -> list[RunRow]:
        """The runs that a key acts on: the marked ones, else the current one."""
        run = self.table.current
        return self.reader.chosen(self.marked) or ([run] if run else [])

    def leave_filter(self) -> None:
        """Go from the line of the filter to the table."""
        self.line.display = False
        self.table.focus()

    def show_head(self, shown: Snapshot) -> None:
        """The line at the top: where, how many, which."""
        parts = [f"mmctl  {self.reader.runs_dir}", f"{len(shown.runs)} of {shown.total} runs"]
        parts += [f"{n} {word}" for n, word in ((shown.running, "running"), (shown.queued, "queued")) if n]
        parts += [f"filter {self.view.filter}"] if self.view.filter else []
        parts += ["archived too"] if self.view.archived else []
        order = self.view.sort or ("age" if self.view.reverse else "")
        parts += [f"by {order}{', reversed' if self.view.reverse and self.view.sort else ''}"] if order else []
        parts += [f"{len(self.marked)} marked"] if self.marked else []
        line = Text(printable("   ".join(parts)), no_wrap=True, overflow="ellipsis")
        self.head.update(line)

    def on_run_table_scrolled(self) -> None:
        """Read the lines that came into view."""
        self.start("lines", self._fill)

    def on_run_table_moved(self) -> None:
        """Show the pane of another run."""
        self.update_pane()

    async def _fill(self) -> None:
        wanted = [run["uid"] for run in self.table.on_screen()]
        wanted += [self.table.baseline] if self.table.baseline else []
        lines = await self.attempt("lines", lambda: self.reader.lines(self.reader.chosen(wanted)))
        if lines is not None:
            self.table.fill(lines)

    def update_pane(self) -> None:
        """Show in the pane what belongs to the current run, in a moment."""
        if self.side.display:
            self.start("pane", self._fill_pane)

    async def _fill_pane(self) -> None:
        await asyncio.sleep(PAUSE)
        run = self.table.current
        if run is None:
            self.side.say("")
            self.side.text(Text(""))
        elif self.side.pane == "logs":
            await self._follow()
        elif self.side.pane == "details":
            self.side.say(run["uid"])
            width, _ = self.side.room()
            text = await self.attempt("pane", pages.details, self.reader, run["uid"], width)
            self.side.text(text or Text(""))
        else:
            asked = replace(self.curves, uids=self.drawn())
            self.side.say("  ".join(filter(None, [asked.metric, "log" if asked.log else ""])))
            text = await self.attempt("pane", pages.curves, self.reader, asked, *self.side.room())
            self.side.text(text or Text(""))

    async def _follow(self) -> None:
        if (run := self.table.current) is None:
            return
        folder = self.reader.runs_dir / run["uid"]
        follower, self._follower = self._follower, None  # whoever comes while this waits reads all of it again
        if fresh := follower is None or follower.folder != folder:
            follower = Follower(folder)
        self.side.say(f"{run['uid']}  {run['state']}")
        self._following = True
        try:
            lines = await self.attempt("pane", follower.read, run["state"], run["reason"])
        finally:
            self._following = False
        self._follower = follower if lines is not None else None
        if fresh or lines:
            self.side.log_lines(lines or [], fresh)

    def on_resize(self) -> None:
        """Show or hide the pane, once the size is known."""
        self.call_later(self.arrange)

    def arrange(self) -> None:
        """Show or hide the pane: as a person wants it, else where the terminal is wide."""
        wanted = self.opened if self.opened is not None else self.size.width >= style.WIDE
        self.screen_stack[0].set_class(wanted, "-open")
        self.call_after_refresh(self.update_pane)

    def on_side_sized(self) -> None:
        """Lay the pane out for its size."""
        self.update_pane()

    def on_run_table_sized(self) -> None:
        """Show the columns for the table's width."""
        width = self.table.width
        band = next((top for top in (SHORTER, SHORT) if width < top), SHORT + 1) - 1
        if width and band != self.view.width:
            self.view = replace(self.view, width=band)
            self.start("width", self.show)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the filter is typed."""
        if event.input.id == "filter" and self.line.display:  # not what was typed just before Esc
            self.start("filter", partial(self.filter, event.value, PAUSE))

    async def filter(self, text: str, pause: float = 0.0, leave: bool = False) -> None:
        """Show the runs of another filter; leave: then go to the table, unless it is wrong."""
        await asyncio.sleep(pause)
        self.view = replace(self.view, filter=text)
        if await self.show() and leave:
            self.leave_filter()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Leave the filter if it is right."""
        if event.input.id == "filter":
            self.start("filter", partial(self.filter, event.value, leave=True))

    def _tell_end(self, change: Change) -> None:
        run = change.run
        why = f": {run['reason']}" if run["reason"] else ""
        self.tell(f"{run['uid']}: {run['state']} at step {run['step']}{why}", wrong=run["state"] != "completed")
