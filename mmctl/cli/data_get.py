"""`mmctl data get`: download a published data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mmctl.cli.options import Json, Quiet
from mmctl.completion.values import complete_published


def get(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the data set, such as cifar10.", autocompletion=complete_published
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder. Default: data/NAME in the project.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archive after it was unpacked.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Download a published data set.

    Checks its SHA-256 and unpacks it; a download that broke off continues.

    Names: cifar10, cifar100, svhn, svhn-extra (with 531,131 more images, 1.3 GB), stl10 (2.6 GB) and eurosat. For
    rafdb, fer2013, ferplus, medmnist and semi_aves it says where to get them.

    \b
    Examples:
      mmctl data get cifar10
      mmctl data get stl10 --to /data/stl10
    """
    from mmctl import project
    from mmctl.download.get import get as download
    from mmctl.download.published import find_set

    found = find_set(name)
    folder = Path(to) if to else project.data_root(None, found.folder or name)
    if not (quiet or as_json):
        typer.echo(f"{found.title}, {sum(f.size for f in found.files) / 2**20:,.0f} MiB; {found.terms}", err=True)
    with _bars(quiet or as_json) as watch:
        got = download(name, folder, keep=keep, watch=watch)
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"name": name, "folder": str(got.folder), "files": got.files, "unpacked": got.unpacked})
        return
    typer.echo(f"{got.folder}: " + ", ".join(f"{file} {state}" for file, state in got.files.items()))
    if got.unpacked:
        typer.echo(f"unpacked: {', '.join(got.unpacked)}")


@contextmanager
def _bars(quiet: bool) -> Iterator[Callable[[str], Callable[[int, int], None]] | None]:
    """A bar for each file on a terminal, none elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from mmctl.terminal import styled

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(file=styled(sys.stderr))
    ) as shown:

        def watch(name: str) -> Callable[[int, int], None]:
            task = shown.add_task(name, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield watch
