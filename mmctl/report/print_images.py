"""The part of `mmctl compare --per-example` that goes image by image: tests over images, and the images themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmctl.report.compare_table import Block, Look
from mmctl.report.comparison import ComparedImage, ImagesAgainst, Panel, PerImage
from mmctl.report.console import Column, column, figure, p_value
from mmctl.text import printable

SHOWN = 10
"""So many images are listed for each side; --json has all."""
EXPLAINED = (
    "better, worse: images that more, or fewer, of its networks get right than of the baseline's; McNemar's exact test",
    "differences and intervals: bootstrap over the images, with these networks (the tests above: over seeds)",
)


def image_blocks(panel: Panel, names: Mapping[str, str], look: Look) -> Iterator[Block]:
    """The tables of a panel; names: of the configurations, by id."""
    base = names.get(panel["baseline"] or "", "")
    for found in panel.get("per_image", ()):
        notes = list(EXPLAINED) if found["rows"] else []
        if found["missing"]:
            notes.append(
                f"{len(found['missing'])} runs have no predictions that can be read; these commands make them:"
            )
            notes += [f"  {printable(line)}" for line in found["missing"][: 2 * SHOWN]]
            if len(found["missing"]) > 2 * SHOWN:
                notes.append(f"  ... and {len(found['missing']) - 2 * SHOWN} more: --json")
        caption = f"Image by image: {printable(found['what'])}, {found['images']} images"
        columns = _tests(found, names, base, look.digits) if found["rows"] else []
        yield Block(caption, columns, [(note, "dim") for note in notes])
        if look.per_seed:
            pairs = [(names[row["config_id"]], pair) for row in found["rows"] for pair in row["pairs"]]
            columns = [
                column("recipe", pairs, lambda one: one[0]),
                column("seed", pairs, lambda one: str(one[1]["seed"]), right=True),
                column("better", pairs, lambda one: str(one[1]["better"]), right=True),
                column("worse", pairs, lambda one: str(one[1]["worse"]), right=True),
                column("p (McNemar)", pairs, lambda one: p_value(one[1]["p"]), right=True),
            ]
            if pairs:
                yield Block(f"Networks of the same seed, vs {base}", columns)
        for row in found["rows"]:
            yield from _images(row, names[row["config_id"]], base)


def _tests(found: PerImage, names: Mapping[str, str], base: str, digits: int) -> list[Column]:
    rows = found["rows"]
    columns = [
        column("recipe", rows, lambda row: names[row["config_id"]]),
        column("networks", rows, _networks, 2, right=True),
        column("better", rows, lambda row: str(row["better"]), right=True),
        column("worse", rows, lambda row: str(row["worse"]), right=True),
        column("p (McNemar)", rows, lambda row: p_value(row["p"]), right=True),
        column("p (Holm)", rows, lambda row: p_value(row["p_holm"]), 3, right=True),
    ]
    for number, one in enumerate(rows[0]["differences"]):
        name = one["metric"].partition("@")[0].rpartition("/")[2]
        differences = [row["differences"][number] for row in rows]
        columns.append(
            column(
                f"{name} vs {base}", differences, lambda d: figure(d["diff"], "accuracy", True, digits), 1, right=True
            )
        )
        columns.append(
            column(
                "its interval",
                differences,
                lambda d: " .. ".join(figure(d[key], "accuracy", True, digits) for key in ("low", "high")),
                4,
                right=True,
            )
        )
    return columns


def _images(row: ImagesAgainst, name: str, base: str) -> Iterator[Block]:
    networks = row["networks"]
    for better in (True, False):
        images = [one for one in row["images"] if (one["ours"] > one["theirs"]) == better]
        if not images:
            continue
        side, other = (name, base) if better else (base, name)
        shown = images[:SHOWN]
        columns = [
            column("image", shown, lambda one: printable(one["id"])),
            column("true class", shown, lambda one: printable(one["true"])),
            column(name, shown, lambda one: _said(one, "ours", networks)),
            column(base, shown, lambda one: _said(one, "theirs", networks)),
        ]
        more = [(f"... and {len(images) - SHOWN} more: --json", "dim")] if len(images) > SHOWN else []
        than = f"and {other} wrong" if networks == 1 else f"more often than {other}"
        yield Block(f"{len(images)} images that {side} gets right {than}", columns, more)


def _networks(row: ImagesAgainst) -> str:
    """How many of each side are compared; those of other seeds are left out."""
    return str(row["networks"]) + (f" ({row['left_out']} left out)" if row["left_out"] else "")


def _said(image: ComparedImage, side: str, networks: int) -> str:
    """What the networks of a side predict; of several, how many are right too."""
    said, share = (image["ours_say"], image["ours"]) if side == "ours" else (image["theirs_say"], image["theirs"])
    return printable(said) + (f" ({round(share * networks)} of {networks} right)" if networks > 1 else "")
