"""`mmctl data split`: make, show, export and import split files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmctl.cli.options import Json, Sets, whole
from mmctl.recipe.find import complete_recipe

if TYPE_CHECKING:
    from mmctl.dataset_tools.splits import SplitFile
    from mmctl.plugin import Images

group = typer.Typer(
    help="Choose the labelled and the held-out images.", no_args_is_help=True, rich_markup_mode=None
)  # fmt: skip
Target = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FOLDER",
        help="Recipe, by name or path; or a folder of images (FOLDER/ if a recipe has its name).",
        autocompletion=complete_recipe,
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]


@group.command()
def make(
    target: Target,
    output: Output,
    labels: int = typer.Option(
        0, "--labels", metavar="N", parser=whole, help="Labelled images, class-proportional; 0 = all that are left."
    ),
    val: float = typer.Option(
        0.2, "--val", metavar="N", help="Labelled images that are held out: a share below 1, or their number."
    ),
    folds: int = typer.Option(
        0, "--folds", metavar="K", parser=whole, help="Write K files, FILE-0.json ...: each image is held out once."
    ),
    by_group: str = typer.Option(
        "", "--group", metavar="COLUMN", help="Column of the label file: its images stay on one side, such as a person."
    ),
    seed: int = typer.Option(0, "--seed", metavar="S", parser=whole, help="Seed of the choice."),
    sets: Sets = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a split file.

    It says which images keep their labels, and which are held out for validation. Every class is divided in
    proportion. With --group no group (a person, a patient, a series of photos) stands on both sides: unlabelled images
    of a held-out group are left out. A recipe reads the file with rule = "file" in [split].

    \b
    Examples:
      mmctl data split make photos -o first.json
      mmctl data split make photos -o by.json --group person
      mmctl data split make photos -o cv.json --folds 5
    """
    from shlex import quote

    from mmctl.dataset_tools.splits import make_splits
    from mmctl.errors import UserError
    from mmctl.project import path_in_recipe

    if folds == 1:
        raise UserError("--folds 1: at least 2, or 0 for one split.")
    if not val >= 0:
        raise UserError(f"--val {val:g}: a share from 0 to 1, or a number of images.")
    if not output.endswith((".json", ".csv")):
        raise UserError(f"--output {output}: the name must end in .json or .csv.")
    images, groups = _read(target, sets or [], by_group)
    made = make_splits(images, labels=labels or None, val=val, seed=seed, groups=groups, folds=folds)
    path = Path(output)
    paths = [path.with_stem(f"{path.stem}-{fold}") for fold in range(folds)] if folds else [path]
    if taken := [one for one in paths if one.exists() and not force]:
        raise UserError(f"{taken[0]}: exists already. --force replaces it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    for one, split in zip(paths, made, strict=True):
        _write(one, split, force)
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"files": [{"path": str(one), "labeled": len(split.labeled), "val": len(split.val),
                               "left_out": len(split.left_out)}
                              for one, split in zip(paths, made, strict=True)]})  # fmt: skip
        return
    for one, split in zip(paths, made, strict=True):
        typer.echo(f"{one}: {split.counts()}")
    typer.echo("to use it:" if len(paths) == 1 else "to use them:")
    for one in paths:
        typer.echo(f"  --set split.rule=file --set {quote(f'split.file={path_in_recipe(one)}')}")


@group.command()
def show(
    target: Target,
    file: str = typer.Argument(metavar="FILE", help="Split file: .json or .csv."),
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Show the counts of a split file.

    How many images of each class it has in each part.

    \b
    Examples:
      mmctl data split show photos first.json
    """
    from mmctl.dataset_tools.splits import describe, read_split
    from mmctl.report import console
    from mmctl.text import printable

    split = read_split(Path(file))
    images, _ = _read(target, sets or [], "")
    counts = describe(images, split, Path(file))
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"classes": list(images.classes), **counts, "left_out": len(split.left_out),
                    "made": dict(split.made)})  # fmt: skip
        return
    out = console.console()
    rows = list(zip(images.classes, counts["labeled"], counts["val"], strict=True))
    console.print_table([
        console.column("class", rows, lambda row: printable(row[0])),
        console.column("labelled", rows, lambda row: f"{row[1]:,}", right=True),
        console.column("val", rows, lambda row: f"{row[2]:,}", right=True),
    ], out)  # fmt: skip
    how = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in split.made.items())
    console.print_line(out, f"{split.counts()}{f' ({how})' if how else ''}")


@group.command()
def export(
    file: str = typer.Argument(metavar="FILE", help="Split file: .json."),
    output: Output = "",
    force: Force = False,
) -> None:
    """Write a split file as CSV.

    A table with the columns id and part.

    \b
    Examples:
      mmctl data split export first.json -o first.csv
    """
    _convert(file, output, ".csv", force)


@group.command(name="import")
def import_(
    file: str = typer.Argument(
        metavar="FILE", help="CSV table with the columns id and part: labeled, val or left_out."
    ),
    output: Output = "",
    target: str = typer.Option("", "--check", metavar="RECIPE|FOLDER", help="Check the ids against this data set."),
    force: Force = False,
) -> None:
    """Make a split file from CSV.

    A table with the columns id and part.

    \b
    Examples:
      mmctl data split import first.csv --check photos
    """
    from mmctl.dataset_tools.splits import describe, read_split

    if target:
        describe(_read(target, [], "")[0], read_split(Path(file)), Path(file))
    _convert(file, output, ".json", force)


def _convert(file: str, output: str, suffix: str, force: bool) -> None:
    from mmctl.dataset_tools.splits import read_split
    from mmctl.errors import UserError

    path = Path(output) if output else Path(file).with_suffix(suffix)
    if path.suffix != suffix:
        raise UserError(f"--output {output}: the name must end in {suffix}.")
    if path == Path(file):
        raise UserError(f"{file}: is a {suffix} file already.")
    split: SplitFile = read_split(Path(file))
    _write(path, split, force)
    typer.echo(f"{path}: {split.counts()}")


def _write(path: Path, split: SplitFile, force: bool) -> None:
    from mmctl.dataset_tools.splits import split_bytes
    from mmctl.exchange.table_files import target

    body = split_bytes(split, path)
    with target(path, force) as out:
        out.write(body)


def _read(target: str, sets: list[str], by_group: str) -> tuple[Images, dict[str, str] | None]:
    """The training images of a data set, and the group of each. Of own images, which need no decoding, labels alone."""
    from mmctl import project
    from mmctl.dataset_tools.read import PICTURES, find_files, load_target, unopened
    from mmctl.dataset_tools.splits import groups_of
    from mmctl.errors import UserError
    from mmctl.runs.progress import doing

    recipe = load_target(target, sets)
    root = project.data_root(recipe.dataset_root, recipe.dataset_name)
    if recipe.dataset_name != PICTURES:
        if by_group:
            raise UserError(f"--group: {recipe.dataset_name} has no label file with columns.")
        with doing(f"reading {target} ..."):
            return recipe.build("dataset", known={"root": root})["train"], None
    with doing(f"looking at {target} ..."):
        found = find_files(root, dict(recipe.data["dataset"]) | ({"group_column": by_group} if by_group else {}))
    return unopened(found), groups_of([(file.id, file.group) for file in found.files]) if by_group else None
