"""A table for documents: the same rows as Markdown, LaTeX (booktabs) or an HTML page; and plain rows as CSV or TSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from mmctl.text import printable

Place = tuple[int, int]
"""Row and column of a cell."""
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?(?:( \+- )(?:\d*\.)?\d+)?")
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip
STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #bbb; --dim: #595959 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --line: #555; --dim: #a8a8a8 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 1.5rem auto;
  max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.3rem }
.table { overflow-x: auto }
table { border-collapse: collapse; border-block: 2px solid; margin: 0 0 .5rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .5rem 0 }
th, td { padding: .15rem .75rem .15rem 0; text-align: left; white-space: nowrap; font-weight: normal }
thead tr:last-child th { border-bottom: 1px solid var(--line); font-weight: 600 }
.group { text-align: center; border-bottom: 1px solid var(--line) }
.n { text-align: right }
.sub th { padding-left: 1rem }
.sub, .notes { color: var(--dim) }
.notes { list-style: none; padding: 0; margin: 0 0 1.5rem; font-size: 90% }
"""


@dataclass(frozen=True)
class Sheet:
    """A table: titles of columns, rows of texts (` +- ` before a deviation), and what stands above and below it."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]  # columns of numbers
    notes: Sequence[str] = ()
    groups: Sequence[str] = ()  # a heading for neighbouring columns, of each column
    letters: Mapping[Place, str] = field(default_factory=dict)  # footnotes
    best: frozenset[Place] = frozenset()
    near: frozenset[Place] = frozenset()  # not significantly worse than the best
    sub: frozenset[int] = frozenset()  # rows that belong to the one above


def document(sheets: Sequence[Sheet], form: str, title: str) -> str:
    """All tables in one of the formats markdown, latex and html."""
    if form == "html":
        return _page([html_table(sheet) for sheet in sheets], title)
    return "\n\n".join({"markdown": markdown, "latex": latex}[form](sheet) for sheet in sheets)


def separated(rows: Iterable[Sequence[object]], form: str) -> str:
    """Rows of plain values as csv or tsv, without the last newline; None is empty."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n", delimiter="\t" if form == "tsv" else ",")
    for row in rows:
        out.writerow([printable(value) if isinstance(value, str) else value for value in row])
    return text.getvalue().rstrip("\n")


def markdown(sheet: Sheet) -> str:
    """A Markdown table, notes below it; the best is bold, what is not significantly worse is in italics."""
    heads = [" ".join(filter(None, pair)) for pair in zip(_groups(sheet), sheet.heads, strict=True)]
    rows = ["| " + " | ".join(map(_piped, heads)) + " |"]
    rows.append("".join("|---:" if right else "|---" for right in sheet.right) + "|")
    for n, row in enumerate(sheet.rows):
        cells = []
        for k, text in enumerate(row):
            cell = _piped(text).replace(" +- ", " \u00b1 ")
            if text and ((n, k) in sheet.best or (n, k) in sheet.near or (not k and n in sheet.sub)):
                mark = "**" if (n, k) in sheet.best else "*"
                cell = f"{mark}{cell}{mark}"
            cells.append(cell + (f"<sup>{sheet.letters[n, k]}</sup>" if (n, k) in sheet.letters else ""))
        rows.append("| " + " | ".join(cells) + " |")
    above = [f"**{sheet.caption}**", ""] if sheet.caption else []
    notes = [f"- {note}" for note in _notes(sheet, "italics")]
    return "\n".join([*above, *rows, *(["", *notes] if notes else [])])


def latex(sheet: Sheet) -> str:
    """A LaTeX tabular for the booktabs package, notes below it; the best is bold, what is near it is underlined."""
    made = [
        f"% {_tex(sheet.caption)}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in sheet.right)}}}",
        r"\toprule",
    ]
    if any(sheet.groups):
        spans = _spans(sheet)
        cells = [rf"\multicolumn{{{n}}}{{c}}{{{_tex(group)}}}" if group else "" for group, n in spans]
        made.append(" & ".join(cells) + r" \\")
        at, rules = 1, []
        for group, n in spans:
            rules += [rf"\cmidrule(lr){{{at}-{at + n - 1}}}"] if group else []
            at += n
        made.append("".join(rules))
    made += [" & ".join(map(_tex, sheet.heads)) + r" \\", r"\midrule"]
    for n, row in enumerate(sheet.rows):
        cells = []
        for k, text in enumerate(row):
            cell = _tex_numbers(text) if sheet.right[k] else _tex(text)
            if text and (n, k) in sheet.best:
                cell = rf"\textbf{{\boldmath {cell}}}"
            elif text and (n, k) in sheet.near:
                cell = rf"\underline{{{cell}}}"
            cell = rf"\quad {cell}" if not k and n in sheet.sub else cell
            cells.append(cell + (rf"\textsuperscript{{{sheet.letters[n, k]}}}" if (n, k) in sheet.letters else ""))
        made.append(" & ".join(cells) + r" \\")
    notes = (rf"{{\footnotesize {_tex(note)}\par}}" for note in _notes(sheet, "underlined"))
    return "\n".join([*made, r"\bottomrule", r"\end{tabular}", "", *notes])


