"""`mmctl checkpoints`: list, verify, delete and copy the checkpoints of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Checkpoint, DryRun, Filter, Json, Run, Runs
from mmctl.cli.runs import find, open_store
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    group = typer.Typer(help="Keep, check and copy checkpoints.", no_args_is_help=True, rich_markup_mode=None)
    for command in (ls, verify, prune, copy):
        group.command()(command)
    app.add_typer(group, name="checkpoints")


def ls(terms: Filter = None, as_json: Json = False) -> None:
    """List the checkpoints that are on the disk.

    \b
    Examples:
      mmctl checkpoints ls
      mmctl checkpoints ls state:completed
    """
    import os

    from mmctl.report import console
    from mmctl.store.select import select_runs
    from mmctl.text import printable

    with open_store() as store:
        found = [
            (run["uid"], one)
            for run in select_runs(store, store.runs(), terms or [])
            for one in store.checkpoints(run)
            if os.path.isdir(store.runs_dir / run["uid"] / one["path"])  # noqa: PTH112
        ]
    if as_json:
        keys = ("step", "kind", "bytes", "path")
        print_json({"checkpoints": [{"run": uid, **{k: v for k, v in one.items() if k in keys}} for uid, one in found]})
        return
    out = console.console()
    columns = [
        console.column("run", found, lambda row: printable(row[0])),
        console.column("step", found, lambda row: str(row[1]["step"]), right=True),
        console.column("size", found, lambda row: console.file_size(row[1]["bytes"]), right=True),
        console.column("saved as", found, lambda row: printable(row[1]["kind"]), 1),
    ]
    console.print_table(columns if found else [], out)
    total = console.file_size(sum(one["bytes"] or 0 for _, one in found))
    console.print_line(out, f"{len(found)} checkpoints, {total}")


def verify(terms: Filter = None, as_json: Json = False) -> None:
    """Check checkpoints for damage.

    Reads them and compares them with their SHA-256.
    Exits with code 4 if one is damaged, or if the newest of a run is missing.

    \b
    Examples:
      mmctl checkpoints verify
      mmctl checkpoints verify @last
    """
    from mmctl.errors import EnvironmentFault, MmctlError
    from mmctl.store.select import select_runs

    with open_store() as store:
        folders = [store.runs_dir / run["uid"] for run in select_runs(store, store.runs(), terms or [])]
    from mmctl.runs.kept import verify as check

    good, bad = 0, []
    for folder in folders:
        try:
            found = check(folder)
        except MmctlError as error:
            bad.append(str(error))
            continue
        good += sum(not text for text in found.values())
        bad += [text for text in found.values() if text]
    if as_json:
        print_json({"good": good, "bad": bad})
    elif not bad:
        typer.echo(f"{good} checkpoints, nothing wrong")
    if bad:
        raise EnvironmentFault(f"{len(bad)} checkpoints are damaged or missing, {good} are good:", *bad)


def prune(
    runs: Runs,
    keep: list[int] = typer.Option(
        [], "--keep", metavar="STEP", help="Keep this step too. Can be given several times."
    ),
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete checkpoints that are not needed.

    The newest of each run stays, if it is not damaged, and that of train.keep_best. A running run is left as it is.

    \b
    Examples:
      mmctl checkpoints prune @last --dry-run
      mmctl checkpoints prune state:completed --keep 1000
    """
    from mmctl.errors import MmctlError, PartFailed
    from mmctl.report.console import file_size

    folders = _chosen(runs)
    from mmctl.runs.kept import check_kept
    from mmctl.runs.kept import prune as delete

    check_kept(folders, keep)
    done, left = [], {}
    for folder in folders:
        try:
            found = delete(folder, keep, dry_run)
        except MmctlError as error:
            if len(folders) == 1:
                raise
            left[folder.name] = str(error)
            continue
        done.append({"run": folder.name, "deleted": list(found.deleted), "bytes": sum(found.deleted.values()),
                     "kept": found.kept})  # fmt: skip
    if as_json:
        print_json({"runs": done, "left": left, "dry_run": dry_run})
    else:
        words = "would be deleted" if dry_run else "deleted"
        for one in done:
            steps = ", ".join(map(str, one["deleted"])) or "none"  # type: ignore[call-overload]
            typer.echo(f"{one['run']}: {words}: {steps} ({file_size(one['bytes'])}); kept: {one['kept']}")  # type: ignore[arg-type]
    if left:
        raise PartFailed(*(f"left as it is: {text}" for text in left.values()))


def copy(
    run: Run,
    target: str = typer.Argument(metavar="FOLDER", help="A new folder, or one in which a new folder is made."),
    checkpoint: Checkpoint = "last",
    as_json: Json = False,
) -> None:
    """Copy a checkpoint out of its run.

    Copies the tensors (safetensors), their manifest and the recipe, once the checkpoint is verified.

    \b
    Examples:
      mmctl checkpoints copy @last weights
      mmctl checkpoints copy 3 weights -c best
    """
    from pathlib import Path

    with open_store() as store:
        folder = store.runs_dir / find(store, run)["uid"]
    from mmctl.runs.kept import copy as copy_out

    made = copy_out(folder, checkpoint, Path(target))
    if as_json:
        print_json({"path": str(made)})
    else:
        typer.echo(str(made))


def _chosen(runs: Sequence[str]) -> list[Path]:
    from mmctl.store.select import find_runs

    with open_store() as store:
        return [store.runs_dir / run["uid"] for run in find_runs(store, runs)]
