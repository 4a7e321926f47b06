"""The embedding map: a dot for each image, a name at each class centroid, a ring where the prediction is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmctl.page.figures import WIDTH
from mmctl.page.html import Ids, figure, table, text
from mmctl.report.results import EmbeddingMap, Projection
from mmctl.report.shapes import COLOURS, GAP, SIZE, Drawing, fit, length
from mmctl.report.svg import framed
from mmctl.text import printable

MARKS = (
    "h0",
    "m-2.5-2.5h5v5h-5z",
    "m0-3l3 5h-6z",
    "m0-3.2l3.2 3.2-3.2 3.2-3.2-3.2z",
    "m-3 0h6m-3-3v6",
    "m-2.3-2.3l4.6 4.6m0-4.6l-4.6 4.6",
)
"""Forms of the dots, as pieces of a path: disc, square, triangle, diamond, plus, cross."""
LINES = (0, 4, 5)
"""Those that are lines, not areas; the disc is a line without length and a round end."""
RING = "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0"
HIGH = 340
NAMED = 36
"""With more classes, neither a form and colour nor a name of its own can be told apart."""


def embedding_figures(found: EmbeddingMap, ids: Ids) -> list[str]:
    """Each projection, and the classes with their places."""
    drawn = f"{len(found['true'])} of {found['images']} {found['split']} images"
    if len(found["true"]) == found["images"]:
        drawn = f"{found['images']} {found['split']} images"
    made = []
    for one in found["projections"]:
        caption = f"{one['name']} of the embeddings of {drawn}, step {found['step']}, {found['weights']} weights"
        made.append(figure(_map(found, one, caption, ids), caption, _numbers(found), [one["about"]]))
    return made


def _numbers(found: EmbeddingMap) -> str:
    names = [printable(name) for name in found["classes"]]
    rows = []
    for k, name in enumerate(names):
        apart, near = found["silhouette"][k], found["nearest"][k]
        rows.append(
            [text(name), str(found["true"].count(k)), "-" if apart is None else f"{apart:.2f}",
             "-" if near is None else text(names[near])]
        )  # fmt: skip
    heads = ["class", "images", "silhouette (-1 to 1, in all dimensions)", "nearest other centroid"]
    return table("How far the classes are apart", heads, rows)


def _map(found: EmbeddingMap, one: Projection, caption: str, ids: Ids) -> str:
    drawing = Drawing(WIDTH, HIGH)
    ends = [*one["points"], *one["centroids"].values()]
    lows, highs = ([pick(point[axis] for point in ends) for axis in (0, 1)] for pick in (min, max))
    # One scale for both axes: distances are what the map is about.
    scale = min((WIDTH - 4 * GAP) / (highs[0] - lows[0] or 1.0), (HIGH - 4 * GAP) / (highs[1] - lows[1] or 1.0))
    middle = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return WIDTH / 2 + scale * (point[0] - middle[0]), HIGH / 2 - scale * (point[1] - middle[1])

    places = list(map(place, one["points"]))
    body = []
    for k in range(len(found["classes"])):
        own = [places[n] for n, true in enumerate(found["true"]) if true == k]
        body.append(_dots(own, k))
    wrong = [at for at, true, said in zip(places, found["true"], found["predicted"], strict=True) if true != said]
    if wrong:
        rings = "".join(f"M{x:.1f} {y:.1f}{RING}" for x, y in wrong)
        body.append(f'<path d="{rings}" fill="none" stroke="var(--mm-words)" stroke-width=".8"/>')
    if len(found["classes"]) <= NAMED:
        body += _names({k: place(at) for k, at in one["centroids"].items()}, found["classes"])
    return framed(drawing, caption, _described(found, one), "".join(body), ids.new("map"))


def _dots(places: Sequence[tuple[float, float]], k: int) -> str:
    if not places:
        return ""
    form = (k + k // COLOURS) % len(MARKS)
    path = "".join(f"M{x:.1f} {y:.1f}{MARKS[form]}" for x, y in places)
    colour = f"var(--mm-line{k % COLOURS})"
    how = f'fill="{colour}"'
    if form in LINES:
        wide = "5" if form == 0 else "1.4"
        how = f'fill="none" stroke="{colour}" stroke-width="{wide}" stroke-linecap="round"'
    return f'<path d="{path}" {how} opacity=".75"/>'


def _names(places: Mapping[int, tuple[float, float]], classes: Sequence[str]) -> list[str]:
    """Names with an edge in the colour of the page, so that they can be read on top of dots."""
    made = []
    for k, (x, y) in places.items():
        name = fit(printable(classes[k]), WIDTH / 3)
        half = length(name) / 2
        x = min(max(x, half + 2), WIDTH - half - 2)
        made.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="var(--mm-words)" stroke="var(--mm-page)" stroke-width="4" '
            f'paint-order="stroke" font-size="{SIZE + 1}" font-weight="700" text-anchor="middle">{text(name)}</text>'
        )
    return made


def _described(found: EmbeddingMap, one: Projection) -> str:
    right = sum(true == said for true, said in zip(found["true"], found["predicted"], strict=True))
    n = len(found["true"])
    known = {k: value for k, value in enumerate(found["silhouette"]) if value is not None}
    parts = [f"Map of {n} images in {len(found['classes'])} classes, {right} of them predicted right."]
    if known:
        best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        names = found["classes"]
        parts.append(f"Best apart: {names[best]} ({known[best]:.2f}); least: {names[worst]} ({known[worst]:.2f}).")
    return " ".join([*parts, one["about"]])
