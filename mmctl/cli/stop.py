"""`mmctl stop` and `retry`: out of the queue, and into it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Filter, InSweep, Jobs, Json, Quiet, whole, with_sweep
from mmctl.cli.runs import find, open_store
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmctl.store.rows import RunRow
    from mmctl.store.store import Store
    from mmctl.sweep.cancel import ToStop


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(stop)
    app.command()(retry)


def stop(
    runs: Filter = None,
    sweep: InSweep = None,
    queued: bool = typer.Option(False, "--queued", help="Only runs that wait; those that train go on."),
    now: bool = typer.Option(False, "--now", help="End the process at once (SIGKILL), without a checkpoint."),
    timeout: int = typer.Option(
        60, "--timeout", parser=whole, metavar="SECONDS", help="Wait so long for the runs to end."
    ),
    as_json: Json = False,
) -> None:
    """Stop runs that train or wait.

    A run finishes its step, saves a checkpoint and ends; one that waits never starts. `mmctl resume` continues both.
    Only runs of this machine, and of an engine such as Slurm, can be stopped. Exits with code 6 if a run has not ended
    in time.

    \b
    Examples:
      mmctl stop @last
      mmctl stop state:running
      mmctl stop --sweep digits
      mmctl stop --queued
      mmctl stop 3 --now
    """
    from mmctl.errors import PartFailed
    from mmctl.run_folder.queue import leave
    from mmctl.runs.stop import processes
    from mmctl.runs.stop import stop as stop_processes
    from mmctl.sweep.cancel import take_out

    with open_store() as store:
        every, folder = store.runs(), store.runs_dir
        queue, training = _to_stop(store, with_sweep(runs, sweep), queued)
    found = processes(folder, training, every)
    left = take_out(folder, [folder / run["uid"] for run in queue], timeout)
    for one in [one for folders in found.values() for one in folders]:
        leave(one)  # otherwise it would be started again, as one that was killed
    left += stop_processes(found, now, timeout)
    with open_store() as store:
        ended = [find(store, run["uid"]) for run in [*queue, *training] if folder / run["uid"] not in left]
    if as_json:
        print_json({"stopped": [one["uid"] for one in ended], "running": [one.name for one in left]})
    else:
        _print_ended(ended)
    if left:
        raise PartFailed(
            f"{', '.join(one.name for one in left)}: has not ended after {timeout} s; it ends after its step "
            "and checkpoint. `mmctl stop --now` ends it without."
        )


def _to_stop(store: Store, terms: Sequence[str], queued: bool) -> ToStop:
    """The runs to stop; RunNotFound if a condition matches none, UserError without any word."""
    from mmctl.errors import RunNotFound, UserError
    from mmctl.store.select import TERM, find_runs
    from mmctl.sweep.cancel import sort_out

    if not terms and not queued:
        raise UserError("which runs? Give runs, conditions, --sweep NAME or --queued; all: mmctl stop state:running")
    chosen = find_runs(store, terms) if terms else store.runs()
    found = sort_out(store.runs_dir, chosen, queued)
    if queued or any(map(TERM.fullmatch, terms)):
        if not any(found):
            raise RunNotFound(f"no run of these {'waits' if queued else 'is running or waits'}. See: mmctl ls")
        return found
    # Of those that are named, the error says why one cannot be stopped.
    return found._replace(training=[run for run in chosen if run not in found.queued])


def _print_ended(ended: Sequence[RunRow]) -> None:
    for one in ended:
        again = f"  mmctl resume {one['uid']}" if one["state"] in ("interrupted", "crashed") else ""
        typer.echo(f"{one['uid']}: {one['state']} at step {one['step']}/{one['total_steps']}.{again}")


def retry(
    terms: Filter = None,
    sweep: InSweep = None,
    failed: bool = typer.Option(False, "--failed", help="All runs that failed or crashed and may succeed now."),
    jobs: Jobs = 0,
    detach: bool = typer.Option(
        False, "--detach", "-d", help="Return when the runs are in the queue, without showing their progress."
    ),
    quiet: Quiet = False,
) -> None:
    """Try failed runs again.

    They go into the queue and continue from their checkpoints, or start at step 0 if they have none. Runs whose recipe
    is wrong or whose training failed would fail in the same way again: they are tried only if you name them.

    \b
    Examples:
      mmctl retry --failed
      mmctl retry --failed --sweep digits
      mmctl retry 3 5
    """
    from mmctl.errors import UserError
    from mmctl.runs.progress import tell
    from mmctl.store.select import TERM, find_runs
    from mmctl.sweep.retry import choose_failed

    words = with_sweep(terms, sweep)
    if not words and not failed:
        raise UserError("which runs? Give runs, or --failed for all that may succeed now; see: mmctl ls state:failed")
    with open_store() as store:
        rows = find_runs(store, words) if words else store.runs()
        chosen = choose_failed(store.runs_dir, rows, named=not failed and not any(map(TERM.fullmatch, words)))
        runs = store.runs_dir
    for line in chosen.messages:
        tell(line)
    if not chosen.folders:
        tell("no run to try again. See: mmctl ls state:failed,crashed")
        return
    from mmctl.sweep.launch import put_back

    put_back(chosen.folders, runs, jobs=jobs, detach=detach, quiet=quiet)
