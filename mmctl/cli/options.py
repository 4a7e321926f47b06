"""Arguments and options that several commands share: one declaration and one help text for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from mmctl.recipe.find import complete_recipe

RUN_HELP = "Number, id, part of an id, name, @last or @last-failed."

Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)]
OtherRun = Annotated[str, typer.Argument(metavar="OTHER_RUN", help="The other run, given in the same way.")]
Filter = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER",
        help="Words (recipe, method, run) and conditions, for example state:failed, tag:good, labels:320,400, "
        "not:method:pi_model, 'cfg.optimizer.lr>=0.01', 'test/accuracy>0.8'.",
    ),
]
Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe, by name or path.", autocompletion=complete_recipe)
]
Recipes = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE",
        help="Recipes, by name or path. `mmctl recipe list` shows all names.",
        autocompletion=complete_recipe,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Change a setting of the recipe. Can be given several times."
    ),
]
Seeds = Annotated[str, typer.Option("--seeds", metavar="SEEDS", help='One run for each seed: "0-4" or "0,2,5".')]


def _checked_name(name: str | None) -> str | None:
    from mmctl.errors import UserError
    from mmctl.text import NAME_RULE, is_name, short_literal

    if name is not None and not is_name(name):
        raise UserError(f"--name: must be {NAME_RULE} (got {short_literal(name)})")
    return name


Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", callback=_checked_name, help="Name of the run in listings."),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", min=0, metavar="N", help="Parallel runs; 0 = one per core, or eight per GPU."),
]
Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only components of this kind.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def parse_seeds(text: str) -> list[int]:
    """The seeds that `0-4` or `0,2,5` stands for."""
    from mmctl.errors import UserError

    found: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        last = int(match[2] or match[1]) if match else -1
        if not match or last < int(match[1]) or last - int(match[1]) >= 10_000:
            raise UserError(f'--seeds: "{part}" is not a seed or a range of seeds. Write "0-4" or "0,2,5".')
        found += range(int(match[1]), last + 1)
    if text and not found:
        raise UserError(f'--seeds: "{text}" contains no seed. Write "0-4" or "0,2,5".')
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
