"""The keys of `mmctl ui`, with a sentence for each: what the footer, the help and docs/ui.md show."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import Binding, BindingType
from textual.keys import format_key

BINDINGS: list[BindingType] = [
    Binding("question_mark", "help", "Help", tooltip="All keys."),
    Binding("slash", "filter", "Filter", tooltip="Filter the runs, with the words of `mmctl ls`; Esc takes it back."),
    Binding("o", "sort", "Sort", show=False, tooltip="Sort by a column, a metric or a setting."),
    Binding("O", "reverse", "Reverse", show=False, tooltip="The other way round."),
    Binding("A", "archived", "Archived", show=False, tooltip="Show archived runs too, or hide them."),
    Binding("space", "mark", "Mark", tooltip="Mark the run, for curves and for the keys that act on runs."),
    Binding("M", "mark_all", "Mark all", show=False, tooltip="Mark all runs that the filter shows."),
    Binding("u", "unmark", "Unmark all", show=False, tooltip="Unmark all runs."),
    Binding("b", "baseline", "Baseline", tooltip="Pin the run as the baseline, or let it go: a column shows the "
            "difference of each result to it, and its curve stays in the plots."),
    Binding("d", "pane('details')", "Details", tooltip="Details of the run."),
    Binding("enter,c", "pane('curves')", "Curves", tooltip="Curves of the marked runs, or of this one."),
    Binding("l", "pane('logs')", "Logs", tooltip="What happens in the run; follows it."),
    Binding("escape", "close", "Close", show=False, tooltip="Close the pane, or take the filter away."),
    Binding("z", "zoom", "Zoom", show=False, tooltip="The pane alone, or the table and the pane."),
    Binding("tab", "app.focus_next", "Next", show=False, tooltip="Go to the pane and back, to scroll it."),
    Binding("m", "metric", "Metric", show=False, tooltip="Curves of another metric."),
    Binding("v", "apart", "Beside", show=False, tooltip="Curves over each other, or beside each other."),
    Binding("x", "axis", "X axis", show=False, tooltip="Curves over steps, images or seconds."),
    Binding("y", "log", "Log axis", show=False, tooltip="A logarithmic axis for the values, or a linear one."),
    Binding("s", "stop", "Stop", tooltip="Stop the runs; asks first. They save a checkpoint."),
    Binding("r", "resume", "Resume", tooltip="Continue the runs, in a process that outlives this one."),
    Binding("t", "tag", "Tag", tooltip="Add tags; -TAG removes one."),
    Binding("a", "archive", "Archive", show=False, tooltip="Archive the runs, or bring them back."),
    Binding("asterisk", "star", "Star", show=False, tooltip="Give the runs a star, or take it away."),
    Binding("R", "refresh", "Refresh", show=False, tooltip="Look into all run folders again."),
    Binding("q", "quit", "Quit", tooltip="Quit. Runs that train go on."),
    Binding("ctrl+c,ctrl+q", "quit", "Quit", show=False, tooltip="The same, also while you type."),
]  # fmt: skip
NAMES = {
    "question_mark": "?", "slash": "/", "asterisk": "*", "escape": "Esc", "enter": "Enter", "space": "Space",
    "tab": "Tab", "up": "Up", "down": "Down", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End",
    "ctrl+c": "Ctrl-C", "ctrl+q": "Ctrl-Q",
}  # fmt: skip


def key_name(key: str) -> str:
    """A key as it is printed on a keyboard."""
    return NAMES.get(key) or format_key(key)


def listed(*groups: Iterable[BindingType]) -> list[tuple[str, str]]:
    """All keys of some bindings, and what they do."""
    bindings = [one for group in groups for one in group if isinstance(one, Binding)]
    return [(" ".join(map(key_name, one.key.split(","))), one.tooltip) for one in bindings]
