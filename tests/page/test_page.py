"""`mmctl report`: the page of some runs, what it says where a part cannot be made, and where it is written."""

from __future__ import annotations

import base64
import importlib
import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import tiny_project
from helpers.command import Result
from helpers.fake_runs import attempt, data, evaluation, family, finished_run, make_run, points, state, write
from helpers.html_page import HtmlPage, check_page
from helpers.paths import REPO
from helpers.run_helpers import SETS, never, tree
from mmctl.page import figures, provenance, report, style
from mmctl.page.embedding import MARKS, embedding_figures
from mmctl.page.html import Ids
from mmctl.report import svg
from mmctl.report.charts import Line, LineChart
from mmctl.report.results import EmbeddingMap
from mmctl.run_folder.events import Note
from mmctl.run_folder.journal import append
from mmctl.run_folder.predictions import write_predictions
from mmctl.runs import embed, thumbnails
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute

Mm = Callable[..., Result]
PLAIN = ("--no-embedding", "--no-images")
EVIL = "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;{javascript:}\x1b[2J"


def page_of(mm: Mm, *words: object) -> HtmlPage:
    """The page of a report, checked."""
    done = mm("report", *words)
    assert done.code == 0, done.err
    page = HtmlPage.of(Path("report.html"))
    check_page(page)
    return page


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three methods with five seeds each, as far as journals tell."""
    family(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run that was really trained, a little."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MMCTL_PLUGINS_DIR", str(root / "plugins"))
        folder = create_run(tiny_project.recipe("supervised", *SETS), root / "runs", name="real")
        assert execute(folder, never).state == "completed"
    return root


@pytest.fixture
def real(trained: Path, tmp_path: Path) -> Path:
    """That run in the project of the test."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    forget_plugins()
    return next((tmp_path / "runs").glob("2*"))


