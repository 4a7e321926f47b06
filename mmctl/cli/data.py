"""`mmctl data`: the images and labels of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli import data_check, data_get, data_split
from mmctl.cli.options import DryRun, Json
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.image_files.found import Found

PARTS = ("train", "val", "test", "unlabeled")
SHOWN = 40
"""So many classes are listed; --json has all."""


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    data = typer.Typer(
        help="Look after images and labels.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    data.command("import")(import_labels)
    data.command()(data_check.check)
    data.command()(data_get.get)
    data.add_typer(data_split.group, name="split")
    app.add_typer(data, name="data")


def import_labels(
    source: Path = typer.Argument(metavar="FROM", help="The folder with the images, or a label file."),
    to: Path = typer.Option(
        None, "--to", metavar="FILE", help="The new file; otherwise labels.csv in the folder with the images."
    ),
    images: Path = typer.Option(
        None, "--images", metavar="FOLDER", help="The folder with the images, if FROM is a label file elsewhere."
    ),
    path_column: str = typer.Option(None, "--path-column", metavar="NAME", help="Column with the path of the image."),
    label_column: str = typer.Option(None, "--label-column", metavar="NAME", help="Column with the class."),
    split_column: str = typer.Option(
        None, "--split-column", metavar="NAME", help="Column with train, val, test or unlabeled."
    ),
    group_column: str = typer.Option(
        None, "--group-column", metavar="NAME", help="Column with what must not be divided, such as a person."
    ),
    delimiter: str = typer.Option(None, "--delimiter", metavar="CHARACTER", help="Between the cells of a CSV file."),
    force: bool = typer.Option(False, "--force", help="Replace the file if it exists."),
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write labels.csv for your images.

    Reads class folders, label files (CSV, TSV, JSON lines) and the exports of Label Studio, CVAT, COCO, FiftyOne and
    Hugging Face imagefolder. The new file has a line for each image: path, label (empty: unlabelled), split, and group
    if there are groups. Images stay where they are.

    \b
    Examples:
      mmctl data import photos --dry-run
      mmctl data import photos --to labels.csv
      mmctl data import export.csv --images photos
    """
    from dataclasses import replace

    from mmctl.exchange.table_files import target
    from mmctl.image_files.found import find_images
    from mmctl.image_files.written import labels_csv
    from mmctl.text import printable

    from_file = source.is_file()
    root = images or (source.parent if from_file else source)
    found = find_images(
        root,
        labels=source if from_file else None,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        delimiter=delimiter,
    )
    text = labels_csv(found.files)
    path = to or root / "labels.csv"
    if not dry_run:
        with target(path, force) as out:
            out.write(text.encode())
        more = len(find_images(root, labels=path).files) - len(found.files)
        if more:  # what lies in a folder beside train/, for example
            note = f"images left out here are unlabelled with this file, which has no row for them: {more}"
            found = replace(found, notes=(*found.notes, note))
    if as_json:
        print_json({"file": str(path), "dry_run": dry_run, "images": len(found.files), "kind": found.kind,
                    "parts": _parts(found), "classes": _by_class(found), "ignored": dict(found.ignored),
                    "notes": list(found.notes)})  # fmt: skip
        return
    _print_found(found)
    done = "would be written" if dry_run else "written"
    needs = ", with --force, since it exists" if dry_run and not force and path.exists() else ""
    typer.echo(f"{printable(path)}: {_images(found)} {done}{needs}")


def _images(found: Found) -> str:
    from mmctl.image_files.words import images

    return images(len(found.files))


def _parts(found: Found) -> dict[str, int]:
    from collections import Counter

    counts = Counter[str](one.part for one in found.files)
    return {part: counts[part] for part in PARTS if counts[part]}


def _by_class(found: Found) -> dict[str, dict[str, int]]:
    """Class -> part -> labelled images."""
    from collections import Counter

    counts = Counter[tuple[str, str]]((one.label, one.part) for one in found.files if one.label is not None)
    return {name: {part: counts[name, part] for part in PARTS if counts[name, part]} for name in found.classes}


def _print_found(found: Found) -> None:
    """Print the layout, the images of each part and class, and what was left out."""
    from mmctl.report import console
    from mmctl.text import printable

    out = console.console()
    parts = _parts(found)
    said = ", ".join(f"{count} {part}" for part, count in parts.items())
    console.print_line(out, f"{found.kind}: {_images(found)} ({said}), {len(found.classes)} classes")
    rows = list(_by_class(found).items())
    if rows:
        columns = [console.column("class", rows[:SHOWN], lambda row: printable(row[0]))]
        for part in parts:
            if any(part in counts for _, counts in rows):
                columns.append(
                    console.column(part, rows[:SHOWN], lambda row, part=part: str(row[1].get(part, 0)), right=True)  # type: ignore[misc]
                )
        console.print_table(columns, out)
    if len(rows) > SHOWN:
        console.print_line(out, f"... and {len(rows) - SHOWN} more classes")
    for reason, count in found.ignored.most_common():
        console.print_line(out, f"left out: {count} {reason}")
    for note in found.notes:
        console.print_line(out, f"note: {note}")