def html_table(sheet: Sheet) -> str:
    """A table of a page, in a box that scrolls where the page is narrow; notes below it."""
    caption = escaped(sheet.caption)
    made = [f'<div class="table" role="region" tabindex="0" aria-label="{caption}">']  # scrolls, by keyboard too
    made.append(f"<table>\n<caption>{caption}</caption>\n<thead>")
    if any(sheet.groups):
        spanned = (
            f'<th class="group" colspan="{n}" scope="colgroup">{escaped(group)}</th>' if group else "<td></td>" * n
            for group, n in _spans(sheet)
        )  # fmt: skip
        made.append(f"<tr>{''.join(spanned)}</tr>")
    sides = [' class="n"' if right else "" for right in sheet.right]
    heads = (
        f'<th scope="col"{side}>{escaped(head)}</th>' if head else "<td></td>"
        for head, side in zip(sheet.heads, sides, strict=True)
    )  # fmt: skip
    made.append(f"<tr>{''.join(heads)}</tr>\n</thead>\n<tbody>")
    for n, row in enumerate(sheet.rows):
        cells = []
        for k, text in enumerate(row):
            cell = escaped(text).replace(" +- ", " &plusmn; ")
            tag = "strong" if (n, k) in sheet.best else "u" if (n, k) in sheet.near else ""
            cell = f"<{tag}>{cell}</{tag}>" if tag and text else cell
            cell += f"<sup>{sheet.letters[n, k]}</sup>" if (n, k) in sheet.letters else ""
            cells.append(f"<td{sides[k]}>{cell}</td>" if k else f'<th scope="row">{cell}</th>')
        kind = ' class="sub"' if n in sheet.sub else ""
        made.append(f"<tr{kind}>{''.join(cells)}</tr>")
    made.append("</tbody>\n</table></div>")
    notes = "".join(f"<li>{escaped(note)}</li>\n" for note in _notes(sheet, "underlined"))
    return "\n".join([*made, *([f'<ul class="notes">\n{notes}</ul>'] if notes else [])])


def _page(parts: Sequence[str], title: str) -> str:
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escaped(title)}</title>",
        f"<style>\n{STYLE}</style>",
    ]
    lines = ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", f"<h1>{escaped(title)}</h1>"]
    lines += [*parts, "</body>", "</html>"]
    return "\n".join(lines)


def _notes(sheet: Sheet, near: str) -> list[str]:
    """What stands below a table, with what its marks mean."""
    worse = f"; {near}: not significantly worse, p > 0.05" if sheet.near else ""
    return [*sheet.notes, *([f"bold: the best mean{worse}"] if sheet.best else [])]


def _groups(sheet: Sheet) -> Sequence[str]:
    return sheet.groups or [""] * len(sheet.heads)


def _spans(sheet: Sheet) -> list[tuple[str, int]]:
    """Each group of neighbouring columns with their number; columns without one stand alone."""
    spans: list[tuple[str, int]] = []
    for group, same in groupby(sheet.groups):
        n = len(list(same))
        spans += [(group, n)] if group else [("", 1)] * n
    return spans


def _piped(text: str) -> str:
    return re.sub(r"([\\|<>*_`])", r"\\\1", text)


def escaped(text: str) -> str:
    """A text as HTML, in ASCII."""
    return html.escape(printable(text)).encode("ascii", "xmlcharrefreplace").decode()


def _tex(text: str) -> str:
    return "".join(TEX.get(char, char) for char in printable(text))


def _tex_numbers(text: str) -> str:
    """A cell of numbers, such as `88.4 +- 0.8` or `-66.7 .. +65.5`: each is set as mathematics."""
    return " to ".join(NUMBER.sub(_mathematics, _tex(part)) for part in text.split(" .. "))


def _mathematics(found: re.Match[str]) -> str:
    return "$" + found[0].replace(" +- ", r" \pm ") + "$"
