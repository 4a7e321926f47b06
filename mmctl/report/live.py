"""What `mmctl watch` shows of runs that train: read from their folders and the index, laid out for one screen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from mmctl.report import summaries
from mmctl.report.charts import Line, LineChart
from mmctl.report.console import Column, column, figure, file_size, on_paper, print_line, print_table, spark, unicode
from mmctl.report.listing_columns import shown_state
from mmctl.report.results import ListingRow
from mmctl.report.terminal_plot import print_chart
from mmctl.run_folder import lease
from mmctl.run_folder.values import whole
from mmctl.store.metrics import is_share, short_name
from mmctl.store.read_curves import Curve, read_curves
from mmctl.store.rows import RunRow
from mmctl.store.store import Store
from mmctl.text import duration, printable

LIVE = ("queued", "running")
LOSS, PSEUDO = "train/loss", "train/guess_accuracy"
BAR = 10
POINTS = 200
PLOTTED = 22
"""With one run and so many lines, its curve is shown too."""
SAID = 6
"""So many of the last messages are shown."""


@dataclass(frozen=True)
class Watched:
    """A run at this moment."""

    row: ListingRow
    loss: float | None
    pseudo: float | None  # accuracy of the pseudo-labels
    last: float | None  # the newest value of the primary metric
    curve: Curve
    memory: int | None
    gpu_memory: int | None

    @property
    def live(self) -> bool:
        """Whether it trains or waits for its turn."""
        return self.row["state"] in LIVE


def read_watched(store: Store, runs: Sequence[RunRow]) -> list[Watched]:
    """How runs are now."""
    names = {LOSS, PSEUDO} | {run["primary_metric"] for run in runs}
    found = store.summaries(sorted(names), runs)
    curves = read_curves(store, runs, {run["primary_metric"] for run in runs}, POINTS, apart=True)
    made = []
    for run, row in zip(runs, summaries.listing(store, runs), strict=True):
        ends = [found.get((run["id"], name)) for name in (LOSS, PSEUDO, run["primary_metric"])]
        loss, pseudo, last = (math.nan if end and end["last"] is None else end and end["last"] for end in ends)
        beat = lease.read(store.runs_dir / run["uid"]) if run["state"] == "running" else None
        sizes = [whole((beat or {}).get(key)) for key in ("memory", "gpu_memory")]
        curve = curves.get((run["id"], run["primary_metric"]), [])
        made.append(Watched(row, loss, pseudo, last, curve, *sizes))
    return made


@dataclass
class Messages:
    """What happened to the runs that are watched, in words, with the time of day."""

    states: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def compare(self, runs: Sequence[Watched]) -> list[str]:
        """Note what has changed since the last call; returns the new lines."""
        new = []
        for one in runs:
            row = one.row
            uid, state = row["uid"], "silent" if row["silent"] else row["state"]
            before = self.states.get(uid)
            self.states[uid] = state
            if before not in (None, state):
                new.append(f"{time.strftime('%H:%M:%S')}  {printable(uid)}: {_happened(one, state)}")
        self.lines += new
        return new


def _happened(one: Watched, state: str) -> str:
    row = one.row
    if state == "silent":
        return f"no heartbeat from {printable(row['host'])} for {duration(row['silent'] or 0)}; it may have died there"
    if state == "running":
        return f"started, attempt {row['attempt']}"
    if state == "completed":
        value = figure(one.last, row["metric"]) + (" %" if is_share(row["metric"]) else "")
        return f"completed, {short_name(row['metric'])} {value}"
    why = f": {printable(row['reason'])}" if row["reason"] else ""
    remedy = ""
    if state in ("crashed", "interrupted"):
        remedy = f". Continue: mmctl resume {printable(row['uid'])}"
    elif state == "failed":
        remedy = f". See: mmctl logs {printable(row['uid'])}"
    return f"{'died' if state in ('crashed', 'failed') else 'ended'}, {printable(state)}{why}{remedy}"


def frame(runs: Sequence[Watched], said: Sequence[str], note: str, out: Console, hint: str) -> list[str]:
    """The lines of one screen, at most as many as it has; `out` says how wide, high and colourful it is."""
    counts: dict[str, int] = {}
    for one in runs:
        counts[shown_state(one.row)] = counts.get(shown_state(one.row), 0) + 1
    whole_line = ", ".join(f"{n} {state}" for state, n in counts.items()) or "no runs"
    head = [f"{time.strftime('%H:%M:%S')}  {whole_line}  {hint}", *([note] if note else [])]
    tail = ["", *said[-SAID:]] if said else []
    ordered = sorted(runs, key=lambda one: (one.row["state"] != "running", one.row["state"] == "queued"))
    room = max(1, out.height - len(head) - len(tail) - 3)
    pen, paper = on_paper(out)
    for text in head:
        pen.print(printable(text), no_wrap=True, overflow="ellipsis")
    print_table(_columns(ordered[:room], pen), pen, name_hidden=False)
    if len(ordered) > room:
        print_line(pen, f"... and {len(ordered) - room} more", "dim")
    if len(runs) == 1 and out.height >= PLOTTED and len(runs[0].curve) > 1:
        _print_curve(runs[0], pen, out.height - len(head) - len(tail) - 5)
    for text in tail:
        pen.print(text, no_wrap=True, overflow="ellipsis")
    return paper.getvalue().splitlines()[: out.height]


def _print_curve(one: Watched, out: Console, room: int) -> None:
    name = one.row["metric"]
    share = is_share(name)
    line = Line(f"{one.row['name']}, seed {one.row['seed']}", [(float(step), y) for step, y in one.curve])
    unit = ", %" if share else ""
    print_chart(LineChart(short_name(name), [line], "steps", short_name(name) + unit, share), out, room)


def _columns(runs: Sequence[Watched], out: Console) -> list[Column]:
    metrics = {short_name(one.row["metric"]) for one in runs}
    title = metrics.pop() if len(metrics) == 1 else "primary"
    return [
        column("#", runs, lambda one: str(one.row["number"]), 12, right=True),
        column("run", runs, lambda one: f"{printable(one.row['name'])} s{one.row['seed']}"),
        column("state", runs, lambda one: shown_state(one.row), 1),
        column("progress", runs, lambda one: _bar(one.row, out), 7),
        column("step", runs, lambda one: f"{one.row['step']}/{one.row['total_steps'] or '?'}", 2, right=True),
        column("steps/s", runs, lambda one: f"{one.row['rate']:.3g}" if one.row["rate"] else "", 5, right=True),
        column("left", runs, lambda one: "" if one.row["eta"] is None else duration(one.row["eta"]), 3, right=True),
        column("loss", runs, lambda one: figure(one.loss, LOSS), 6, right=True),
        column(title, runs, lambda one: figure(one.last, one.row["metric"]), 4, right=True),
        column("curve", runs, lambda one: spark([y for _, y in one.curve], out, 12), 9),
        column("pseudo-labels", runs, lambda one: figure(one.pseudo, PSEUDO), 10, right=True),
        column("memory", runs, lambda one: file_size(one.memory) if one.memory else "", 8, right=True),
        column("GPU memory", runs, lambda one: file_size(one.gpu_memory) if one.gpu_memory else "", 8, right=True),
    ]


def _bar(row: ListingRow, out: Console) -> str:
    total = row["total_steps"] or 0
    done = round(BAR * min(row["step"], total) / total) if total > 0 else 0
    full, empty = ("\u2588", "\u2591") if unicode(out) else ("#", ".")
    return full * done + empty * (BAR - done) if row["state"] in (*LIVE, "interrupted", "crashed") else ""


def plain_line(one: Watched) -> str:
    """A run in one line, for a log."""
    row = one.row
    parts = [
        f"{time.strftime('%H:%M:%S')}  {printable(row['uid'])}: {shown_state(row)}",
        f"step {row['step']}/{row['total_steps'] or '?'}",
        f"{row['rate']:.3g} steps/s" if row["rate"] else "",
        f"{duration(row['eta'])} left" if row["eta"] is not None else "",
        f"loss {one.loss:.4g}" if one.loss is not None else "",
        f"{short_name(row['metric'])} {figure(one.last, row['metric'])}" if one.last is not None else "",
        f"memory {file_size(one.memory)}" if one.memory else "",
        f"GPU memory {file_size(one.gpu_memory)}" if one.gpu_memory else "",
    ]
    return "  ".join(part for part in parts if part)
