"""`mmctl evaluate`: the figures of any checkpoint, again."""

from __future__ import annotations

import typer

from mmctl.cli.options import Json, Run, share


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(evaluate)


def evaluate(
    run: Run,
    checkpoint: str = typer.Option(
        "last",
        "--checkpoint",
        "-c",
        metavar="STEP",
        help="Step, last, last-good (the newest that is not damaged), or best (of train.keep_best).",
    ),
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
    """Evaluate a checkpoint of a run.

    Prints all metrics, the recall of each class and the confusion matrix.

    \b
    Examples:
      mmctl evaluate @last
      mmctl evaluate @last --split test --weights raw
      mmctl evaluate 3 --checkpoint 200 --min 0.8
    """
    from mmctl.errors import GateNotMet
    from mmctl.report.print_evaluation import print_evaluation
    from mmctl.runs.evaluate import evaluate_run
    from mmctl.store.select import folder_of_run

    found = evaluate_run(folder_of_run(run), checkpoint, split or None, weights or None, predictor, accept_changes)
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({**found})
    else:
        print_evaluation(found)
    accuracy = found["metrics"]["accuracy"]
    if minimum is not None and not accuracy >= minimum:  # NaN is below every minimum
        raise GateNotMet(f"accuracy {accuracy:.4f} is below --min {minimum}.")
