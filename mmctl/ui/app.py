"""`mmctl ui`: the app and what each of its keys does, by the name of its action in keys.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmctl.errors import MmctlError
from mmctl.report.equal_compute import X
from mmctl.report.listing_order import SORTABLE
from mmctl.store.rows import RunRow
from mmctl.ui import acts, pages
from mmctl.ui.dialogs import Ask, Confirm, Help, Pick
from mmctl.ui.keys import BINDINGS, listed
from mmctl.ui.live_app import LiveApp
from mmctl.ui.reading import View
from mmctl.ui.reading_app import failure
from mmctl.ui.table import RunTable


class UiApp(LiveApp):
    """All runs of a folder, full screen."""

    BINDINGS = BINDINGS

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(Help(listed(BINDINGS, RunTable.BINDINGS)))

    def action_filter(self) -> None:
        """Open the line of the filter."""
        line = self.line
        self._before = self.view.filter
        line.value = self.view.filter
        line.cursor_position = len(line.value)
        line.display = True
        line.focus()

    def action_close(self) -> None:
        """Leave the filter as it was, close the pane, or show all runs: the first of these that there is to do."""
        if self.line.display:
            self.leave_filter()
            self.start("filter", partial(self.filter, self._before))
        elif self.screen.has_class("-zoom"):
            self.action_zoom()
        elif self.side.display and self.opened is not None:
            self.opened = False if self.opened else None
            self.arrange()
            self.table.focus()
        elif self.view.filter:
            self.start("filter", partial(self.filter, ""))

    def action_pane(self, pane: str) -> None:
        """Show a pane, or close it if it is shown already."""
        shown = bool(self.side.display)
        self.opened = not (shown and self.side.pane == pane)
        if self.opened:
            self.side.choose(pane)
        self.arrange()

    def action_zoom(self) -> None:
        """The pane alone, or with the table."""
        if not self.side.display:
            self.opened = True
        self.screen.toggle_class("-zoom")
        self.arrange()
        self.table.focus()

    def action_mark(self) -> None:
        """Mark the current run or take its mark away, and go to the next one."""
        if (run := self.table.current) is not None:
            uid = run["uid"]
            self.marked = [one for one in self.marked if one != uid] + ([] if uid in self.marked else [uid])
            self.table.action_move(1)
            self._marks_changed()

    def action_mark_all(self) -> None:
        """Mark all runs that the filter shows."""
        self.marked = list(dict.fromkeys([*self.marked, *(run["uid"] for run in self.table.shown.runs)]))
        self._marks_changed()

    def action_unmark(self) -> None:
        """Unmark all runs."""
        self.marked = []
        self._marks_changed()

    def action_baseline(self) -> None:
        """Pin the current run as the baseline, or let it go."""
        if (run := self.table.current) is not None:
            self.table.baseline = None if self.table.baseline == run["uid"] else run["uid"]
            self._marks_changed()

    def action_sort(self) -> None:
        """Ask for an order."""
        entries = ["age (newest first)", *(name for name in SORTABLE if name != "age")]
        self.push_screen(Pick("Sort by a column, or type a metric or cfg.TABLE.KEY", entries, free=True), self._sort)

    def _sort(self, picked: str | None) -> None:
        if picked is not None:
            order = "" if picked.startswith("age (") else picked
            self.change(lambda view: view.ordered(order))

    def action_reverse(self) -> None:
        """The other way round."""
        self.change(lambda view: replace(view, reverse=not view.reverse))

    def action_archived(self) -> None:
        """Show archived runs too, or hide them."""
        self.change(lambda view: replace(view, archived=not view.archived))

    def action_metric(self) -> None:
        """Ask for a metric of the curves."""
        if uids := self.drawn():
            self.start("metric", partial(self._ask_metric, uids))

    async def _ask_metric(self, uids: list[str]) -> None:
        if names := await self.attempt("pane", pages.metric_names, self.reader, uids):
            self.push_screen(Pick("Curves of which metric?", names), self._metric)

    def _metric(self, picked: str | None) -> None:
        if picked is not None:
            self._curves(metric=picked)

    def action_apart(self) -> None:
        """Curves over each other, or beside each other."""
        self._curves(apart=not self.curves.apart)

    def action_axis(self) -> None:
        """Curves over the next of steps, images and seconds."""
        self._curves(axis=X[(X.index(self.curves.axis) + 1) % len(X)])

    def action_log(self) -> None:
        """A logarithmic axis, or a linear one."""
        self._curves(log=not self.curves.log)

    def action_tag(self) -> None:
        """Ask for tags, then add and remove them."""
        if runs := self.targets():

            def tag(text: str | None) -> None:
                if text is not None:
                    self._act(acts.tag_runs, runs, acts.parse_tags(text))

            self.push_screen(Ask(f"Tags of {acts.named(runs)} (-TAG removes one):", acts.parse_tags), tag)

    def action_star(self) -> None:
        """Give a star or take it away."""
        self._act(acts.toggle_star, self.targets())

    def action_archive(self) -> None:
        """Archive runs, or bring them back."""
        self._act(acts.toggle_archived, self.targets())

    def action_stop(self) -> None:
        """Ask, then stop runs."""
        if not self.targets():
            return
        try:
            runs = acts.running(self.targets())
        except MmctlError as error:
            self.tell(str(error), wrong=True)
            return

        def stop(yes: bool | None) -> None:
            if yes:
                self._act(acts.stop_runs, runs)

        self.push_screen(Confirm(f"Stop {acts.named(runs)}? A checkpoint is saved first; r continues."), stop)

    def action_resume(self) -> None:
        """Continue runs in another process."""
        self._act(acts.resume_runs, self.targets(), self.resuming)

    def action_refresh(self) -> None:
        """Look into all run folders again."""
        self.start("look", partial(self.refresh_runs, force=True))

    def _act(self, work: Callable[..., str], runs: list[RunRow], *given: object) -> None:
        """Do something to runs as they are when its turn comes, say what, and show them as they are then."""
        uids = [run["uid"] for run in runs]

        async def act() -> None:
            try:  # shielded: a person who quits now still gets what was asked for
                said = await asyncio.shield(self.read(lambda: work(self.reader, self.reader.there(uids), *given)))
                self.tell(said)
            except (MmctlError, OSError) as error:
                self.tell(failure(error), wrong=True)
            await self.show()
            self.update_pane()

        if runs:
            self.start("act", act, exclusive=False)

    def _curves(self, **changed: object) -> None:
        """Show the curves in another way."""
        self.curves = replace(self.curves, **changed)  # type: ignore[arg-type]
        if self.side.pane != "curves" or not self.side.display:
            self.side.choose("curves")
            self.opened = True
            self.arrange()
        self.update_pane()

    def _marks_changed(self) -> None:
        self.mark_places()
        self.show_head(self.table.shown)
        self.on_run_table_scrolled()
        if self.side.pane == "curves":
            self.update_pane()


def run_ui(runs_dir: Path, view: View) -> int:
    """Show the runs of a folder until the person quits; returns the exit code."""
    app = UiApp(runs_dir, view)
    app.run()
    if app.fault is not None:
        raise app.fault
    return app.return_code or 0
