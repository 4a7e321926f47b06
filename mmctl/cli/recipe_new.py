"""`mmctl recipe new`: a recipe for a folder of images."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from mmctl.cli.options import Json

MINUTES = {"cpu": 15.0, "cuda": 60.0}
"""Time of a run unless the user says another."""


def new(
    source: Path = typer.Option(..., "--from", metavar="FOLDER", help="The folder with the images."),
    name: str = typer.Option("", "--name", metavar="NAME", help="Name of the recipe; by default that of the folder."),
    minutes: float = typer.Option(
        0.0, "--minutes", metavar="M", help="Time that a run may take; by default 15 on a CPU, 60 on a GPU."
    ),
    mirror: bool = typer.Option(
        True, "--mirror/--no-mirror", help="Whether a mirrored image belongs to the same class."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Ask nothing, take the defaults."),
    force: bool = typer.Option(False, "--force", help="Replace recipes that are there."),
    as_json: Json = False,
) -> None:
    """Write a recipe for a folder of images.

    Looks at the folder (layout, sizes, classes, labels) and at this machine, and writes recipes/NAME.toml, its
    supervised baseline NAME-supervised, and base/NAME with what they share, each choice with its reason. A folder
    without any label gets a labels.csv to fill in.

    \b
    Examples:
      mmctl recipe new --from photos
      mmctl recipe new --from photos --name birds --yes
    """
    from mmctl import project
    from mmctl.dataset_tools import new_recipe
    from mmctl.dataset_tools.flips import unsafe_flip
    from mmctl.errors import UserError, os_error
    from mmctl.filesystem import write_atomic
    from mmctl.image_files.found import find_images
    from mmctl.recipe.recipe import load
    from mmctl.runs.progress import doing
    from mmctl.text import NAME_RULE, is_name, printable

    if not source.is_dir():
        raise UserError(f"--from {source}: there is no such folder.")
    _check_minutes(minutes)
    asks = not yes and not as_json and sys.stdin.isatty() and sys.stderr.isatty()
    with doing(f"looking at {source} ...", as_json):
        found = find_images(source)
        folder = new_recipe.look_at(found, source)
    if not sum(folder.counts):
        _without_labels(source, found, as_json)
        return
    if not as_json:
        typer.echo(new_recipe.summary(folder))
    name = name or new_recipe.recipe_name(source.absolute().name)
    if asks:
        name = typer.prompt("name of the recipe", default=name, err=True)
    if not is_name(name):
        raise UserError(f'--name "{name}": must be {NAME_RULE}.')
    folder_of_recipes = project.root() / "recipes"
    taken = [one for file in new_recipe.files(name) if (one := folder_of_recipes / file).exists()]
    if taken and not force:
        raise UserError(f"{taken[0]}: is there already. Choose another --name, or replace it with --force.")
    with doing("looking at this machine ...", as_json):
        from mmctl.dataset_tools.measure import seconds_of_a_step, this_machine

        machine = this_machine()
    minutes = minutes or MINUTES[machine.device]
    if asks:
        minutes = typer.prompt("minutes that a run may take", default=minutes, type=float, err=True)
        _check_minutes(minutes)
        if mirror and not unsafe_flip(folder.classes):
            mirror = typer.confirm("does a mirrored image belong to the same class", default=True, err=True)
    with doing("measuring a training step ...", as_json):
        plan = new_recipe.make_plan(folder, machine, name, minutes, seconds_of_a_step, mirror)
    written = []
    for file, text in new_recipe.recipes(plan).items():
        path = folder_of_recipes / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text.encode())
        except OSError as error:
            raise os_error(error, path) from None
        written.append(str(path.relative_to(project.root())))
    for recipe in (name, f"{name}-supervised"):
        load(recipe)  # what was written is a recipe
    commands = [
        f"mmctl data check {name}",
        f"mmctl run {name}-supervised {name} --seeds 0-2",
        f"mmctl compare -b {name}-supervised -m {plan.primary}",
    ]
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"files": written, "steps": plan.steps, "minutes": plan.minutes, "method": plan.method,
                    "size": plan.size, "commands": commands})  # fmt: skip
        return
    for line in written:
        typer.echo(f"{printable(line)}: written")
    typer.echo("next:")
    for command in commands:
        typer.echo(f"  {command}")


def _check_minutes(minutes: float) -> None:
    from mmctl.errors import UserError

    if not 0 <= minutes <= 10**6:
        raise UserError(f"--minutes {minutes:g}: give a number of minutes.")


def _without_labels(source: Path, found: object, as_json: bool) -> None:
    """A table to fill in, since nothing can be learnt without a label."""
    from mmctl.errors import UserError
    from mmctl.exchange.table_files import target
    from mmctl.image_files.found import Found
    from mmctl.image_files.written import labels_csv
    from mmctl.text import printable

    path = source / "labels.csv"
    if not isinstance(found, Found) or path.exists():
        raise UserError(f"{path}: has no label of a training image. Write the class of some images into it.")
    with target(path, False) as out:
        out.write(labels_csv(found.files).encode())
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"files": [str(path)], "images": len(found.files)})
        return
    typer.echo(f"{len(found.files):,} images, none of which has a label")
    typer.echo(f"{printable(path)}: written. Write the class of some images into its column `label`, a few of each.")
    typer.echo(f"next:\n  mmctl recipe new --from {printable(source)}")
