"""`mmctl plot`: curves with bands, bars and confusion matrices, in the terminal and as files."""

from __future__ import annotations

import io
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.cells import cell_len

from helpers.command import Result
from helpers.fake_runs import attempt, data, evaluation, finished_run, make_run, points, state, write
from mmctl.report.charts import HeatMap
from mmctl.report.console import SafeConsole
from mmctl.report.equal_compute import amount_at, clock_of
from mmctl.report.terminal_plot import print_chart
from mmctl.run_folder.events import Pace
from mmctl.store.read_curves import read_curves
from mmctl.store.reading import open_for_reading

Mm = Callable[..., Result]
ACCURACY = "test/ema/head/accuracy"


def curve_run(runs: Path, method: str, seed: int, curve: dict[int, float], end: str = "completed", **more: Any) -> Path:
    """A run with this curve of its test accuracy, and with a training loss."""
    uid = f"20261125-0815{seed:02d}-{method}-s{seed}-000{seed}{more.pop('again', '')}"
    folder = make_run(runs, uid, method=method, name=method, seed=seed, **more)
    rows = [points(step, **{ACCURACY.replace("/", "__"): y, "train__loss": 2 - y}) for step, y in curve.items()]
    last = max(curve)
    write(
        folder,
        1,
        attempt(),
        state("running"),
        data(split_hash=f"s{seed}"),
        *rows,
        Pace(step=last, seconds=2.0 * last, cpu=1.0),
        state(end, last),
    )
    return folder


