"""Reads an HTML page as strictly as a browser never does: what tests of pages ask for."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "br", "img", "link", "input", "hr"}
"""Elements that are not closed."""
DRAWN = {"path", "rect", "polyline", "polygon"}
"""Elements of SVG that may close themselves."""


class HtmlPage(HTMLParser):
    """Elements, ids, links, headings and texts of a page; AssertionError if an element is not closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html, self.elements, self.open = html, list[tuple[str, dict[str, str]]](), list[str]()
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "not closed"
        self.ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        self.links = [attributes["href"] for tag, attributes in self.elements if tag == "a"]
        self.text = " ".join(self.words)

    @classmethod
    def of(cls, path: Path) -> HtmlPage:
        return cls(path.read_text("ascii"))

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        assert not [name for name in names if name.startswith("on")], f"<{tag}> has a script"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN, tag
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(" ".join(data.split()))


def check_page(page: HtmlPage) -> None:
    """What holds for every page of mmctl: whole, on its own, and for people who do not see or do not use a mouse."""
    assert page.html.startswith("<!doctype html>\n<html lang=")
    assert len(page.ids) == len(set(page.ids))
    for wanted in ("main", "nav", "header", "footer", "h1"):
        assert len(page.all(wanted)) == 1, wanted
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels
    assert "#main" in page.links
    for target in page.links:
        assert "://" not in target
        assert not target.startswith("#") or target[1:] in page.ids, target
    for image in page.all("img"):
        assert image["alt"]
        assert image["src"].startswith("data:image/")
    for drawing in page.all("svg"):
        assert drawing["role"] == "img"
        assert all(one in page.ids for one in drawing["aria-labelledby"].split())
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "link", "base", "form"), tag
        for name in ("aria-labelledby", "aria-describedby"):
            assert all(one in page.ids for one in attributes.get(name, "").split())
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert not re.match(r"\s*(https?:|//|javascript:|file:)", attributes.get(name, ""), re.I), attributes
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") in ("col", "row", "colgroup") for head in page.all("th"))
    assert len(page.all("figcaption")) == len(page.all("figure"))
    assert "url(" not in page.html
    assert "@import" not in page.html
    without_names = page.html.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(src|href)=\"?(https?:)?//", without_names)
    policies = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; ")
