"""Arguments and options that several commands share: one declaration and one help text for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mmctl.completion.values import complete_filter, complete_metric, complete_run, complete_set, complete_sweep
from mmctl.recipe.find import complete_recipe

MAX_SEEDS = 10_000
RUN_HELP = "Number, id, part of an id, name, @last or @last-failed."

Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=complete_run)]
OtherRun = Annotated[
    str,
    typer.Argument(metavar="OTHER_RUN", help="The other run, given in the same way.", autocompletion=complete_run),
]
Filter = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER",
        help="Words (recipe, method, run) and conditions, for example state:failed, tag:good, labels:320,400, "
        "not:method:pi_model, 'cfg.optimizer.lr>=0.01', 'test/accuracy>0.8'.",
        autocompletion=complete_filter,
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="One run (number, id, part of an id, name, @last), several, or conditions such as state:failed.",
        autocompletion=complete_filter,
    ),
]
Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe, by name or path.", autocompletion=complete_recipe)
]
_RECIPES = typer.Argument(
    metavar="RECIPE",
    help="Recipes, by name or path. `mmctl recipe list` shows all names.",
    autocompletion=complete_recipe,
)
Recipes = Annotated[list[str], _RECIPES]
RecipesOrNone = Annotated[list[str] | None, _RECIPES]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change a setting of the recipe. Can be given several times.",
        autocompletion=complete_set,
    ),
]


def metrics_option(text: str) -> Any:
    """The option --metric of a command, which can be given several times; text: what the metrics are for."""
    return typer.Option(
        [],
        "--metric",
        "-m",
        metavar="METRIC",
        autocompletion=complete_metric,
        help=f"{text} Can be given several times.",
    )


def whole(text: object) -> int:
    """The value of an option that counts something; int() would take `1_0` and digits of other scripts."""
    from mmctl.text import whole_number

    number = whole_number(str(text))
    if number is None:
        raise typer.BadParameter(f'"{text}" is not a whole number of at least 0.')
    return number


Seeds = Annotated[str | None, typer.Option("--seeds", metavar="SEEDS", help='One run for each seed: "0-4" or "0,2,5".')]


def checked_name(name: str | None) -> str | None:
    """The name that the user gives to a run; UserError if it cannot be one."""
    from mmctl.errors import UserError
    from mmctl.text import NAME_RULE, is_name, short_literal

    if name is not None and not is_name(name):
        raise UserError(f"--name: must be {NAME_RULE} (got {short_literal(name)})")
    return name


Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", callback=checked_name, help="Name of the run in listings."),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", parser=whole, metavar="N", help="Parallel runs; 0 = one per core, or eight per GPU."),
]
Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only components of this kind.")]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        "-b",
        metavar="NAME",
        help="Recipe, method or configuration id that the others are tested against.",
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="STEP",
        help="Step, last, last-good (the newest that is not damaged), or best (of train.keep_best).",
    ),
]
InSweep = Annotated[
    str | None,
    typer.Option("--sweep", metavar="NAME", help="Only runs of this sweep.", autocompletion=complete_sweep),
]
Archived = Annotated[bool, typer.Option("--archived", help="Archived runs too, which are hidden otherwise.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and the result.")]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Resume although a plugin or a file of the run changed (marks the run as not exact)."
    ),
]
FromStart = Annotated[
    bool, typer.Option("--from-start", help="Train again from step 0; checkpoints that are there are renamed.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def with_sweep(terms: Sequence[str] | None, sweep: str | None) -> list[str]:
    """A filter, and the condition of --sweep."""
    return [*(terms or []), *([f"sweep:{sweep}"] if sweep else [])]


def share(text: object) -> float | None:
    """The value of an option between 0 and 1."""
    given = str(text)
    if text is not None and not re.fullmatch(r"0|1|0?\.[0-9]{1,18}|[01]\.0{0,18}", given):
        raise typer.BadParameter(f'"{given}" is not a number from 0 to 1, such as 0.8.')
    return None if text is None else float(given)


def parse_seeds(text: str | None) -> list[int]:
    """The seeds that `0-4` or `0,2,5` stands for; None stands for none."""
    from mmctl.errors import UserError

    if text is None:
        return []
    found: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise UserError(f'--seeds: "{part}" is not a seed or a range of seeds. Write "0-4" or "0,2,5".')
        if len(found) + last - first >= MAX_SEEDS:
            raise UserError(f'--seeds: "{text}" has more than {MAX_SEEDS} seeds, the most that one command takes.')
        found += range(first, last + 1)
    if not found:
        raise UserError(f'--seeds: "{text}" contains no seed. Write "0-4" or "0,2,5", or leave out --seeds.')
    if len(set(found)) < len(found):
        raise UserError(f'--seeds: "{text}" contains a seed twice.')
    return found


def check_words(words: Sequence[str]) -> None:
    """UserError if an argument has bytes that are not UTF-8 and is not an existing path."""
    import os

    from mmctl.errors import UserError
    from mmctl.text import is_utf8, printable

    for word in words:
        if not is_utf8(word) and not os.path.exists(word):  # noqa: PTH110 - Path.exists may raise
            raise UserError(f'argument "{printable(word)}": is not UTF-8 text. Type it again, or set a UTF-8 locale.')
