"""`mmctl plot`: curves, bars and confusion matrices, in the terminal or as an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Archived, Filter, Json, metrics_option, share
from mmctl.cli.runs import open_store, selected

if TYPE_CHECKING:
    from mmctl.report.charts import Chart

KINDS = (".svg", ".png", ".html")


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(plot)


def plot(
    terms: Filter = None,
    metric: list[str] = metrics_option(
        "A metric such as test/accuracy or train/loss; by default test/accuracy, or what the runs have."
    ),
    bars: bool = typer.Option(False, "--bars", help="Bars of the means of `mmctl compare`, with 95 % intervals."),
    confusion: bool = typer.Option(False, "--confusion", help="Confusion matrix of the last evaluation."),
    pseudo: bool = typer.Option(
        False, "--pseudo-labels", help="Curves of the accuracy of the pseudo-labels, and of how many there are."
    ),
    axis: str = typer.Option(
        "steps", "--x", metavar="AXIS", help="What lies under curves: steps, images or seconds (of training)."
    ),
    band: str = typer.Option(
        "std", "--band", metavar="BAND", help="What is around a mean over seeds: std, interval (95 %), range or none."
    ),
    smooth: float = typer.Option(
        None, "--smooth", parser=share, metavar="S", help="Smooth each curve: 0 = not at all, 0.9 = much."
    ),
    log: bool = typer.Option(False, "--log", help="A logarithmic axis for the values."),
    per_seed: bool = typer.Option(False, "--per-seed", help="A curve for each run, instead of means over seeds."),
    output: Path = typer.Option(
        None, "--output", "-o", metavar="FILE", help="Write an image to a file: FILE.svg, .png or .html."
    ),
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """Plot curves, bars or confusion matrices.

    FILTER can also be one run. Runs that differ only in the seed are one line: their mean, with a band. Without FILTER,
    plots all runs.

    \b
    Examples:
      mmctl plot @last
      mmctl plot mixmatch fixmatch -m train/loss
      mmctl plot labels:40 --bars
      mmctl plot @last --confusion -o confusion.svg
    """
    from mmctl.errors import UserError
    from mmctl.report import plots
    from mmctl.report.charts import as_object
    from mmctl.report.compare import compare
    from mmctl.report.json_output import print_json
    from mmctl.runs.progress import tell
    from mmctl.store.metrics import usual_metrics
    from mmctl.text import printable

    if output is not None and output.suffix.lower() not in KINDS:
        raise UserError(f'--output "{printable(output)}": an image is a file that ends in {", ".join(KINDS)}.')
    names = list(metric) + (list(plots.PSEUDO_LABELS) if pseudo else [])
    charts: list[Chart] = []
    notes: list[str] = []
    with open_store() as store:
        runs = selected(store, terms or [], archived)
        for name in names or ([] if confusion else usual_metrics(store, runs)[:1]):
            if bars and name not in plots.PSEUDO_LABELS:
                charts += plots.bar_charts(compare(store, runs, [name]))
            else:
                chart = plots.line_chart(
                    store, runs, name, notes, axis=axis, band=band, smooth=smooth or 0.0, log=log, per_seed=per_seed
                )
                charts += [chart] if chart.lines else []
        if confusion:
            charts += plots.confusion_charts(store, runs, notes)
    notes = list(dict.fromkeys(notes))
    if not charts:
        what = "a confusion matrix: training writes it at its end" if confusion and not names else "such values yet"
        raise UserError(f"none of the {len(runs)} runs has {what}. `mmctl ls` shows how far they are.")
    if output is not None:
        output.write_bytes(_image(charts, output.suffix.lower()))
        tell(f"{printable(output)}: {len(charts)} chart{'s' * (len(charts) > 1)}")
    if as_json:
        print_json({"charts": [as_object(chart) for chart in charts], "notes": notes})
    elif output is None:
        from mmctl.report import console, terminal_plot

        out = console.console()
        for n, chart in enumerate(charts):
            console.print_line(out, "") if n else None
            terminal_plot.print_chart(chart, out)
        for note in notes:
            console.print_line(out, printable(note), "dim")
    else:
        for note in notes:
            tell(f"note: {note}")


def _image(charts: Sequence[Chart], kind: str) -> bytes:
    from mmctl.report import svg

    if kind == ".png":
        from mmctl.report.png import png

        return png(charts)
    return (svg.stacked(charts) if kind == ".svg" else svg.page(charts)).encode()