def plotted(mm: Mm, *words: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Charts and notes, as JSON."""
    result = mm("plot", *words, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    return found["charts"], found["notes"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods; the second seed of one of them stopped early."""
    folder = tmp_path / "runs"
    curve_run(folder, "mixmatch", 0, {100: 0.5, 200: 0.7, 300: 0.8})
    curve_run(folder, "mixmatch", 1, {100: 0.7, 200: 0.9}, "interrupted")
    curve_run(folder, "fixmatch", 0, {100: 0.6, 200: 0.8, 300: 0.95})
    return folder


def test_a_line_is_the_mean_over_the_seeds_with_a_band(mm: Mm, runs: Path) -> None:
    (chart,), notes = plotted(mm)
    assert (chart["kind"], chart["share"], chart["x"]) == ("lines", True, "steps")
    one, two = chart["lines"]
    assert [two["label"], one["label"]] == ["mixmatch, 2 seeds", "fixmatch, seed 0"]
    assert [x for x, _ in two["points"]] == [100, 200, 300]
    assert [y for _, y in two["points"]] == pytest.approx([0.6, 0.8, 0.8])
    std = math.sqrt(0.02)
    assert two["band"] == [pytest.approx([100, 0.6 - std, 0.6 + std]), pytest.approx([200, 0.8 - std, 0.8 + std])]
    assert one["band"] == []
    assert notes == ["mixmatch, 2 seeds: from 300 steps on, the mean is over fewer runs"]


def test_bands_stay_within_what_a_share_can_be(mm: Mm, runs: Path) -> None:
    (chart,), _ = plotted(mm, "mixmatch", "--band", "interval")
    (_, low, high), _ = chart["lines"][0]["band"]
    assert (low, high) == (0.0, 1.0)  # t for one degree of freedom is 12.7
    (chart,), _ = plotted(mm, "mixmatch", "--band", "range")
    assert chart["lines"][0]["band"][0] == [100, 0.5, 0.7]
    (chart,), _ = plotted(mm, "mixmatch", "--band", "none")
    assert chart["lines"][0]["band"] == []


def test_seeds_with_other_steps_are_met_halfway(mm: Mm, tmp_path: Path) -> None:
    curve_run(tmp_path / "runs", "mixmatch", 0, {100: 0.5, 300: 0.7})
    curve_run(tmp_path / "runs", "mixmatch", 1, {100: 0.5, 200: 0.8, 300: 0.9})
    (chart,), notes = plotted(mm)
    assert [y for _, y in chart["lines"][0]["points"]] == pytest.approx([0.5, 0.7, 0.8])
    assert notes == []


def test_a_run_that_became_nan_leaves_the_mean(mm: Mm, tmp_path: Path) -> None:
    curve_run(tmp_path / "runs", "mixmatch", 0, {100: 0.5, 200: 0.7})
    curve_run(tmp_path / "runs", "mixmatch", 1, {100: 0.5, 200: math.nan}, "nc")
    (chart,), notes = plotted(mm)
    assert chart["lines"][0]["points"][1] == [200, 0.7]
    assert "from 200 steps on, the mean is over fewer runs" in notes[0]


def test_one_run_of_a_seed_counts(mm: Mm, tmp_path: Path) -> None:
    curve_run(tmp_path / "runs", "mixmatch", 0, {100: 0.5}, created=1)
    curve_run(tmp_path / "runs", "mixmatch", 0, {100: 0.9}, "interrupted", created=2, again="b")
    (chart,), notes = plotted(mm)
    assert chart["lines"][0]["points"] == [[100, 0.5]]
    assert notes == ["1 run repeats a seed; one run of each seed counts"]
    (chart,), _ = plotted(mm, "--per-seed")
    assert sorted(line["points"][0][1] for line in chart["lines"]) == [0.5, 0.9]


def test_equal_recipes_are_told_apart_by_their_settings(mm: Mm, tmp_path: Path) -> None:
    for n, rate in enumerate((0.03, 0.3)):
        curve_run(
            tmp_path / "runs", "mixmatch", n, {100: 0.5}, config_id=f"c{n}", settings={"optimizer__lr": rate}
        )  # fmt: skip
    (chart,), _ = plotted(mm)
    assert [line["label"] for line in chart["lines"]] == ["mixmatch lr=0.03, seed 0", "mixmatch lr=0.3, seed 1"]


def test_other_axes(mm: Mm, runs: Path) -> None:
    (chart,), _ = plotted(mm, "fixmatch", "--x", "seconds")
    assert [x for x, _ in chart["lines"][0]["points"]] == [200, 400, 600]
    (chart,), _ = plotted(mm, "fixmatch", "--x", "images")
    assert [x for x, _ in chart["lines"][0]["points"]] == [
        6400,
        12800,
        19200,
    ]  # 64 labelled; the fake recipe says no more


def test_smoothing_weighs_what_came_before(mm: Mm, runs: Path) -> None:
    (chart,), _ = plotted(mm, "fixmatch", "-m", "train/loss", "--smooth", "0.5", "--log")
    assert chart["log"]
    first, second, third = (y for _, y in chart["lines"][0]["points"])
    assert first == pytest.approx(1.4)
    assert second == pytest.approx((1.4 * 0.5 + 1.2) / 1.5)
    assert third == pytest.approx((1.4 * 0.25 + 1.2 * 0.5 + 1.05) / 1.75)


def test_seconds_go_on_where_a_run_was_resumed(runs: Path) -> None:
    folder = make_run(runs, "resumed")
    write(folder, 1, attempt(), Pace(step=100, seconds=10.0, cpu=1.0), Pace(step=200, seconds=20.0, cpu=2.0))
    write(folder, 2, attempt(2, 100), Pace(step=300, seconds=40.0, cpu=2.0))
    with open_for_reading(runs) as store:
        run = next(one for one in store.runs() if one["uid"] == "resumed")
        clock = clock_of(store, run, {}, "seconds")
    assert clock == [(0, 0.0), (100, 10.0), (300, 50.0)]
    assert [amount_at(clock, step) for step in (0, 50, 200, 350)] == [0, 5, 30, 60]


def test_seconds_of_a_run_that_extends_another_are_its_own(runs: Path) -> None:
    folder = make_run(runs, "longer")
    write(folder, 1, attempt(1, 100), Pace(step=100, seconds=0.0, cpu=0.0), Pace(step=200, seconds=20.0, cpu=2.0))
    with open_for_reading(runs) as store:
        run = next(one for one in store.runs() if one["uid"] == "longer")
        clock = clock_of(store, run, {}, "seconds")
    assert [amount_at(clock, step) for step in (100, 150, 200)] == [0, 10, 20]


def test_long_curves_are_thinned_out_at_the_same_steps(tmp_path: Path) -> None:
    long = curve_run(tmp_path / "runs", "mixmatch", 0, {step: float(step) for step in range(1, 1001)})
    curve_run(tmp_path / "runs", "mixmatch", 1, {step: 1.0 if step < 500 else math.nan for step in range(1, 601)})
    with open_for_reading(long.parent) as store:
        runs = store.runs()
        curves = read_curves(store, runs, [ACCURACY, "none"], 10)
        apart = read_curves(store, runs, [ACCURACY], 10, apart=True)
        assert read_curves(store, [], [ACCURACY]) == {}
    first, second = (curves[run["id"], ACCURACY] for run in runs)
    assert len(first) == 10
    assert first[0] == (1, pytest.approx(50.5))
    assert {step for step, _ in second} <= {step for step, _ in first}
    assert [math.isnan(y) for _, y in second] == [False] * 4 + [True] * 2
    assert [len(one) for one in apart.values()] == [10, 10]


def test_bars_are_the_means_of_compare(mm: Mm, tmp_path: Path) -> None:
    for seed, final in enumerate((0.8, 0.9)):
        finished_run(tmp_path / "runs", f"mixmatch-{seed}", seed=seed, final=final)
    (chart,), _ = plotted(mm, "--bars")
    row = json.loads(mm("compare", "--json").out)["panels"][0]["configurations"][0]["values"][0]
    (bar,) = chart["bars"]
    assert (bar["value"], bar["low"], bar["high"]) == (row["mean"], row["low"], row["high"])
    assert bar["label"] == "digits (n = 2)"
    assert chart["title"] == "test/accuracy: digits, 40 labels"


def test_a_confusion_matrix_sums_the_seeds(mm: Mm, tmp_path: Path) -> None:
    for seed in range(2):
        folder = finished_run(tmp_path / "runs", f"mixmatch-{seed}", seed=seed)
        write(folder, 1, evaluation(1000, 0.9, confusion=[[8, 2 * seed, 0, 0], *([[0, 1, 0, 0]] * 3)]))
    (chart,), _ = plotted(mm, "--confusion")
    assert chart["rows"] == ["anger", "fear", "joy", "neutral"]
    assert chart["cells"][0] == pytest.approx([16 / 18, 2 / 18, 0, 0])
    assert "2 seeds (test, ema, head)" in chart["title"]


@pytest.mark.parametrize(
    ("width", "colours", "shown"),
    [
        (80, False, "anger   80  20   .   ."),
        (20, False, "anger\u2588\u2588\u2591\u2591    "),
        (80, True, "\x1b[38;5;231;48;5;32m  80\x1b[0m\x1b[38;5;16;48;5;153m  20"),
    ],
)
def test_a_matrix_in_a_terminal(width: int, colours: bool, shown: str) -> None:
    """Short names leave room for the numbers; where there is none, cells are dark or light."""
    paper = io.StringIO()
    how = {"color_system": "256" if colours else None, "force_terminal": colours, "no_color": not colours}
    out = SafeConsole(file=paper, width=width, **how)  # type: ignore[arg-type]
    print_chart(HeatMap("t", [[0.8, 0.2, 0, 0], *[[0.0, 0.5, 0.5, 0]] * 3], ["anger", *"bcd"], list("abcd")), out)
    assert shown in paper.getvalue()
    assert ("darker is more" in paper.getvalue()) == (width == 20)


@pytest.mark.parametrize("odd", [[[1, 2]], [], [[-1, 0], [0, 1]], [["a", 1], [1, 1]], [1, 2], [[1.5, 0], [0, 1]]])
def test_a_confusion_matrix_from_outside_may_be_anything(mm: Mm, tmp_path: Path, odd: Any) -> None:
    folder = make_run(tmp_path / "runs", "odd")
    write(folder, 1, attempt(), data(), evaluation(10, 0.5, confusion=odd), state("completed", 10))
    result = mm("plot", "--confusion")
    assert result.code == 2
    assert "none of the 1 runs has a confusion matrix" in result.err


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("words", [[], ["--per-seed"], ["--bars"], ["--confusion"], ["-m", "train/loss", "--log"]])
def test_a_plot_fits_its_terminal(
    mm: Mm, runs: Path, width: int, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    finished_run(runs, "20261125-090000-a-recipe-with-a-long-name", name="a-recipe-with-a-long-name", config_id="long")
    result = mm("plot", *words)
    assert result.code == 0, result.err
    assert max(cell_len(line.rstrip()) for line in result.out.splitlines()) <= width
    assert len(result.out.splitlines()) >= 5
    assert "\x1b" not in result.out


def test_without_colours_lines_have_letters(mm: Mm, runs: Path) -> None:
    text = mm("plot").out
    assert "bb mixmatch, 2 seeds  80.0 %" in text
    assert "aa fixmatch, seed 0  95.0 %" in text
    alone = mm("plot", "fixmatch").out
    assert any("\u2800" <= char <= "\u28ff" for char in alone), "braille"


def test_files(mm: Mm, runs: Path, tmp_path: Path) -> None:
    for kind in ("svg", "png", "html"):
        result = mm("plot", "-m", "test/accuracy", "-m", "train/loss", "-o", tmp_path / f"a.{kind}")
        assert (result.code, result.out) == (0, "")
        assert f"a.{kind}: 2 charts" in result.err
    charts = list(ET.parse(tmp_path / "a.svg").getroot().iter("{http://www.w3.org/2000/svg}desc"))
    assert len(charts) == 3
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).width == 1280
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 2
    assert "<script" not in page


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "a.pdf"], 2, "an image is a file that ends in .svg, .png, .html"),
        (["-o", "missing/a.svg"], 4, "missing/a.svg: No such file or directory"),
        (["--band", "sd"], 2, '--band "sd": unknown. Did you mean "std"?'),
        (["--x", "epochs"], 2, "Known: steps, images, seconds"),
        (["--smooth", "1"], 2, "would leave a flat line"),
        (["--smooth", "2"], 2, "is not a number from 0 to 1"),
        (["-m", "test/accuracy@max"], 2, 'leave out "@..."'),
        (["-m", "test/acuracy"], 2, 'Did you mean "test/accuracy"?'),
        (["mixmtch"], 2, 'Did you mean "mixmatch"'),
        (["seed:99"], 2, "no run matches"),
        (["state:running"], 2, "no run matches"),
    ],
)
def test_mistakes_are_named(mm: Mm, runs: Path, words: list[str], code: int, said: str) -> None:
    result = mm("plot", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert "a bug" not in result.err


def test_runs_without_values_are_no_error_of_mmctl(mm: Mm, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "queued")
    result = mm("plot")
    assert result.code == 2
    assert "none of the 1 runs has such values yet" in result.err
