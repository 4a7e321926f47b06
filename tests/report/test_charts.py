"""Charts as data, as SVG and as PNG: places, gaps, words, colours that can be told apart."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from PIL import Image

from mmctl.report import shapes
from mmctl.report.charts import Bar, BarChart, Chart, HeatMap, Line, LineChart, number, ticks
from mmctl.report.png import png
from mmctl.report.svg import DARK, LIGHT, STYLE, stacked, svg

NS = "{http://www.w3.org/2000/svg}"
CURVES = LineChart(
    "test/accuracy",
    [
        Line("mixmatch", [(0, 0.5), (50, 0.7), (100, 0.9)], [(0, 0.4, 0.6), (50, 0.6, 0.8), (100, 0.85, 0.95)]),
        Line("with a gap", [(0, 0.1), (10, 0.2), (20, math.nan), (30, 0.3), (40, 0.4)]),
    ],
    "step",
    "test/accuracy, %",
    share=True,
)
BARS = BarChart("accuracy", [Bar("a", 0.9, 0.85, 0.95), Bar("b", 0.5)], "test/accuracy, %", share=True)
MATRIX = HeatMap("confusion", [[0.9, 0.1], [0.25, 0.75]], ["cat", "dog"], ["cat", "dog"])


def elements(text: str, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(text).iter(NS + tag))


def places(element: ET.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]  # type: ignore[misc]


def test_a_line_stands_where_its_values_are() -> None:
    text = svg(CURVES)
    first, *_ = [one for one in elements(text, "polyline") if "line0" in one.attrib["stroke"]][1:]  # after the legend
    (x0, y0), (x1, y1), (x2, y2) = places(first)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.02)
    assert y0 > y2, "larger values are higher"
    (band,) = elements(text, "polygon")
    assert len(places(band)) == 6
    assert min(y for _, y in places(band)) < y2 < y0 < max(y for _, y in places(band))


def test_a_value_that_is_nan_is_a_gap() -> None:
    drawn = [one for one in elements(svg(CURVES), "polyline") if "line1" in one.attrib["stroke"]][1:]
    assert [len(places(one)) for one in drawn] == [2, 2]


@pytest.mark.parametrize("chart", [CURVES, BARS, MATRIX], ids=["lines", "bars", "matrix"])
@pytest.mark.parametrize("width", [320, 640, 1600])
def test_nothing_stands_outside_of_the_image(chart: Chart, width: int) -> None:
    drawing = shapes.draw(chart, width)
    for shape in drawing.shapes:
        match shape:
            case shapes.Stroke(points):
                xs, ys = [x for x, _ in points], [y for _, y in points]
            case shapes.Box(x, y, wide, high):
                xs, ys = [x, x + wide], [y, y + high]
            case shapes.Words(x, y, text, anchor=anchor, size=size, upright=False):
                left = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * shapes.length(text, size)
                xs, ys = [x - left, x - left + shapes.length(text, size)], [y]
            case shapes.Words(x, y):
                xs, ys = [x], [y]
        assert min(xs) >= 0, shape
        assert max(xs) <= width, shape
        assert min(ys) >= 0, shape
        assert max(ys) <= drawing.height, shape


def test_the_axis_of_a_share_ends_where_a_share_does() -> None:
    flat = LineChart("kept", [Line("a", [(0, 1.0), (1, 1.0)])], share=True)
    assert flat.bounds() == (0, 1, 0.9, 1.0)
    assert LineChart("none", [Line("a", [(0, 0.0), (1, 0.0)])], share=True).bounds() == (0, 1, 0.0, 0.5)
    assert LineChart("loss", [Line("a", [(0, 2.0), (1, 2.0)])]).bounds() == (0, 1, 1.8, 2.2)


def test_a_chart_is_said_in_words() -> None:
    root = ET.fromstring(svg(CURVES))
    named = root.attrib["aria-labelledby"].split()
    found = {one.attrib["id"]: one.text for one in root if one.tag in (NS + "title", NS + "desc")}
    assert [found[name] for name in named] == ["test/accuracy", CURVES.described()]
    assert "mixmatch: from 50.0 % at 0 to 90.0 % at 100" in CURVES.described()
    assert "a: 90.0 % (85.0 % to 95.0 %)" in BARS.described()
    assert "dog: 75.0 % right" in MATRIX.described()
    assert "dog as cat: 25.0 %" in MATRIX.described()
    assert "cat as dog: 10.0 %" in [one.text or "" for one in elements(svg(MATRIX), "title")]


def test_labels_cannot_add_elements_or_control_characters() -> None:
    label = '<script>alert("1")</script>&\x1b[31m\x00'
    for chart in (
        LineChart(label, [Line(label, [(0, 1), (1, 2)])], label, label),
        BarChart(label, [Bar(label, 1.0)], label),
        HeatMap(label, [[1.0]], [label], [label], label, label),
    ):
        text = svg(chart, inline=True)
        assert not elements(text, "script")
        assert all(char.isprintable() for char in text)
        assert label.removesuffix("\x1b[31m\x00") in str(ET.fromstring(text)[0].text)


def test_charts_of_a_page_share_their_style() -> None:
    assert "<style>" in svg(BARS)
    assert "<style>" not in svg(BARS, inline=True)
    assert "prefers-color-scheme:dark" in STYLE
    both = ET.fromstring(stacked([CURVES, MATRIX]))
    assert len(list(both.iter(NS + "style"))) == 1
    assert len(list(both.iter(NS + "svg"))) == 3
    assert stacked([BARS]) == svg(BARS)
    identifiers = [one.attrib["id"] for one in both.iter() if "id" in one.attrib]
    assert len(set(identifiers)) == len(identifiers)


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(over: str, under: str, share: float) -> str:
    pairs = [(int(over[n : n + 2], 16), int(under[n : n + 2], 16)) for n in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read_on_their_page(colours: dict[str, str]) -> None:
    """The contrasts that WCAG 2 asks for: 4.5 for letters, 3 for lines."""
    page = colours["page"]
    for role, least in [("words", 4.5), ("faint", 4.5), ("axis", 3.0), *((f"line{n}", 3.0) for n in range(6))]:
        assert contrast(colours[role], page) >= least, role
    for percent in range(101):
        cell = mixed(colours["heat"], page, percent / 100)
        assert contrast(colours[shapes.on_heat(percent / 100)], cell) >= 4.5, percent


def test_lines_differ_in_colour_or_dashes_for_everyone() -> None:
    looks = [(n % shapes.COLOURS, tuple(shapes.DASHES[n % len(shapes.DASHES)])) for n in range(12)]
    assert len(set(looks)) == 12
    assert {role for role in LIGHT if re.fullmatch(r"line\d", role)} == {f"line{n}" for n in range(shapes.COLOURS)}
    for colours in (LIGHT, DARK):
        assert len({colours[f"line{n}"] for n in range(shapes.COLOURS)}) == shapes.COLOURS
    for a, b in combinations(range(4), 2):  # of the first four, no two depend on their colour alone
        assert shapes.DASHES[a] != shapes.DASHES[b]


@pytest.mark.parametrize(
    ("low", "high", "share", "log", "texts"),
    [
        (0, 1000, False, False, ["0", "200", "400", "600", "800", "1000"]),
        (0.6, 0.97, True, False, ["60", "70", "80", "90"]),
        (0.912, 0.9165, True, False, ["91.2", "91.3", "91.4", "91.5", "91.6"]),
        (0.001, 1000, False, True, ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]),
        (0.11, 2, False, True, ["0.2", "0.5", "1", "2"]),
        (2, 3, False, True, ["2.0", "2.2", "2.4", "2.6", "2.8", "3.0"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, share: bool, log: bool, texts: list[str]) -> None:
    assert [tick.text for tick in ticks(low, high, 7 if log else 6, share=share, log=log)] == texts


def test_ticks_hold_for_any_range() -> None:
    for low, high in ((-5e-7, 3e-7), (0, 1e30), (-1e9, 1), (99.99, 100.01), (0, 1e-300)):
        found = ticks(low, high, 6)
        assert 2 <= len(found) <= 8, (low, high)
        assert all(low - 1e-9 * (high - low) <= tick.at <= high + 1e-9 * (high - low) for tick in found)
        assert len({tick.text for tick in found}) == len(found), (low, high)
    assert number(1200) == "1200"


@pytest.mark.parametrize(
    "chart",
    [
        LineChart("nothing", []),
        LineChart("all NaN", [Line("a", [(0, math.nan), (1, math.inf)])], log=True),
        LineChart("one point", [Line("a", [(5, 0.5)], [(5, 0.4, 0.6)])], share=True),
        LineChart("equal", [Line("a", [(0, 2.0), (1, 2.0)])], log=True),
        LineChart("below zero", [Line("a", [(0, -1.0), (1, 0.0)])], log=True),
        BarChart("nothing", []),
        BarChart("negative", [Bar("a", -0.2, -0.5, 0.1), Bar("b", math.nan), Bar("c", math.inf)]),
        HeatMap("nothing", [], [], []),
        HeatMap("NaN", [[math.nan]], ["a"], ["a"]),
    ],
    ids=lambda chart: f"{type(chart).__name__}-{chart.title}",
)
def test_any_chart_can_be_drawn(chart: Chart) -> None:
    ET.fromstring(svg(chart))
    assert chart.described()
    assert png([chart]).startswith(b"\x89PNG")


def test_a_png_has_the_shapes_of_the_svg() -> None:
    image = Image.open(io.BytesIO(png([CURVES, BARS], width=400)))
    height = shapes.draw(CURVES, 400).height + shapes.draw(BARS, 400).height
    assert image.size == (800, round(2 * height))
    colours = {colour for _, colour in image.getcolors(1 << 20) or []}
    wanted = {tuple(int(LIGHT[role][n : n + 2], 16) for n in (1, 3, 5)) for role in ("page", "line0", "line1")}
    assert wanted <= colours


def test_dashes_leave_gaps_in_a_png() -> None:
    """Four lines of one height each: the dashed ones paint fewer pixels."""
    lines = [Line(str(n), [(0, float(n)), (1, float(n))]) for n in range(4)]
    image = Image.open(io.BytesIO(png([LineChart("", lines)], width=600)))
    count = {colour: n for n, colour in image.getcolors(1 << 20) or []}
    painted = [count[tuple(int(LIGHT[f"line{n}"][m : m + 2], 16) for m in (1, 3, 5))] for n in range(4)]
    assert all(0 < n < painted[0] for n in painted[1:])