def forget_plugins() -> None:
    """Forget what was imported of plugins/, as a new mmctl would."""
    for name in [name for name in sys.modules if name.startswith("mmctl.local.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_a_page_shows_what_the_journals_know(mm: Mm, runs: Path) -> None:
    page = page_of(mm, "-b", "supervised", *PLAIN)
    for words in (
        "16 runs; 3 configurations", "vs supervised", "paired t test", "train/loss", "Recall of each class",
        "confusion, %: mixmatch, 5 seeds", "No pseudo-label accuracy", "--no-embedding was given",
        "its predictions are",
        "mmctl run runs/", "torch 2.14", "started (UTC)", "anger", "failed",
    ):  # fmt: skip
        assert words in page.text, words
    assert len(page.all("svg")) == 1 + 3 + 3
    assert len(page.all("summary")) >= len(page.all("svg")), "the numbers of each chart"
    assert len(page.all("script")) == 1
    assert "accuracy" in page.text[page.text.index("Line chart of") :]


@pytest.mark.slow
def test_pseudo_labels_have_curves(mm: Mm, runs: Path) -> None:
    write(runs / "20261125-081506-mixmatch-s0-0006", 1, points(500, train__guess_accuracy=0.8, train__guess_kept=0.5))
    page = page_of(mm, *PLAIN)
    assert "accuracy of the pseudo-labels" in page.text
    last = [one for one in page.all("polyline") if one["stroke"].startswith("var(--mm-line")][-1]
    assert last["stroke"] == "var(--mm-line1)", "as in the other charts, where it is the second line"
    assert "No pseudo-label accuracy" not in page.text


def test_the_same_runs_give_the_same_page(mm: Mm, runs: Path) -> None:
    page_of(mm, *PLAIN)
    before = Path("report.html").read_bytes(), Path("report.html").stat().st_mtime_ns
    page_of(mm, *PLAIN)
    assert (Path("report.html").read_bytes(), Path("report.html").stat().st_mtime_ns) == before


def test_texts_of_a_run_are_no_markup(mm: Mm, tmp_path: Path) -> None:
    uid = "20261125-080000-x-s0-abcd"
    folder = make_run(tmp_path / "runs", uid, name=EVIL, method=EVIL, settings={"optimizer__name": EVIL})
    named = data()
    evil = named.__class__(**{**vars(named), "classes": [f"{EVIL}{n}" for n in range(4)]})
    write(folder, 1, attempt(device=EVIL, host=EVIL, versions={EVIL: EVIL}), state("running"), evil)
    path = write_predictions(folder, "test", [EVIL, "b"], [EVIL, "z"], [0, 1], {"head": ([1, 1], [0.9, 0.9])})
    write(folder, 1, points(10, train__loss=1.0), evaluation(10, 0.9, predictions=path))
    write(folder, 1, points(10, test__ema__head__accuracy=0.9), state("failed", 10, EVIL, 3))
    append(folder, Note(text=EVIL))
    (folder / "recipe.toml").write_text(f"# {EVIL}\n[x]\n\ty = 1\n")
    page = page_of(mm, "--title", EVIL, *PLAIN)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert "alert(1)</script>" not in page.html
    assert "\x1b" not in page.html
    assert page.html.count("&lt;script&gt;alert(1)") > 8
    assert "[x]\n    y = 1" in page.html
    page_of(mm, "--title", EVIL)  # with the parts that need data, which say why they are missing


def test_runs_without_anything_yet(mm: Mm, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "queued")
    page = page_of(mm)
    for words in ("No curves", "No confusion matrix", "No embedding map", "No mistakes", "queued"):
        assert words in page.text, words


def test_a_run_that_cannot_be_read(mm: Mm, tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "runs", "bad", seed=1)
    assert mm("ls").code == 0
    (folder / "run.json").write_text("{")
    page = page_of(mm)
    assert "1 unreadable" in page.text
    assert "bad: " in page.text[page.text.index("exact") :]


def test_many_classes_give_their_most_frequent_mistakes(mm: Mm, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs", "many")
    counts = [[9 * (n == m) + (m == n + 1) for m in range(40)] for n in range(40)]
    write(folder, 1, attempt(), data(), evaluation(10, 0.9, confusion=counts, per_class=[0.9] * 40))
    write(folder, 1, points(10, test__ema__head__accuracy=0.9), state("completed", 10))
    page = page_of(mm, *PLAIN)
    assert "the most frequent mistakes of 40 classes" in page.text
    assert len(page.html) < 200_000


def test_embeddings_and_mistakes_of_a_real_run(mm: Mm, real: Path) -> None:
    before = tree(real)
    page = page_of(mm, "@last")
    first = Path("report.html").read_bytes()
    assert "PCA of the embeddings of 45 test images" in page.text
    assert "t-SNE of the embeddings of 45 test images" in page.text
    assert "nearest other centroid" in page.text
    assert 1 <= len(page.all("img")) <= 10
    shown = page.all("img")[0]
    assert shown["alt"].startswith("Image 2-")
    pixels = Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2])))
    assert pixels.size == (8, 8)
    assert "of 45 test images are wrong (step 12, ema weights)" in page.text
    assert mm("report", "@last", "--json").out == '{\n  "schema_version": 1,\n  "written": [],\n  "unchanged": [\n' + (
        '    "report.html"\n  ],\n  "missing": []\n}\n'
    )
    assert Path("report.html").read_bytes() == first
    assert tree(real) == before, "nothing is written into the run folder"


def changed(plugin: Path, old: str, new: str) -> None:
    """Change a plugin."""
    code = plugin.read_text()
    assert old in code
    plugin.write_text(code.replace(old, new))
    forget_plugins()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('f"tiny-{n}-{seed}"', '"another"', "the data set has changed since the run began"),
        ('    return {"train"', "    raise OSError(2, 'gone', 'x.npz')\n    return {'train'", "gone"),
        ('    return {"train"', "    1 / 0\n    return {'train'", "ZeroDivisionError"),
        ('@dataset("tiny")', '@dataset("tinny")', "tiny"),
    ],
    ids=["changed", "gone", "broken", "renamed"],
)
def test_a_page_says_why_parts_are_missing(mm: Mm, real: Path, old: str, new: str, said: str) -> None:
    changed(Path("plugins/tiny.py"), old, new)
    done = mm("report")
    assert done.code == 0, done.err
    page = HtmlPage.of(Path("report.html"))
    check_page(page)
    for head in ("No embedding map: ", "Names instead of images: "):
        assert head in page.text
        line = page.text[page.text.index(head) :][:600]
        assert said in line, line
        assert f"note: {head}" in done.err
    assert page.all("img") == []
    assert "2-" in page.text, "the ids of the images"


