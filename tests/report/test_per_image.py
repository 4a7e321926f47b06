"""`compare --per-example`: tests over images against SciPy, the images themselves, and runs without predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, evaluation, make_run, state, write
from mmctl.errors import UserError
from mmctl.report import print_compare
from mmctl.report.compare import How, compare
from mmctl.report.comparison import PerImage
from mmctl.report.per_image import bootstrap
from mmctl.run_folder.journal import append
from mmctl.run_folder.predictions import write_predictions
from mmctl.store.store import Store

Mm = Callable[..., Result]
CLASSES = ["cat", "dog", "owl"]
TRUE = [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]
IDS = [f"{n}.png" for n in range(10)]
BOTH = ("test/accuracy", "test/balanced_accuracy")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def network(
    runs: Path, name: str, seed: int, predicted: Sequence[int] | None, ids: Sequence[str] = IDS, step: int = 1000
) -> Path:
    """A finished run whose last network predicts these classes; None: a run of an older version."""
    method = "supervised" if name == "base" else "mixmatch"
    made = runs / f"{name}{seed}"
    if not made.exists():
        make_run(runs, made.name, name=name, method=method, config_id=name, seed=seed, created=T0 + seed)
        write(made, 1, attempt(), state("running"), data(split_hash=f"s{seed}"))
    kept = None
    if predicted is not None:
        said = {"head": (predicted, [0.9] * len(predicted)), "centroid": ([0] * len(predicted), None)}
        kept = write_predictions(made, f"test-ema-{step}", ids, CLASSES, [TRUE[IDS.index(id)] for id in ids], said)
    right = [said == TRUE[IDS.index(id)] for said, id in zip(predicted or [], ids, strict=predicted is not None)]
    accuracy = sum(right) / len(right) if right else 0.5
    for predictor in ("head", "centroid"):
        write(made, 1, replace(evaluation(step, accuracy, predictor=predictor), predictions=kept))
    if step == 1000:
        write(made, 1, state("completed", 1000))
    return made


def found_in(runs: Path, *metrics: str, **how: object) -> list[PerImage]:
    with Store(runs, memory=True) as store:
        store.sync()
        panel = compare(store, store.runs(), metrics or BOTH, How(per_image=True, **how))["panels"][0]  # type: ignore[arg-type]
    return panel.get("per_image", [])


BASE = [0, 0, 0, 1, 1, 2, 0, 0, 0, 0]  # 6 right
OURS = [0, 0, 1, 1, 1, 2, 2, 2, 2, 0]  # 8 right: 3 better, 1 worse


def test_two_networks_are_compared_by_mcnemar(runs: Path) -> None:
    from scipy.stats import binomtest

    network(runs, "base", 0, BASE)
    network(runs, "ours", 0, OURS)
    (found,) = found_in(runs)
    (row,) = found["rows"]
    assert (found["what"], found["images"], found["missing"]) == ("test, last evaluation", 10, [])
    assert (row["networks"], row["left_out"], row["better"], row["worse"]) == (1, 0, 3, 1)
    assert row["p"] == pytest.approx(binomtest(3, 4).pvalue)
    assert row["pairs"] == [{"seed": 0, "better": 3, "worse": 1, "p": row["p"]}]
    assert [(one["id"], one["true"], one["ours_say"], one["theirs_say"]) for one in row["images"]] == [
        ("2.png", "cat", "dog", "cat"), ("6.png", "owl", "owl", "cat"), ("7.png", "owl", "owl", "cat"),
        ("8.png", "owl", "owl", "cat"),
    ]  # fmt: skip
    by_metric = {one["metric"]: one for one in row["differences"]}
    assert by_metric["test/accuracy"]["diff"] == pytest.approx(0.2)
    balanced = balanced_accuracy_score(TRUE, OURS) - balanced_accuracy_score(TRUE, BASE)
    assert by_metric["test/balanced_accuracy"]["diff"] == pytest.approx(balanced)


def test_several_networks_vote_with_the_share_that_is_right(runs: Path) -> None:
    network(runs, "base", 0, BASE)
    network(runs, "base", 1, [*BASE[:6], 2, 2, 0, 0])
    network(runs, "ours", 0, OURS)
    network(runs, "ours", 1, [*OURS[:8], 0, 0])
    network(runs, "third", 0, BASE)
    (found,) = found_in(runs)
    ours, third = ({row["config_id"]: row for row in found["rows"]}[name] for name in ("ours", "third"))
    assert (ours["networks"], ours["left_out"]) == (2, 0)
    assert (ours["better"], ours["worse"]) == (3, 1), "6 and 7: two of two against one; 8: one against none"
    shares = {one["id"]: (one["ours"], one["theirs"]) for one in ours["images"]}
    assert shares == {"2.png": (0, 1), "6.png": (1, 0.5), "7.png": (1, 0.5), "8.png": (0.5, 0)}
    assert ours["images"][0]["id"] == "2.png", "the largest difference first"
    assert [(pair["seed"], pair["better"], pair["worse"]) for pair in ours["pairs"]] == [(0, 3, 1), (1, 0, 1)]
    assert (third["networks"], third["left_out"], third["better"], third["worse"]) == (1, 1, 0, 0), "of seed 0 alone"
    assert ours["p_holm"] == pytest.approx(min(1, 2 * min(ours["p"], third["p"])))


def test_sides_without_a_common_seed_have_the_same_number_of_networks(runs: Path) -> None:
    network(runs, "base", 0, BASE)
    network(runs, "ours", 5, OURS)
    network(runs, "ours", 6, BASE)
    (found,) = found_in(runs)
    (row,) = found["rows"]
    assert (row["networks"], row["left_out"], row["better"], row["worse"], row["pairs"]) == (1, 1, 3, 1, [])


def test_the_bootstrap_against_scipy() -> None:
    from scipy import stats as scipy

    dice = np.random.default_rng(5)
    true = dice.choice(3, 300, p=[0.6, 0.3, 0.1])
    a, b = (np.where(dice.random(300) < right, true, (true + 1) % 3) for right in (0.8, 0.7))
    gaps = ((a == true).astype(float) - (b == true)).tolist()
    ours = {one["metric"]: one for one in bootstrap(true.tolist(), gaps, BOTH, 0.9)}

    def balanced(true: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([(a[true == k] == k).mean() - (b[true == k] == k).mean() for k in range(3)]))

    def plain(true: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        return float((a == true).mean() - (b == true).mean())

    for name, statistic in zip(BOTH, (plain, balanced), strict=True):
        theirs = scipy.bootstrap(
            (true, a, b), statistic, paired=True, vectorized=False, n_resamples=1500, confidence_level=0.9,
            method="percentile", rng=np.random.default_rng(1),
        )  # fmt: skip
        assert ours[name]["diff"] == pytest.approx(statistic(true, a, b))
        bounds = theirs.confidence_interval
        assert (ours[name]["low"], ours[name]["high"]) == pytest.approx((bounds.low, bounds.high), abs=0.012)
    assert bootstrap(true.tolist(), gaps, BOTH, 0.9) == list(ours.values()), "the same each time"


def test_only_images_that_all_networks_saw_are_compared(runs: Path) -> None:
    network(runs, "base", 0, BASE[:8], IDS[:8])
    network(runs, "ours", 0, OURS[4:][::-1], IDS[4:][::-1])
    (found,) = found_in(runs)
    assert found["images"] == 4
    assert (found["rows"][0]["better"], found["rows"][0]["worse"]) == (2, 0)
    network(runs, "ours", 1, OURS[9:], IDS[9:])
    (found,) = found_in(runs)
    assert (found["images"], found["rows"]) == (0, [])


def test_runs_without_predictions_are_named_with_the_command_that_makes_them(runs: Path, mm: Mm) -> None:
    network(runs, "base", 0, BASE)
    network(runs, "ours", 0, OURS)
    network(runs, "ours", 1, None)
    damaged = network(runs, "ours", 2, OURS)
    (kept,) = (damaged / "predictions").iterdir()
    kept.write_bytes(kept.read_bytes() + b" ")
    (found,) = found_in(runs)
    assert (found["rows"][0]["networks"], found["rows"][0]["left_out"]) == (1, 0)
    assert found["missing"][0] == "mmctl evaluate ours1  # no predictions are stored"
    assert found["missing"][1].startswith("mmctl evaluate ours2  # predictions/test-ema-1000-")
    assert "is damaged" in found["missing"][1]
    out = mm("compare", "--per-example").out
    assert "2 runs have no predictions that can be read; these commands make them:" in out
    (centroid,) = found_in(runs, "test/centroid/accuracy")
    assert centroid["missing"][0] == "mmctl evaluate ours1 --predictor centroid  # no predictions are stored"
    said = {"head": (OURS, None)}
    made = write_predictions(runs / "ours1", "x", IDS, CLASSES, TRUE, said)
    append(runs / "ours1", replace(evaluation(1000, 0.8), predictions=made))
    (found,) = found_in(runs)
    assert (found["rows"][0]["networks"], found["rows"][0]["left_out"]) == (1, 1)
    assert "1 (1 left out)" in mm("compare", "--per-example").out


def test_the_checkpoint_is_that_of_the_metric(runs: Path) -> None:
    for name, early in (("base", BASE), ("ours", BASE)):
        network(runs, name, 0, early, step=500)
        network(runs, name, 0, BASE if name == "base" else OURS)
    last, early = found_in(runs, "test/accuracy", "test/accuracy@step=500")
    assert [last["rows"][0]["better"], early["rows"][0]["better"]] == [3, 0]
    assert early["what"] == "test, at step 500"
    (missing,) = found_in(runs, "test/accuracy@step=700")
    assert missing["missing"][0] == "mmctl evaluate base0 --checkpoint 700  # no predictions are stored"


def test_what_cannot_be_compared_image_by_image(runs: Path, mm: Mm) -> None:
    network(runs, "base", 0, BASE)
    network(runs, "ours", 0, OURS)
    with pytest.raises(UserError, match="needs a metric of images"):
        found_in(runs, "test/nll")
    odd = runs / "ours0"
    said = {"head": ([3] * 10, None)}
    kept = write_predictions(odd, "x", IDS, [*CLASSES, "emu"], TRUE, said)
    append(odd, replace(evaluation(1000, 0.8), predictions=kept))
    (found,) = found_in(runs)
    assert found["rows"][0]["better"] == 3, "a newer file that does not fit: the one before it"
    network(runs, "ours", 1, None)
    append(runs / "ours1", replace(evaluation(1000, 0.8), predictions=f"predictions/../../ours0/{kept}"))
    (found,) = found_in(runs)
    assert "is not the name of a file of predictions" in found["missing"][0]
    write(odd, 1, {"e": "points", "step": 1000, "v": {"test/of/mine/too/accuracy": 0.5}})
    with pytest.raises(UserError, match="needs a metric of images"):
        found_in(runs, "test/of/mine/too/accuracy")
    done = mm("compare", "ours", "--per-example")
    assert (done.code, "image by image: --baseline says" in done.out) == (0, True)
    assert mm("compare", "--per-example", "--x", "steps").code == 2


def test_the_page_shows_the_images(runs: Path, mm: Mm) -> None:
    network(runs, "base", 0, BASE)
    network(runs, "ours", 0, OURS)
    out = mm("compare", "--per-example", "--per-seed").out
    for words in (
        "Image by image: test, last evaluation, 10 images", "3 images that ours gets right and base wrong",
        "1 images that base gets right and ours wrong", "6.png  owl         owl   cat", "Networks of the same seed",
    ):  # fmt: skip
        assert words in out
    assert "6.png | owl | owl | cat" in mm("compare", "--per-example", "--format", "markdown").out
    assert ",10,3,1," in mm("compare", "--per-example", "--format", "csv").out
    shown = json.loads(mm("compare", "--per-example", "--json").out)["panels"][0]["per_image"]
    assert len(shown[0]["rows"][0]["images"]) == 4
    assert mm("compare", "--per-example", "--format", "html").out.count("<table>") == 6


def test_rows_that_a_terminal_does_not_show_have_names(runs: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(print_compare, "MOST", 1)
    for name, predicted in (("base", TRUE), ("a", [*TRUE[:9], 0]), ("b", [0] * 10)):
        network(runs, name, 0, predicted)
    done = mm("compare", "-b", "base", "--per-example")
    assert done.code == 0, done.err
    assert "the first 1 of 3 rows" in done.out
    assert "images that base gets right and b wrong" in done.out
