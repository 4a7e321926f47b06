"""The parts of an HTML page: escaped text, sections, tables, figures, and the document around them.

A function that takes `text` escapes it; one that takes `html` does not. The pages are ASCII.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmctl.page.style import SCRIPT, STYLE
from mmctl.report import sheet
from mmctl.text import printable

MARK = '<meta name="generator" content="mmctl report">'
"""By this a later report knows that a file is one and may be replaced."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{}'; base-uri 'none'; "
POLICY += "form-action 'none'"


def text(value: object) -> str:
    """A text as HTML: nothing in it is markup."""
    return sheet.escaped(printable(value))


class Ids:
    """Ids of a page, each one once; and a place for each line, which looks the same in all charts of the page."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._places: dict[tuple[str, ...], int] = {}

    def place(self, key: tuple[str, ...]) -> int:
        """The place of a line, by its key."""
        return self._places.setdefault(key, len(self._places))

    def new(self, words: str) -> str:
        """An id that looks like the words."""
        base = re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")[:60] or "part"
        name, n = base, 1
        while name in self._taken:
            n += 1
            name = f"{base}-{n}"
        self._taken.add(name)
        return name


@dataclass
class Section:
    """A part of a page with a heading of its own."""

    id: str
    title: str
    body: list[str] = field(default_factory=list)

    def add(self, *html: str) -> None:
        """Put something at its end."""
        self.body += html

    def heading(self, words: str) -> None:
        """A heading within it."""
        self.add(f"<h3>{text(words)}</h3>")

    def absent(self, why: str) -> None:
        """Say in one line why something is not there, and how to get it."""
        self.add(f'<p class="absent">{text(why)}</p>')

    def html(self) -> str:
        """The whole section."""
        body = "\n".join(self.body)
        head = f'<h2 id="{self.id}-h">{text(self.title)}</h2>'
        return f'<section id="{self.id}" aria-labelledby="{self.id}-h">{head}\n{body}\n</section>'


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] = (), kind: str = ""
) -> str:
    """A table in a box that scrolls where the page is narrow; caption and heads are texts, the cells HTML.

    right: columns of numbers, by default all but the first; kind: a class, such as `sort`.
    """
    sides = ['class="n"' if one else "" for one in right or [False, *[True] * (len(heads) - 1)]]
    head = "".join(
        f'<th scope="col"{" " * bool(side)}{side}>{text(one)}</th>' for one, side in zip(heads, sides, strict=True)
    )
    body = []
    for row in rows:
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [f"<td{' ' * bool(side)}{side}>{cell}</td>" for cell, side in zip(row[1:], sides[1:], strict=True)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    named = f' class="{kind}"' if kind else ""
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{text(caption)}"><table{named}>'
        f"<caption>{text(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def details(summary: str, html: str) -> str:
    """Something that a click or a key opens."""
    return f"<details><summary>{text(summary)}</summary>\n{html}\n</details>"


def figure(svg: str, caption: str, numbers: str = "", notes: Sequence[str] = ()) -> str:
    """A chart with its caption and notes (texts) and its numbers (HTML) below it."""
    said = "".join(f"<small>{text(note)}</small>" for note in notes)
    more = details("Numbers", numbers) if numbers else ""
    return f"<figure><figcaption><strong>{text(caption)}</strong>{said}</figcaption>\n{svg}\n{more}</figure>"


def grid(parts: Sequence[str]) -> str:
    """Figures side by side, as many as have room."""
    return '<div class="grid">\n' + "\n".join(parts) + "\n</div>" if parts else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names (texts) and what they are (HTML); those that are empty are left out."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{html}</dd>" for name, html in pairs if html) + "</dl>"


def code(value: str) -> str:
    """A command or a file, to be copied."""
    lines = "\n".join(text(line) for line in value.expandtabs(4).split("\n"))
    return f'<pre tabindex="0"><code>{lines}</code></pre>'


def link(target: str, words: object) -> str:
    """A link to a place of this page or of the site."""
    return f'<a href="{text(target)}">{text(words)}</a>'


def document(title: str, lead: str, sections: Sequence[Section], up: str = "", digest: str = "") -> str:
    """A whole page; lead: HTML below its title; up: the page of all runs; digest: of what it is made from."""
    hashed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    items = [f"<li>{link(up, 'All runs')}</li>"] if up else []
    items += [f"<li>{link('#' + one.id, one.title)}</li>" for one in sections]
    known = f'<meta name="mmctl-input" content="{digest}">' if digest else ""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8">{MARK}{known}',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(hashed)}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(title)}</title>",
            f"<style>{STYLE}</style></head>",
            '<body><a class="skip" href="#main">Skip to the content</a>',
            f"<header><h1>{text(title)}</h1>\n{lead}</header>",
            f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>',
            '<main id="main" tabindex="-1">',
            *(one.html() for one in sections),
            "</main>",
            "<footer>Made by mmctl report.</footer>",
            f"<script>{SCRIPT}</script>",
            "</body></html>",
            "",
        ]
    )
