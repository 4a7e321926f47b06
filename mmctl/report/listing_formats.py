"""The listing of `mmctl ls` for files: Markdown as people see it, CSV and TSV as programs need it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from mmctl.report.listing_columns import ListColumn
from mmctl.report.results import ListingRow
from mmctl.run_folder.upgrade import Setting
from mmctl.text import printable, to_json


def markdown(rows: Sequence[ListingRow], columns: Sequence[ListColumn]) -> str:
    """A Markdown table with the texts of the terminal, without the columns that are empty."""
    texts = {one.name: [one.text(row) for row in rows] for one in columns}
    filled = [one for one in columns if any(texts[one.name])]
    lines = ["| " + " | ".join(_piped(one.title) for one in filled) + " |"]
    lines.append("|" + "|".join("---:" if one.right else "---" for one in filled) + "|")
    lines += ["| " + " | ".join(_piped(texts[one.name][n]) for one in filled) + " |" for n in range(len(rows))]
    return "\n".join(lines)


def separated(rows: Sequence[ListingRow], columns: Sequence[ListColumn], by: str) -> str:
    """A line for each run with the values as they are stored: shares from 0 to 1, times as ISO 8601 in UTC."""
    text = io.StringIO()
    out = csv.writer(text, delimiter=by, lineterminator="\n")
    out.writerow([printable(one.name) for one in columns])
    for row in rows:
        out.writerow([_raw(one.value(row)) for one in columns])
    return text.getvalue().rstrip("\n")


def _raw(value: Setting) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return printable(" ".join(map(str, value)))
    # Python writes all digits of a float, and nan and inf as most programs read them.
    return repr(value) if isinstance(value, float) else printable(to_json(value))


def _piped(text: str) -> str:
    return re.sub(r"([\\|<>*_`])", r"\\\1", text)
