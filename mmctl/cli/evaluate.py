"""`mmctl evaluate`: the figures of any checkpoint, again."""

from __future__ import annotations

import typer

from mmctl.cli.options import Checkpoint, Json, Runs, share


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(evaluate)


def evaluate(
    runs: Runs,
    checkpoint: Checkpoint = "last",
    split: str = typer.Option(
        "", "--split", metavar="SPLIT", help="train, val or test. By default, the split of the main result."
    ),
    weights: str = typer.Option(
        "", "--weights", metavar="WEIGHTS", help="ema or raw. By default, the weights of the main result."
    ),
    predictor: str = typer.Option("head", "--predictor", metavar="PREDICTOR", help="head or centroid."),
    minimum: float | None = typer.Option(
        None, "--min", parser=share, metavar="ACCURACY", help="Exit with code 7 if the accuracy (0 to 1) is below this."
    ),
    accept_changes: bool = typer.Option(
        False, "--accept-changes", help="Evaluate although files of the run were edited (the result says so)."
    ),
    as_json: Json = False,
) -> None:
    """Evaluate a checkpoint of runs.

    Prints all metrics, the recall of each class and the confusion matrix. Of several runs, one that cannot be evaluated
    does not keep the others from it; the exit code is 6 then.

    \b
    Examples:
      mmctl evaluate @last
      mmctl evaluate @last --split test --weights raw
      mmctl evaluate 3 --checkpoint 200 --min 0.8
      mmctl evaluate state:completed -c best
    """
    from mmctl.errors import GateNotMet, MmctlError, PartFailed
    from mmctl.report.json_output import print_json
    from mmctl.report.print_evaluation import print_evaluation
    from mmctl.store.select import folders_of_runs

    folders = folders_of_runs(runs)
    from mmctl.runs.evaluate import evaluate_run

    results, failed = [], {}
    for folder in folders:
        try:
            found = evaluate_run(folder, checkpoint, split or None, weights or None, predictor, accept_changes)
        except MmctlError as error:
            if len(folders) == 1:
                raise
            failed[folder.name] = str(error)
            continue
        results.append(found)
        if not as_json:
            if len(folders) > 1:
                typer.echo(f"\n{folder.name}" if len(results) > 1 else folder.name)
            print_evaluation(found)
    if as_json:
        print_json({**results[0]} if len(folders) == 1 else {"evaluations": results, "failed": failed})
    if failed:
        raise PartFailed(f"{len(failed)} of {len(folders)} runs were not evaluated:", *failed.values())
    # NaN is below every minimum.
    below = [one for one in results if minimum is not None and not one["metrics"]["accuracy"] >= minimum]
    if below:
        each = [f"{one['run']}: accuracy {one['metrics']['accuracy']:.4f} is below --min {minimum}." for one in below]
        raise GateNotMet(*(each if len(folders) > 1 else [each[0].partition(": ")[2]]))
