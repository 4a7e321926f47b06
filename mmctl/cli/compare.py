"""`mmctl compare`: which recipe is better, by how much, and is that noise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Archived, Baseline, Filter, Json, metrics_option, whole
from mmctl.cli.runs import open_store

if TYPE_CHECKING:
    from mmctl.report.comparison import Comparison

FORMATS = ("text", "markdown", "latex", "csv", "tsv", "json", "html")
SHOWN = 10
"""So many configurations that fail a condition are named."""


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(compare)


def _level(text: object) -> float:
    """The value of --ci; percent."""
    given = str(text)
    if not re.fullmatch(r"[0-9]{2}(\.[0-9]{1,4})?", given) or not 50 <= float(given) < 100:
        raise typer.BadParameter(f'"{given}" is not a percentage from 50 to 99.9999, such as 95.')
    return float(given)


def _amount(text: object) -> float:
    """The value of --at."""
    given = str(text)
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", given) or not float(given):
        raise typer.BadParameter(f'"{given}" is not an amount greater than 0, such as 1000 or 2.5.')
    return float(given)


def compare(
    terms: Filter = None,
    metric: list[str] = metrics_option(
        "A metric such as test/accuracy, optionally with @last, @max, @min, @median20, @mean20, @step=N or "
        "@best:METRIC; by default test/accuracy and test/balanced_accuracy, or what the runs have."
    ),
    baseline: Baseline = None,
    test: str = typer.Option(
        "auto", "--test", metavar="TEST", help="Significance test: auto, paired, welch, permutation or none."
    ),
    level: float = typer.Option(95, "--ci", parser=_level, metavar="PERCENT", help="Level of confidence intervals."),
    by: str = typer.Option(
        "config",
        "--by",
        metavar="FIELDS",
        help="What runs of a row share, separated by commas: config (everything but the seed), recipe, method, "
        "labeler, name, device, precision, host or cfg.KEY.",
    ),
    x: str = typer.Option(
        None,
        "--x",
        metavar="AMOUNT",
        help="Compare at equal compute: read every curve up to the same number of steps, images or seconds, by "
        "default the least that a completed run took.",
    ),
    at: float = typer.Option(None, "--at", parser=_amount, metavar="N", help="The amount for --x."),
    per_example: bool = typer.Option(
        False,
        "--per-example",
        help="Compare image by image too, from the stored predictions: McNemar's test, bootstrap intervals, and the "
        "images that one side gets right and the other wrong.",
    ),
    count_nc: bool = typer.Option(
        False,
        "--count-nc",
        help="Count runs that did not converge in accuracies, as the recipe says (eval.nc_as) or else as chance level.",
    ),
    per_seed: bool = typer.Option(False, "--per-seed", help="List the run of each seed too."),
    all_keys: bool = typer.Option(False, "--all-keys", help="List all settings, not only those that differ."),
    sort: str = typer.Option(
        None,
        "--sort",
        metavar="COLUMN",
        help="Order of the rows: a metric that is shown, recipe, n, std, delta, effect or p; -COLUMN turns it round.",
    ),
    fail_if: list[str] = typer.Option(
        [],
        "--fail-if",
        metavar="CONDITION",
        help="Exit with code 7 if a row fulfils this: 'test/accuracy<0.9', or figures of the first metric such as "
        "'p<0.05 and delta<0' (n, nc, std, low, high, delta, effect, p, p_holm). Can be given several times.",
    ),
    strict: bool = typer.Option(
        False, "--strict", help="Exit with code 6 if a row lacks the completed run of a seed that it or another has."
    ),
    precision: int = typer.Option(
        1, "--precision", parser=whole, metavar="N", help="Digits after the point of percentages, at most 6."
    ),
    form: str = typer.Option(
        "text", "--format", "-f", metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
    ),
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """Compare recipes over their seeds.

    Shows the mean, spread and confidence interval of each configuration, the published result, and the difference to
    the baseline with effect size and significance test. A configuration is all runs that differ only in the seed. Each
    data set and each number of labels has a table of its own. Only completed runs are in a mean.

    \b
    Examples:
      mmctl compare
      mmctl compare marginmix mixmatch -b mixmatch
      mmctl compare labels:320 --per-seed
      mmctl compare -b supervised --per-example
      mmctl compare --x seconds --format markdown
      mmctl compare -b main --fail-if 'p<0.05 and delta<0'
    """
    from mmctl.errors import GateNotMet, PartFailed, UserError, suggest
    from mmctl.report import gates
    from mmctl.report.compare import How
    from mmctl.report.compare import compare as found_of
    from mmctl.store import select
    from mmctl.store.metrics import usual_metrics

    if form not in FORMATS:
        raise UserError(f'--format "{form}": no such format.{suggest(form, FORMATS)} Known: {", ".join(FORMATS)}')
    conditions = [gates.parse_gate(text) for text in fail_if]
    how = How(
        baseline=baseline, test=test, level=level / 100, by=[field.strip() for field in by.split(",")], x=x, at=at,
        sort=sort, count_nc=count_nc, all_keys=all_keys, per_image=per_example,
    )  # fmt: skip
    with open_store() as store:
        every = store.runs()
        runs = select.select_runs(store, every, terms or [], archived)
        metrics = [*(metric or usual_metrics(store, runs)), *(name for gate in conditions for name in gate.metrics())]
        found = found_of(store, runs, metrics, how)
    if as_json or form == "json":
        from mmctl.report.json_output import print_json

        print_json(found)
    elif not found["panels"]:
        typer.echo(f"no run matches{select.why_none(every, terms or []) or '; `mmctl ls` shows all'}", err=True)
    else:
        _print(found, form, min(precision, 6), per_seed, all_keys)
    if failed := gates.failures(found, conditions):
        raise GateNotMet(*_some(failed))
    if strict and (missing := gates.unfinished(found)):
        raise PartFailed(*_some(missing))


def _print(found: Comparison, form: str, digits: int, per_seed: bool, all_keys: bool) -> None:
    from mmctl.report import console, print_compare
    from mmctl.report.compare_table import Look
    from mmctl.report.sheet import separated

    look = Look(digits, per_seed, all_keys)
    if form == "text":
        print_compare.print_comparison(found, console.console(), look)
    elif form in ("csv", "tsv"):
        typer.echo(separated(print_compare.comparison_records(found), form))
    else:
        typer.echo(print_compare.comparison_document(found, form, look))


def _some(lines: list[str]) -> list[str]:
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]
