"""`mmctl data check`: what is in a data set, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Json, Sets
from mmctl.recipe.find import complete_recipe

if TYPE_CHECKING:
    from rich.console import Console

    from mmctl.dataset_tools.check import Checked

EXAMPLES = 5
"""Images that are named for each finding."""
BAR = 24
CLASSES = 60
"""Classes that the table shows."""


def check(
    target: str = typer.Argument(
        metavar="RECIPE|FOLDER",
        help="Recipe, by name or path; or a folder of images (FOLDER/ if a recipe has its name).",
        autocompletion=complete_recipe,
    ),
    sets: Sets = None,
    allow: list[str] = typer.Option(
        [], "--allow", metavar="KIND", help="Not an error: damaged, leakage or conflicts. Can be given several times."
    ),
    sheet: str = typer.Option("", "--sheet", metavar="FILE", help="Write a contact sheet by class: FILE.png or .jpg."),
    as_json: Json = False,
) -> None:
    """Check a data set before training.

    Decodes each image, and counts parts, classes, formats and sizes. Finds damaged files, equal images in training
    and test (leakage), equal images with different labels, uneven classes, and classes that must not be mirrored.
    Exits with code 2 if something must be mended.

    \b
    Examples:
      mmctl data check photos
      mmctl data check photos --sheet sheet.png
      mmctl data check my-recipe --allow leakage
      mmctl data check photos --set dataset.size=64
    """
    from mmctl.dataset_tools.check import ALLOW, add_files, check_data
    from mmctl.dataset_tools.read import read_target
    from mmctl.errors import DataError, UserError, os_error, suggest
    from mmctl.runs.progress import doing

    for word in allow:
        if word not in ALLOW:
            raise UserError(f'--allow "{word}": no such kind.{suggest(word, ALLOW)} Known: {", ".join(ALLOW)}')
    if sheet and not sheet.lower().endswith((".png", ".jpg", ".jpeg")):
        raise UserError(f"--sheet {sheet}: the name must end in .png or .jpg.")
    with doing(f"reading {target} ...", as_json):
        found = read_target(target, sets or [])
    allowed = {*allow, "damaged"} if found.skips else set(allow)
    made = check_data(found.name, found.images, allow=allowed, flips=found.flips)
    if found.found is not None:
        add_files(made, found.found, found.resize)
    made.seconds = found.seconds
    if sheet:
        from mmctl.dataset_tools.sheet import contact_sheet

        try:
            contact_sheet(found.images["train"]).save(sheet)
        except OSError as error:
            raise os_error(error, sheet) from None
    errors = made.errors()
    if as_json:
        from dataclasses import asdict

        from mmctl.report.json_output import print_json

        print_json({**asdict(made), "root": str(found.root), "sheet": sheet or None, "ok": not errors})
    else:
        from mmctl.report import console

        _print(made, console.console())
        if sheet:
            typer.echo(f"\n{sheet}: contact sheet")
    if errors:
        kinds = [one.kind for one in errors]
        allows = " ".join(f"--allow {kind}" for kind in dict.fromkeys(kinds))
        things = "1 thing" if len(errors) == 1 else f"{len(errors)} things"
        raise DataError(f"{target}: {things} must be mended ({', '.join(kinds)}), or allowed: {allows}")


def _print(made: Checked, out: Console) -> None:
    from mmctl.report import console
    from mmctl.text import printable

    channels, height, width = made.shape
    kind = f", {made.layout}" if made.layout else ""
    console.print_line(out, f"{printable(made.name)}: {len(made.classes)} classes, {width} x {height} px, "
                            f"{'grey' if channels == 1 else f'{channels} channels'}{kind}")  # fmt: skip
    parts = list(made.counts.items())
    console.print_table([
        console.column("part", parts, lambda row: row[0]),
        *(console.column(key, parts, lambda row, key=key: f"{row[1][key]:,}", right=True)  # type: ignore[misc]
          for key in ("images", "labelled", "unlabelled")),
    ], out)  # fmt: skip
    rows = list(zip(made.classes, *made.per_class.values(), strict=True))[:CLASSES]
    most = max((int(row[1]) for row in rows), default=0) or 1
    out.print()
    console.print_table([
        console.column("class", rows, lambda row: printable(str(row[0]))),
        *(console.column(part, rows, lambda row, n=n: f"{row[n]:,}", right=True)  # type: ignore[misc]
          for n, part in enumerate(made.per_class, 1)),
        console.column("", rows, lambda row: "#" * round(BAR * int(row[1]) / most), 1),
    ], out)  # fmt: skip
    if len(made.classes) > CLASSES:
        console.print_line(out, f"and {len(made.classes) - CLASSES} more classes (--json has all)")
    out.print()
    for line in _facts(made):
        console.print_line(out, line)
    for one in made.findings:
        console.print_line(out, f"{one.level + ':':<9}{printable(one.text)}. {one.remedy}".rstrip())
        for example in one.examples[:EXAMPLES]:
            console.print_line(out, f"         {printable(example)}")
        if len(one.examples) > EXAMPLES:
            console.print_line(out, f"         and {len(one.examples) - EXAMPLES:,} more (--json has all)")
    if not made.findings:
        console.print_line(out, "nothing is wrong")


def _facts(made: Checked) -> list[str]:
    from mmctl.report.console import file_size
    from mmctl.text import duration

    n = sum(one["images"] for one in made.counts.values())
    size = n * made.shape[0] * made.shape[1] * made.shape[2]
    lines = []
    if files := made.files:
        sizes = {name: " x ".join(map(str, files[name])) for name in ("smallest", "median", "largest")}  # type: ignore[call-overload]
        formats = ", ".join(f"{name} {count:,}" for name, count in files["formats"].items())  # type: ignore[attr-defined]
        lines.append(f"files:   {formats}; {sizes['smallest']} to {sizes['largest']} px, median {sizes['median']}")
    lines.append(f"reading: {duration(made.seconds)} for {n:,} images; {file_size(size)} decoded")
    return lines
