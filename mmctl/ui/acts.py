"""What the keys of `mmctl ui` do to runs: the same as the commands of these names."""

from __future__ import annotations

from collections.abc import Sequence

from mmctl.errors import UserError
from mmctl.run_folder.events import Event, Mark, Tag
from mmctl.runs.annotate import annotate
from mmctl.runs.detached import Resuming, start_resume
from mmctl.runs.resume import kept_back, split_up
from mmctl.runs.stop import processes, stop
from mmctl.store.rows import RunRow
from mmctl.store.select import checked_tags, imported
from mmctl.text import printable
from mmctl.ui.reading import Reader

NAMED = 3
"""So many runs are named in a message."""


def named(runs: Sequence[RunRow]) -> str:
    """Runs in a message."""
    words = [printable(run["uid"]) for run in runs[:NAMED]]
    return ", ".join(words) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")


def parse_tags(text: str) -> Tag:
    """`good -draft` adds one tag and removes another; UserError for what cannot be a tag."""
    words = text.split()
    if not words:
        raise UserError("write a tag, or -TAG to remove one")
    added = checked_tags([word.removeprefix("+") for word in words if not word.startswith("-")])
    return Tag(add=added, remove=checked_tags([word[1:] for word in words if word.startswith("-")], new=False))


def tag_runs(reader: Reader, runs: Sequence[RunRow], event: Tag) -> str:
    """`mmctl tag`."""
    _annotate(reader, runs, event)
    return f"{named(runs)}: " + " ".join([*(f"+{one}" for one in event.add), *(f"-{one}" for one in event.remove)])


def toggle_star(reader: Reader, runs: Sequence[RunRow]) -> str:
    """`mmctl star`, with --remove if all of them have one."""
    star = not all(run["starred"] for run in runs)
    _annotate(reader, runs, Mark(star=star))
    return f"{named(runs)}: {'star' if star else 'no star'}"


def toggle_archived(reader: Reader, runs: Sequence[RunRow]) -> str:
    """`mmctl archive`, with --remove if all of them are archived."""
    hide = not all(run["archived"] for run in runs)
    _annotate(reader, runs, Mark(archived=hide))
    return f"{named(runs)}: {'archived; A shows archived runs' if hide else 'not archived'}"


def running(runs: Sequence[RunRow]) -> list[RunRow]:
    """The running ones; UserError if there is none."""
    found = [run for run in runs if run["state"] == "running"]
    if not found:
        raise UserError(f"{named(runs)}: not running ({', '.join(sorted({run['state'] for run in runs}))})")
    return found


def stop_runs(reader: Reader, runs: Sequence[RunRow]) -> str:
    """`mmctl stop`, without waiting for the end."""
    stop(processes(reader.runs_dir, runs, reader.runs), False, 0.0)
    return f"{named(runs)}: stops after its step, with a checkpoint"


def resume_runs(reader: Reader, runs: Sequence[RunRow], resuming: list[Resuming]) -> str:
    """`mmctl resume`, as a process that goes on when this one ends; it is added to those that resume runs already."""
    begun = {uid for one in resuming for uid in one.uids}
    with reader.open() as store:
        foreign = imported(store, runs)
    go_on, left = split_up(reader.runs_dir, [run for run in runs if run["uid"] not in begun], foreign, failed=True)
    if again := [run["uid"] for run in runs if run["uid"] in begun]:
        left["resumed already"] = again
    if not go_on:
        raise UserError("nothing to continue", *kept_back(left, NAMED))
    resuming.append(start_resume(reader.runs_dir, [run["uid"] for run in go_on]))
    started = f"`mmctl resume` started as process {resuming[-1].popen.pid}, which outlives this one"
    return "\n".join([f"{named(go_on)}: {started}", *kept_back(left, NAMED)])


def _annotate(reader: Reader, runs: Sequence[RunRow], event: Event) -> None:
    reader.use(lambda store: annotate(store, runs, event))