def test_a_page_without_torch(mm: Mm, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("embed", "thumbnails"):
        monkeypatch.setitem(sys.modules, f"mmctl.runs.{name}", None)
        monkeypatch.delattr(f"mmctl.runs.{name}")
    done = mm("report")
    assert done.code == 0
    assert "No embedding map: " in done.err
    assert "Install what mmctl needs for training" in done.err


def test_an_edited_run_gets_advice_that_helps(mm: Mm, real: Path) -> None:
    recipe = real / "recipe.toml"
    changed(recipe, "\nlr = ", "\nlr = 1")
    text = page_of(mm).text
    said = text[text.index("No embedding map: ") :][:600]
    assert "edited since the run was created" in said
    assert "Restore it" in said
    assert "--accept-changes" not in said, "no option of a report accepts them"


def test_classes_and_provenance_of_the_newest(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "DETAILED", 1)
    text = page_of(mm, *PLAIN).text
    for what in ("Classes", "Provenance"):
        assert f"{what} of the newest 1 of 3 configurations; a filter chooses others." in text
    assert "confusion, %: marginmix" in text
    assert "confusion, %: mixmatch" not in text
    assert text.count("mmctl run runs/") == 5


def test_a_long_value_names_its_file() -> None:
    for name, file in (("provenance", "provenance.json"), ("git", "run.json")):
        ((_, said),) = provenance._recorded({"patch": "x" * 400}, name)
        assert said == f"400 characters, in {file}"


def test_a_configuration_has_one_colour_whatever_its_label_says() -> None:
    ids, points = Ids(), [(0.0, 1.0), (1.0, 2.0)]
    first, second = (Line(name, points, key=(name,)) for name in ("a", "b"))
    figures.lines(LineChart("one", [first, second]), ids)
    alone = HtmlPage(figures.lines(LineChart("two", [replace(second, label="b lr=0.1, seed 3")]), ids))
    assert {one["stroke"] for one in alone.all("polyline") if "mm-line" in one["stroke"]} == {"var(--mm-line1)"}


def test_another_checkpoint(mm: Mm, real: Path) -> None:
    page = page_of(mm, "-c", "10")
    assert "step 10, ema weights" in page.text
    assert "mmctl evaluate" in page.text[page.text.index("No mistakes: ") :]
    assert mm("evaluate", "@last", "-c", "10").code == 0
    page = page_of(mm, "-c", "10")
    assert "images are wrong (step 10" in page.text
    page = page_of(mm, "-c", "best")
    assert "no best checkpoint" in page.text


def test_a_broken_network_is_no_bug_of_mmctl(mm: Mm, real: Path) -> None:
    changed(Path("plugins/tiny.py"), "return self.layers(x_BCHW)", "return self.layers(x_BCHW.foo)")
    page = page_of(mm)
    assert "tiny.py:" in page.text[page.text.index("No embedding map") :]


def test_the_surest_mistakes_come_first(mm: Mm, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs", "one")
    ids, true, said = [f"i{n}" for n in range(14)], [0] * 14, [0, 0] + [1] * 12
    sure = [1.0, 1.0, *(0.5 + n / 32 for n in range(11)), math.nan]
    path = write_predictions(folder, "test", ids, ["cat", "dog"], true, {"head": (said, sure)})
    write(folder, 1, attempt(), data(), evaluation(10, 0.1, predictions=path), state("completed", 10))
    page = page_of(mm, *PLAIN)
    assert "12 of 14 test images are wrong" in page.text
    listed = page.text[page.text.index("12 of 14") :]
    assert "i12 predicted dog , 81.2 % true cat i11 predicted dog , 78.1 %" in listed
    assert "i3 " in listed
    assert "i2 " not in listed, "the ten surest"
    (folder / path).write_bytes(b"x")
    assert "is damaged" in page_of(mm, *PLAIN).text


def embedded(n: int, k: int) -> EmbeddingMap:
    dice = np.random.default_rng(0)
    spots = [(float(x), float(y)) for x, y in dice.normal(size=(n, 2))]
    made: list[Any] = [
        {"name": name, "about": "", "points": spots, "centroids": {c: (0.0, float(c)) for c in range(k)}}
        for name in ("PCA", "t-SNE")
    ]
    true = [m % k for m in range(n)]
    return {
        "run": "r", "step": 1, "split": "test", "weights": "ema", "images": n, "classes": [f"c{c}" for c in range(k)],
        "true": true, "predicted": [0] * n, "projections": made, "silhouette": [0.1] * k, "nearest": [0] * k,
    }  # fmt: skip


@pytest.mark.slow
def test_twenty_runs_are_less_than_3_mb(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 configurations, maps of 1,000 images, images of 96 x 96 noise, which no format makes small."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 96, 96)).astype(np.uint8)
    monkeypatch.setattr(embed, "embedding_map", lambda *_: embedded(1000, 10))
    monkeypatch.setattr(thumbnails, "thumbnails", lambda _, __, ids, ___: [thumbnails.data_uri(noise)] * len(ids))
    names = [f"class {k}" for k in range(10)]
    for n in range(20):
        uid = f"20261125-08{n:02d}00-m{n}"
        folder = finished_run(tmp_path / "runs", uid, name=f"recipe-number-{n}", config_id=f"c{n}", evaluations=40)
        true, said = [m % 10 for m in range(1000)], [0] * 1000
        ids = [f"image {m}" for m in range(1000)]
        path = write_predictions(folder, "test", ids, names, true, {"head": (said, [0.9] * 1000)})
        counts = [[n + m for m in range(10)] for n in range(10)]
        write(
            folder, 2, attempt(2, 1000), evaluation(1000, 0.9, confusion=counts, predictions=path), state("completed")
        )
        (folder / "recipe.toml").write_text("# a recipe\n" * 300)
    page = page_of(mm)
    assert len(page.all("img")) == 120
    assert len(page.all("path")) >= 6 * 2 * 10
    assert 500_000 < len(page.html) < 3_000_000


def test_a_map_has_a_form_and_colour_for_each_class() -> None:
    pca, _ = embedding_figures(embedded(72, 36), Ids())
    paths = [one for one in HtmlPage(pca).all("path") if one.get("opacity")]
    looks = {(one["d"].split("M")[1].lstrip("-.0123456789 "), one["fill"], one.get("stroke")) for one in paths}
    assert len(MARKS) == 6
    assert len(looks) == 36
    page = HtmlPage(pca)
    assert "35 of them" not in page.text
    assert "2 of them predicted right" in page.text
    assert "c35" in page.text


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2: (L1 + 0.05) / (L2 + 0.05)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [svg.LIGHT | style.LIGHT, svg.DARK | style.DARK], ids=["light", "dark"])
def test_contrast(palette: dict[str, str]) -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for words, ground in (
        ("words", "page"), ("words", "soft"), ("words", "bar"), ("faint", "page"), ("faint", "soft"),
        ("line0", "page"), ("line0", "soft"),
    ):  # fmt: skip
        assert contrast(palette[words], palette[ground]) >= 4.5, (words, ground)
    for line in ("line0", "line1", "line2", "line3", "line4", "line5", "axis"):
        assert contrast(palette[line], palette["page"]) >= 3, line


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "mine.html"
    path.write_text("<p>mine")
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "mine.html"], "is not a page of mmctl report"),
        (["-o", "runs"], "is a folder"),
        (["-o", "missing/a.html"], "the folder missing does not exist"),
        (["-o", "a.html", "--site", "b"], "give one of them"),
        (["--site", "mine.html"], "is a file"),
        (["--checkpoint", "bets"], 'Did you mean "best"?'),
        (["-m", "test/acuracy"], 'Did you mean "test/accuracy"'),
        (["-b", "supervisd"], 'Did you mean "supervised"?'),
        (["mixmtch"], 'Did you mean "mixmatch"?'),
        (["seed:99"], "no run matches"),
    ],
)
def test_mistakes_are_named(mm: Mm, runs: Path, foreign: Path, words: list[str], said: str) -> None:
    done = mm("report", *words, *PLAIN)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert foreign.read_text() == "<p>mine"
    assert not Path("report.html").exists()


def test_force_replaces_a_file(mm: Mm, runs: Path, foreign: Path) -> None:
    assert mm("report", "-o", foreign, "--force", *PLAIN).code == 0
    check_page(HtmlPage.of(foreign))
    assert mm("report", "mixmatch", "-o", foreign, *PLAIN).code == 0, "now it is a report"
    assert json.loads(mm("report", "mixmatch", "-o", foreign, *PLAIN, "--json").out)["unchanged"] == [str(foreign)]


def test_a_run_of_another_program_has_a_page(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / "runs"))
    assert mm("import", REPO / "tests" / "exchange" / "files" / "offline.wandb").code == 0
    done = mm("report", "-o", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert "mmctl evaluate" not in done.err
    page = HtmlPage.of(tmp_path / "page.html")
    check_page(page)
    assert "imported.program" in page.text
    assert "mmctl run" not in page.text
