"""`mmctl report`: runs as one HTML page, or as a site of static pages."""

from __future__ import annotations

from pathlib import Path

import typer

from mmctl.cli.options import Archived, Baseline, Checkpoint, Filter, Json, metrics_option
from mmctl.cli.runs import open_store, selected

MISSING = 10
"""So many parts that are missing are named on the terminal; the page names all."""


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(report)


def report(
    terms: Filter = None,
    output: Path = typer.Option(
        None, "--output", "-o", metavar="FILE", help="The page; report.html by default. An older report is replaced."
    ),
    site: Path = typer.Option(
        None,
        "--site",
        metavar="DIR",
        help="Write a site instead: an index and a page for each configuration. Again: only changed pages.",
    ),
    metric: list[str] = metrics_option(
        "A metric of the tables and curves; by default test/accuracy and test/balanced_accuracy, or what the runs have."
    ),
    baseline: Baseline = None,
    title: str = typer.Option(None, "--title", metavar="TEXT", help="Title of the page."),
    checkpoint: Checkpoint = "last",
    no_images: bool = typer.Option(False, "--no-images", help="Names in place of images; reads no data set for them."),
    no_embedding: bool = typer.Option(False, "--no-embedding", help="No embedding maps: loads no network."),
    force: bool = typer.Option(False, "--force", help="Replace files that are no reports, too."),
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """Write an HTML page about runs.

    Shows tables, curves, confusion matrices, embeddings, mistakes and provenance. FILTER can also be one run. Without
    FILTER, reports all runs. The page needs no other file and no network. A part that cannot be made, because the data
    set or a plugin is not here, is left out, and the page says why.

    \b
    Examples:
      mmctl report
      mmctl report @last -o last.html
      mmctl report labels:40 -b supervised -o labels40.html
      mmctl report --no-embedding --no-images
      mmctl report --site public
    """
    from mmctl.errors import UserError
    from mmctl.page.files import check_place, write_page
    from mmctl.page.report import Want, build, check_step
    from mmctl.page.site import make_site
    from mmctl.report.console import file_size
    from mmctl.report.json_output import print_json
    from mmctl.runs.progress import doing, tell
    from mmctl.text import printable

    if output is not None and site is not None:
        raise UserError("--output and --site: give one of them.")
    path = output or Path("report.html")
    check_step(checkpoint)
    if site is None:
        check_place(path, force)
    want = Want(title, tuple(metric), baseline, checkpoint, not no_images, not no_embedding)
    with open_store() as store:
        runs = selected(store, terms or [], archived)
        if site is None:
            with doing("making the page"):
                page = build(store, runs, want)
            changed, missing = write_page(path, page.html), page.missing
            done = f"{printable(path)}: {len(runs)} run{'s' * (len(runs) > 1)}, {file_size(path.stat().st_size)}"
            found = {"written": [str(path)] * changed, "unchanged": [str(path)] * (not changed), "missing": missing}
        else:
            made = make_site(store, runs, site, want, force, lambda page: tell(f"making {printable(site / page)}"))
            missing = made.missing
            done = (
                f"{printable(site / 'index.html')}: {len(made.written)} pages written, {len(made.unchanged)} unchanged"
            )
            found = {"written": made.written, "unchanged": made.unchanged, "stale": made.stale, "missing": missing}
            if made.stale:
                names = ", ".join(map(printable, made.stale))
                tell(f"note: the index does not lead to {len(made.stale)} older pages, which stay: {names}")
    for why in missing[:MISSING]:
        tell(f"note: {printable(why)}")
    if len(missing) > MISSING:
        tell(f"note: ... and {len(missing) - MISSING} more missing parts; the pages name them")
    if as_json:
        print_json(found)
    else:
        typer.echo(done)
