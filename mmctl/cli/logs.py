"""`mmctl logs` tells what happened in a run, and follows one that trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Json, Run, whole
from mmctl.cli.runs import find, open_store

if TYPE_CHECKING:
    from mmctl.report.log_lines import JournalReader

PAUSE = 0.5
SILENT = 60
"""Seconds without a heartbeat from another machine after which that is said."""


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(logs)


def logs(
    run: Run,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until the run ends, or until Ctrl-C."),
    last: int = typer.Option(None, "--last", "-n", parser=whole, metavar="N", help="Only the last N lines."),
    output: bool = typer.Option(
        False, "--output", "-o", help="What the process printed instead, if it ran without a terminal."
    ),
    everything: bool = typer.Option(False, "--all", help="Print all training metrics, not only the main ones."),
    as_json: Json = False,
) -> None:
    """Print what happened in a run.

    Prints its attempts, training metrics, evaluations, checkpoints, warnings, notes and its end, from its journals. Of
    a run that died, prints the last lines of its output too.

    \b
    Examples:
      mmctl logs @last
      mmctl logs 3 --follow
      mmctl logs @last-failed --output
    """
    from mmctl.errors import UserError
    from mmctl.report import log_lines
    from mmctl.report.json_output import print_json

    if as_json and (follow or output):
        raise UserError("--json prints one object at the end: leave out --follow and --output.")
    with open_store() as store:
        found = find(store, run)
        folder = store.runs_dir / found["uid"]
    printed = log_lines.output_file(folder)
    reader = log_lines.JournalReader(folder, everything)
    events = reader.read()
    if as_json:
        print_json({"uid": found["uid"], "events": [{"attempt": one.attempt, **one.raw} for one in events]})
        return
    if not output:
        texts = [one.text for one in events if one.text]
        _print(texts if last is None else texts[-last:] if last else [])
        if follow:
            _follow(folder, reader, lambda: [one.text for one in reader.read() if one.text])
            return
        if found["state"] == "crashed":
            _print([f"crashed: {found['reason']}"])
        if printed is not None and found["state"] in ("failed", "crashed"):
            _print(["", f"The last lines of {printed}:"])
            _print(f"  {line}" for line in log_lines.OutputReader(printed).read(log_lines.TAIL))
        return
    if printed is None:
        raise UserError(f"{found['uid']}: has no file with its output: no launcher started it. See: mmctl logs {run}")
    lines = log_lines.OutputReader(printed)
    _print(lines.read(last))
    if follow:

        def news() -> list[str]:
            reader.read()  # which says whether the run has ended
            return lines.read()

        _follow(folder, reader, news)


def _print(lines: Iterable[str]) -> None:
    from mmctl.runs.progress import tell

    for line in lines:
        tell(line, out=True)


def _follow(folder: Path, reader: JournalReader, news: Callable[[], list[str]]) -> None:
    """Print what is new until the run has ended or its process is gone."""
    from mmctl.run_folder import lease

    moved, beat, told = time.monotonic(), None, False
    while True:
        lives = lease.holder(folder) is not None
        # After that question: a run writes its last event before it gives its lease back.
        _print(news())
        left = lease.read(folder)
        if not lives and reader.state not in ("running", "queued"):
            return
        if not lives and left is not None:
            at = left.get("step")
            step = max(reader.step, at if isinstance(at, int) else 0)
            if left.get("boot") == lease.boot():
                _print([f"crashed: process gone at step {step}"])
                return
            if left.get("host") == lease.host():
                _print([f"crashed: machine restarted at step {step}"])
                return
            if left.get("beat") != beat:
                moved, beat, told = time.monotonic(), left.get("beat"), False
            elif time.monotonic() - moved > SILENT and not told:
                told = True
                _print([f"no heartbeat from {left.get('host')} for {SILENT} seconds; the run may have died there"])
        time.sleep(PAUSE)
