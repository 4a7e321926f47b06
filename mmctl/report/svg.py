"""Charts as SVG: for an image file, or as a part of an HTML page.

    svg(chart)                              # a whole file; `width` in pixels
    page = f"<style>{STYLE}</style>" + svg(chart, width=420, inline=True) + svg(other, inline=True)
    stacked([chart, other])                 # several charts, one below the other, in one file
    page([chart, other])                    # the same as an HTML page

The colours are the variables in STYLE, in a light and a dark set, so that a chart follows the theme of the page or of
the system; a page with a switch of its own sets `data-theme="light"` or `"dark"` on its root. A chart has a title, a
description in words (`chart.described()`) and colours that colour-blind people can tell apart; lines also differ in
their dashes. Letters shrink with an image that is made smaller, so give narrow screens a `width` near theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from html import escape

from mmctl.report.charts import Chart
from mmctl.report.shapes import Box, Drawing, Shape, Stroke, Words, draw
from mmctl.text import printable

WIDTH = 640
LIGHT = {
    "page": "#ffffff", "words": "#1a1a1a", "faint": "#595959", "grid": "#e2e2e2", "axis": "#767676",
    "line0": "#0067a5", "line1": "#c84a00", "line2": "#007a5a", "line3": "#a8447c", "line4": "#7d6200",
    "line5": "#3d3d3d", "heat": "#2b8cc4", "on-pale": "#000000", "on-full": "#000000",
}  # fmt: skip
DARK = {
    "page": "#16181c", "words": "#ececec", "faint": "#b0b0b0", "grid": "#34373d", "axis": "#8c8c8c",
    "line0": "#5ab4f0", "line1": "#ff8f4d", "line2": "#2cc79a", "line3": "#ee9bcb", "line4": "#e8c34a",
    "line5": "#d8d8d8", "heat": "#5ab4f0", "on-pale": "#ffffff", "on-full": "#000000",
}  # fmt: skip
"""Okabe and Ito's colours for all kinds of colour vision, darker and lighter for enough contrast on either page."""


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--mm-{name}:{colour}" for name, colour in colours.items())


STYLE = (
    f":root{{{_variables(LIGHT)}}}"
    f'@media(prefers-color-scheme:dark){{:root:not([data-theme="light"]){{{_variables(DARK)}}}}}'
    f':root[data-theme="dark"]{{{_variables(DARK)}}}'
    ".mm-chart{max-width:100%;height:auto;font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
    ".mm-chart text{dominant-baseline:central;font-variant-numeric:tabular-nums}"
)
"""What all charts of a page share."""


def svg(chart: Chart, *, width: int = WIDTH, inline: bool = False) -> str:
    """A chart as SVG; inline: as a part of a page that has STYLE, without a background."""
    drawing = draw(chart, width)
    body = elements(drawing)
    if not inline:
        body = f'<style>{STYLE}</style><rect width="100%" height="100%" fill="var(--mm-page)"/>{body}'
    return framed(drawing, chart.title, chart.described(), body)


def stacked(charts: Sequence[Chart], *, width: int = WIDTH) -> str:
    """Charts one below the other, as one file."""
    if len(charts) == 1:
        return svg(charts[0], width=width)
    parts, y = [f'<style>{STYLE}</style><rect width="100%" height="100%" fill="var(--mm-page)"/>'], 0.0
    for chart in charts:
        drawing = draw(chart, width)
        body = framed(drawing, chart.title, chart.described(), elements(drawing))
        parts.append(f'<g transform="translate(0 {_round(y)})">{body}</g>')
        y += drawing.height
    titles = "; ".join(chart.title for chart in charts)
    return framed(Drawing(width, y), titles, f"{len(charts)} charts.", "".join(parts))


def page(charts: Sequence[Chart], *, width: int = WIDTH) -> str:
    """Charts one below the other, as an HTML page without scripts."""
    title = _text("; ".join(chart.title for chart in charts))
    shown = "\n".join(f"<figure>{svg(chart, width=width, inline=True)}</figure>" for chart in charts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{title}</title><style>{STYLE}body{{margin:1rem;background:var(--mm-page)}}'
        f"figure{{margin:0 0 1.5rem}}</style></head><body>\n{shown}\n</body></html>\n"
    )


def framed(drawing: Drawing, title: str, words: str, body: str, name: str = "") -> str:
    """The svg element; screen readers say its title and description. name: the beginning of its ids."""
    name = name or f"mm{zlib.crc32((title + words + body).encode('utf-8', 'replace')):08x}"
    size = f"{_round(drawing.width)} {_round(drawing.height)}"
    wide, high = size.split()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mm-chart" viewBox="0 0 {size}" width="{wide}" height="{high}" '
        f'role="img" aria-labelledby="{name}t {name}d">'
        f'<title id="{name}t">{_text(title)}</title><desc id="{name}d">{_text(words)}</desc>{body}</svg>'
    )


def elements(drawing: Drawing) -> str:
    """The shapes of a drawing."""
    return "".join(map(_element, drawing.shapes))


def _element(shape: Shape) -> str:
    match shape:
        case Stroke(points, role, dash, closed):
            places = " ".join(f"{_round(x)},{_round(y)}" for x, y in points)
            if closed:
                return f'<polygon points="{places}" fill="{_colour(role)}" fill-opacity="0.18"/>'
            dashes = f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""
            wide = "2" if role.startswith("line") else "1.5" if role == "whisker" else "1"
            return (
                f'<polyline points="{places}" fill="none" stroke="{_colour(role)}" stroke-width="{wide}" '
                f'stroke-linejoin="round"{dashes}/>'
            )
        case Box(x, y, width, height, role, opacity, tip, round_):
            tipped = f"><title>{_text(tip)}</title></rect>" if tip else "/>"
            seen = f' fill-opacity="{_round(opacity)}"' if opacity < 1 else ""
            corner = f' rx="{_round(width / 2)}"' if round_ else ""
            return (
                f'<rect x="{_round(x)}" y="{_round(y)}" width="{_round(width)}" height="{_round(height)}"{corner} '
                f'fill="{_colour(role)}"{seen}{tipped}'
            )
        case Words(x, y, text, role, anchor, size, upright):
            turned = f' transform="rotate(-90 {_round(x)} {_round(y)})"' if upright else ""
            bold = ' font-weight="600"' if role == "title" else ""
            return (
                f'<text x="{_round(x)}" y="{_round(y)}" fill="{_colour(role)}" font-size="{size}" '
                f'text-anchor="{anchor}"{bold}{turned}>{_text(text)}</text>'
            )


def colour_of(role: str) -> str:
    """The name of the colour of a role: bands and dots have that of their line."""
    named = {"title": "words", "whisker": "words"}.get(role, role)
    return named.replace("band", "line").replace("fill", "line")


def _colour(role: str) -> str:
    return f"var(--mm-{colour_of(role)})"


def _round(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    return escape(printable(text))
