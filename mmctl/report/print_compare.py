"""The page of `mmctl compare`: a table for each panel and metric, then the settings that differ between the rows.

The same tables go to the terminal and into documents; a deviation is written as ` +- ` until then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console

from mmctl.report.compare_table import Block, Look, Named, dict_of_names, metric_block, named
from mmctl.report.comparison import ComparedRun, Comparison, Panel
from mmctl.report.console import column, figure, plus_minus, print_heading, print_line, print_table
from mmctl.report.print_images import image_blocks
from mmctl.report.print_runs import setting
from mmctl.report.sheet import Sheet, document
from mmctl.run_folder.upgrade import Setting
from mmctl.text import printable

RECORD = (
    "dataset", "labels", "data_hash", "recipe", "names", "method", "config_id", "x", "amount", "metric", "reducer", "n",
    "seeds", "nc", "nc_counted", "mean", "std", "level", "low", "high", "mean_with_nc", "published", "published_std",
    "baseline", "diff", "diff_low", "diff_high", "effect", "test", "p", "p_holm", "p_min", "images", "better", "worse",
    "p_images", "p_images_holm", "images_diff", "images_low", "images_high",
)  # fmt: skip
"""The columns of csv and tsv; metrics are fractions."""
TESTED = ("diff", "low", "high", "effect", "name", "p", "p_holm", "p_min")
WIDE = 6
"""With more recipes than this, settings are printed with a line for each of them."""
MOST, NOTES = 200, 20
"""So many rows of a panel and notes are printed on a terminal."""
ROWS = 20
"""The number of differing settings that are shown; --all-keys shows all."""


def print_comparison(found: Comparison, out: Console, look: Look) -> None:
    """Every panel of a comparison, on a terminal."""
    for panel in found["panels"]:
        print_heading(out, _heading(panel, found))
        for block in _blocks(panel, found, look):
            _print(block, out)
    if (settings := _settings(found, look, MOST)) is not None:
        _print(settings, out)


def comparison_document(found: Comparison, form: str, look: Look) -> str:
    """The same as a document: markdown, latex or html."""
    return document(comparison_sheets(found, look), form, "Comparison of runs")


def comparison_sheets(found: Comparison, look: Look) -> list[Sheet]:
    """The same as tables for documents."""
    sheets = []
    for panel in found["panels"]:
        for block in _blocks(panel, found, look, marks=True):
            sheets.append(_sheet(block, f"{_heading(panel, found)}: "))
    if (settings := _settings(found, look)) is not None:
        sheets.append(_sheet(settings, ""))
    return sheets


def comparison_records(found: Comparison) -> Iterator[Sequence[object]]:
    """A line for each panel, configuration and metric, below the names of the columns."""
    yield RECORD
    for panel in found["panels"]:
        compute = panel["compute"]
        for row in panel["configurations"]:
            for number, metric in enumerate(panel["metrics"]):
                one = row["values"][number]
                published, against, every = one["published"], one.get("against"), one["all_runs"]
                yield (
                    panel["dataset"], panel["labels"], panel["data_hash"], row["recipe"], " ".join(row["names"]),
                    row["method"], row["config_id"], compute and compute["x"], compute and compute["amount"],
                    metric["metric"], metric["reducer"], one["n"], row["seeds"], one["nc"], one["nc_counted"],
                    one["mean"], one["std"], found["level"], one["low"], one["high"], every and every["mean"],
                    published and published["value"], published and published["std"], panel["baseline"],
                    *(against.get(key) if against else None for key in TESTED),
                    *_image_record(panel, row["config_id"], metric["metric"]),
                )  # fmt: skip


def _image_record(panel: Panel, config_id: str, metric: str) -> Sequence[object]:
    for found in panel.get("per_image", ()):
        for row in found["rows"]:
            for one in row["differences"]:
                if (row["config_id"], one["metric"]) == (config_id, metric):
                    test = (found["images"], row["better"], row["worse"], row["p"], row["p_holm"])
                    return *test, one["diff"], one["low"], one["high"]
    return (None,) * 8


def _print(block: Block, out: Console) -> None:
    if block.caption:
        print_line(out, f"\n{block.caption}")
    if block.columns:
        for one in block.columns:
            one.cells[:] = [text.replace(" +- ", plus_minus(out)) for text in one.cells]
        print_table(block.columns, out)
    for text, style in block.notes:
        print_line(out, text, style)


def _sheet(block: Block, before: str) -> Sheet:
    shown = [n for n, one in enumerate(block.columns) if any(one.cells)]
    mean = shown.index(block.mean) if block.mean in shown else 0
    columns = [block.columns[n] for n in shown]
    return Sheet(
        before + block.caption if block.caption else before.removesuffix(": "),
        [one.title for one in columns],
        list(zip(*(one.cells for one in columns), strict=True)),
        [one.right for one in columns],
        [text for text, _ in block.notes],
        best=frozenset((n, mean) for n in block.best),
        near=frozenset((n, mean) for n in block.near),
    )


def _heading(panel: Panel, found: Comparison) -> str:
    parts = [printable(panel["dataset"]) or "data unknown", f"{panel['labels'] or '?'} labels"]
    if panel["data_hash"] and len(found["panels"]) > 1:
        parts.append(f"data {printable(panel['data_hash'])[:12]}")
    if (compute := panel["compute"]) is not None:
        least = "" if compute["given"] else ", the least that a completed run took (--at sets another amount)"
        parts.append(f"each run up to {compute['amount']:,.6g} {compute['x']}{least}")
    return ", ".join(parts)


def _blocks(panel: Panel, found: Comparison, look: Look, marks: bool = False) -> Iterator[Block]:
    every = named(panel["configurations"])
    rows, notes = every, [f"note: {printable(note)}" for note in panel["notes"]]
    if not marks:  # on a terminal
        rows = [(n, row) for k, (n, row) in enumerate(every) if k < MOST or row["config_id"] == panel["baseline"]]
        if len(rows) < len(every):
            notes.append(f"the first {len(rows):,} of {len(every):,} rows; all are in --json and other formats")
        notes[NOTES:] = [f"... and {len(notes) - NOTES} more notes: --json"] if len(notes) > NOTES else []
    for number, metric in enumerate(panel["metrics"]):
        yield metric_block(panel, rows, number, metric, found, look, marks)
    if notes:
        yield Block("", (), [(note, "yellow") for note in notes])
    yield from image_blocks(panel, dict_of_names(every), look)
    if look.per_seed:
        yield _runs(panel, rows, look)


def _runs(panel: Panel, rows: Sequence[Named], look: Look) -> Block:
    runs = [(shown, run) for shown, row in rows for run in row["runs"]]
    columns = [
        column("recipe", runs, lambda pair: pair[0]),
        column("seed", runs, lambda pair: str(pair[1]["seed"]), right=True),
        column("split", runs, lambda pair: printable(pair[1]["split_hash"])[:8], 3),
        column("state", runs, lambda pair: _state(pair[1])),
    ]
    for number, metric in enumerate(panel["metrics"]):
        title = printable(metric["metric"])
        columns.append(column(title, runs, partial(_value, number, metric["metric"], look.digits), right=True))
    columns.append(column("run", runs, lambda pair: printable(pair[1]["uid"]), 4))
    return Block("Runs", columns)


def _state(run: ComparedRun) -> str:
    skipped = run["state"] == "completed" and not run["counted"]
    return printable(run["state"]) + (" (not counted)" if skipped else "")


def _value(number: int, name: str, digits: int, pair: tuple[str, ComparedRun]) -> str:
    return figure(pair[1]["values"][number], name.partition("@")[0], digits=digits)


def _settings(found: Comparison, look: Look, most: int | None = None) -> Block | None:
    """The settings that differ, once for all panels; most: so many configurations are shown."""
    keys, columns = found["settings"]["keys"], found["settings"]["columns"][:most]
    if not keys:
        return None
    shown = keys if look.all_keys else keys[:ROWS]
    names: dict[str, str] = {}
    labels: dict[str, int | None] = {}
    for panel in found["panels"]:
        names |= dict_of_names(named(panel["configurations"]))
        labels |= {row["config_id"]: panel["labels"] for row in panel["configurations"]}
    titles = [names[one["config_ids"][0]] for one in columns]
    times = Counter(titles)
    for number, (one, title) in enumerate(zip(columns, titles, strict=True)):
        if times[title] > 1:
            own = sorted({str(labels[id] or "?") for id in one["config_ids"]})
            titles[number] = f"{title} ({', '.join(own)} labels)"
    if len(columns) > WIDE:  # a line for each recipe
        made = [column("recipe", titles, str)]
        for number, key in enumerate(shown):
            made.append(column(printable(key), [one["values"][number] for one in columns], setting, number + 1))
    else:
        made = [column("key", shown, printable)]
        for number, (one, title) in enumerate(zip(columns, titles, strict=True)):
            values: Sequence[Setting] = one["values"][: len(shown)]
            made.append(column(title, values, setting, number + 1 if number else 0))
    more = [(f"... and {len(keys) - len(shown)} more: --all-keys", "dim")] if len(keys) > len(shown) else []
    return Block("Settings" if look.all_keys else "Settings that differ", made, more)
