"""What is said of runs: which one is meant, which number stands for it, which cell is better."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, evaluation, family, finished_run, make_run, points, state, write
from mmctl import text
from mmctl.errors import RunNotFound, UserError
from mmctl.report import console, stats, summaries
from mmctl.report.compare import How, compare
from mmctl.report.published import published_value
from mmctl.run_folder.journal import append
from mmctl.run_folder.lease import Lease
from mmctl.store import metrics, select
from mmctl.store.select import flatten
from mmctl.store.store import Store
from mmctl.text import json_safe

PRIMARY = "test/ema/head/accuracy"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def store(runs: Path) -> Iterator[Store]:
    family(runs, 5)
    with Store(runs) as opened:
        opened.sync()
        yield opened


def synced(runs: Path) -> Store:
    opened = Store(runs, memory=True)
    opened.sync()
    return opened


@pytest.mark.parametrize(
    ("asked", "primary", "name"),
    [
        ("test/accuracy", PRIMARY, PRIMARY),
        ("test/accuracy", "test/raw/centroid/accuracy", "test/raw/centroid/accuracy"),
        ("val/nll", PRIMARY, "val/ema/head/nll"),
        ("test/raw/accuracy", PRIMARY, "test/raw/head/accuracy"),
        ("test/centroid/accuracy", PRIMARY, "test/ema/centroid/accuracy"),
        ("test/raw/centroid/ece", PRIMARY, "test/raw/centroid/ece"),
        ("train/loss", PRIMARY, "train/loss"),
        ("train/loss/x", PRIMARY, "train/loss/x"),
        ("lr", PRIMARY, "lr"),
        ("test/accuracy", "", "test/ema/head/accuracy"),
        ("test/accuracy", "val/acc", "test/accuracy"),  # of a run of another program
        ("test/other/accuracy", PRIMARY, "test/other/accuracy"),
    ],
)
def test_names_of_curves(asked: str, primary: str, name: str) -> None:
    assert metrics.series_name(asked, primary) == name


def test_short_names() -> None:
    assert [metrics.short_name(name) for name in (PRIMARY, "lr", "train/loss")] == ["test/accuracy", "lr", "train/loss"]


@pytest.mark.parametrize("text", ["", "@last", "a@lasst", "a@step=x", "a@best:", "a@"])
def test_a_metric_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="@"):
        metrics.parse_metric(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("test/accuracy", 0.80),
        ("test/accuracy@last", 0.80),
        ("test/accuracy@max", 0.95),
        ("test/accuracy@min", 0.5),
        ("test/accuracy@median20", 0.80),
        ("test/accuracy@mean20", 0.7625),
        ("test/accuracy@step=200", 0.95),
        ("test/accuracy@best:val/accuracy", 0.5),
        ("test/accuracy@best:val/nll", 0.95),
    ],
)
def test_reducers(runs: Path, text: str, value: float) -> None:
    folder = make_run(runs, "r1")
    rows = [(100, 0.5, 0.9, 3.0), (200, 0.95, 0.8, 1.0), (300, 0.80, 0.7, 2.0), (400, 0.80, 0.9, 2.0)]
    for step, test, val, nll in rows:
        v = {PRIMARY: test, "val/ema/head/accuracy": val, "val/ema/head/nll": nll}
        write(folder, 1, {"e": "points", "step": step, "v": v})
    with synced(runs) as store:
        found, _ = metrics.metric_values(store, store.runs(), metrics.parse_metric(text))
        assert list(found.values()) == pytest.approx([value])
        assert metrics.metric_values(store, store.runs(), metrics.parse_metric("test/accuracy@step=7"))[0] == {}
        assert metrics.metric_values(store, store.runs(), metrics.parse_metric("val/f1@best:val/f1"))[0] == {}


def test_the_headline_is_a_median_only_where_all_runs_have_twenty(runs: Path) -> None:
    finished_run(runs, "r1", evaluations=20)
    with synced(runs) as store:
        assert metrics.metric_values(store, store.runs(), metrics.parse_metric("test/accuracy"))[1] == "median20"
    finished_run(runs, "r2", evaluations=19, seed=1)
    with synced(runs) as store:
        assert metrics.metric_values(store, store.runs(), metrics.parse_metric("test/accuracy"))[1] == "last"
        assert [row["reducer"] for row in summaries.listing(store, store.runs())] == ["median20", "last"]


def test_choosing_by_the_test_images_is_known() -> None:
    peeking = ["test/accuracy@max", "val/accuracy@best:test/accuracy", "test/nll@min"]
    honest = ["test/accuracy", "test/accuracy@best:val/accuracy", "val/accuracy@max"]
    assert [metrics.parse_metric(text).peeks for text in peeking + honest] == [True] * 3 + [False] * 3


def test_references(store: Store) -> None:
    rows = store.runs()
    assert select.find_run(rows, "3") is rows[2]
    assert select.find_run(rows, rows[4]["uid"]) is rows[4]
    assert select.find_run(rows, "20261125-081507") is rows[7]
    assert select.find_run(rows, "000f")["uid"].endswith("marginmix-s4-000f")
    assert select.find_run(rows, "@last") is rows[-1]
    assert select.find_run(rows, "@last-failed")["state"] == "failed"


def test_a_reference_to_several_runs_lists_them(store: Store) -> None:
    with pytest.raises(RunNotFound) as told:
        select.find_run(store.runs(), "supervised")
    assert "5 runs" in str(told.value)
    assert str(told.value).count("supervised-s") == 5
    with pytest.raises(RunNotFound, match=r"16 runs(.|\n)*and 6 older"):
        select.find_run(store.runs(), "2026")


def test_an_unknown_reference_has_suggestions(store: Store) -> None:
    with pytest.raises(RunNotFound, match="Did you mean"):
        select.find_run(store.runs(), "mixmatsh")
    with pytest.raises(RunNotFound, match="There are no runs yet"):
        select.find_run([], "@last")
    with pytest.raises(RunNotFound):
        select.find_run(store.runs(), "")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("terms", "count"),
    [
        ([], 16),
        (["state:failed"], 1),
        (["state:failed,completed"], 16),
        (["not:state:failed"], 15),
        (["state!=failed"], 15),
        (["mixmatch"], 6),
        (["mixmatch", "supervised"], 11),
        (["mixmatch", "seed:1"], 1),
        (["seed<2"], 6),
        (["seed>=4"], 4),
        (["seed=1"], 3),
        (["labels:40"], 16),
        (["cfg.optimizer.lr>=0.03"], 16),
        (["cfg.method.name:mixmatch"], 6),
        (["test/accuracy>0.83"], 10),
        (["test/accuracy@step=1000>0.83", "method:marginmix"], 5),
        (["tag:none"], 0),
        (["2"], 1),
        (["000f"], 1),
    ],
)
def test_filters(store: Store, terms: list[str], count: int) -> None:
    assert len(select.select_runs(store, store.runs(), terms)) == count


@pytest.mark.parametrize("term", ["stat:failed", "seed<many", "nosuchword", "test/accuracy@lats>1"])
def test_filters_that_are_none(store: Store, term: str) -> None:
    with pytest.raises(UserError):
        select.select_runs(store, store.runs(), [term])


def test_the_listing_of_a_live_run(runs: Path) -> None:
    folder = make_run(runs, "r1")
    with Lease(folder) as held:
        held.beat(400, 1000, 2.0)
        write(folder, 1, attempt(), state("running"), data(), points(300, test__ema__head__accuracy=0.5))
        with synced(runs) as store:
            (row,) = summaries.listing(store, store.runs())
    assert (row["state"], row["step"], row["rate"], row["eta"], row["value"]) == ("running", 400, 2.0, 300.0, 0.5)


def test_the_profile_is_json(store: Store) -> None:
    for run in store.runs():
        found = summaries.run_details(store, run)
        assert json.loads(json.dumps(json_safe(found), allow_nan=False))["uid"] == run["uid"]
    assert found["published"]["distance"] == pytest.approx(found["value"] - 0.89)
    assert len(found["evaluations"]) == 4
    assert found["checkpoints"][0]["present"] is False


def test_an_evaluation_made_afterwards_is_the_last_one(runs: Path) -> None:
    folder = finished_run(runs, "r1", final=0.9)
    append(folder, replace(evaluation(1000, 0.77), t=T0 + 10**6))
    with synced(runs) as store:
        found = summaries.run_details(store, store.runs()[0])
    shown = {(one["weights"], one["predictor"]): one["metrics"]["accuracy"] for one in found["evaluations"]}
    assert shown["ema", "head"] == 0.77
    assert found["value"] == 0.9


def test_cells_means_and_the_paired_test(store: Store) -> None:
    found = compare(store, store.runs(), ["test/accuracy"])
    (panel,) = found["panels"]
    assert (panel["dataset"], panel["labels"], panel["baseline"]) == ("digits", 40, "config-supervised")
    cells = {cell["method"]: cell for cell in panel["configurations"]}
    assert [cell["method"] for cell in panel["configurations"]] == ["marginmix", "mixmatch", "supervised"]
    ours = {m: [run["values"][0] for run in c["runs"] if run["state"] == "completed"] for m, c in cells.items()}
    for method, cell in cells.items():
        figures = cell["values"][0]
        assert figures["n"] == 5
        assert figures["mean"] == pytest.approx(stats.mean(ours[method]))
        assert (figures["low"], figures["high"]) == pytest.approx(stats.interval(ours[method]))
    right = stats.paired(list(zip(ours["marginmix"], ours["supervised"], strict=True)))
    assert right
    against = cells["marginmix"]["values"][0]["against"]
    assert (against["name"], against["n"], against["p_min"]) == ("paired t", 5, 0.0625)
    assert against["p"] == pytest.approx(right["p"])
    others = cells["mixmatch"]["values"][0]["against"]
    assert [against["p_holm"], others["p_holm"]] == pytest.approx(stats.holm([against["p"], others["p"]]))
    assert "against" not in cells["supervised"]["values"][0]
    assert cells["mixmatch"]["counts"] == {"completed": 5, "failed": 1}
    assert cells["marginmix"]["values"][0]["published"]["distance"] == pytest.approx(
        stats.mean(ours["marginmix"]) - 0.89
    )
    assert found["settings"]["keys"] == ["method.name"]
    names = [["mmctl:marginmix"], ["mmctl:mixmatch"], ["mmctl:supervised"]]
    assert [column["values"] for column in found["settings"]["columns"]] == names
    assert json.dumps(json_safe(found))


def test_other_seeds_or_splits_are_not_paired(runs: Path) -> None:
    for seed in range(3):
        finished_run(runs, f"a{seed}", method="supervised", name="a", seed=seed, final=0.8 + seed / 100)
        finished_run(
            runs, f"b{seed}", method="mixmatch", name="b", seed=seed, final=0.9 - seed / 50, split_hash=f"x{seed}"
        )
    with synced(runs) as store:
        cells = compare(store, store.runs(), ["test/accuracy"])["panels"][0]["configurations"]
        assert cells[0]["values"][0]["against"]["name"] == "Welch t"
        cells = compare(store, store.runs(), ["test/accuracy"], How(test="paired"))["panels"][0]["configurations"]
        assert cells[0]["values"][0]["against"]["name"] == "none"  # no shared seed and split


@pytest.mark.parametrize(
    ("test", "name"), [("paired", "paired t"), ("welch", "Welch t"), ("permutation", "sign flip"), ("none", None)]
)
def test_the_test_can_be_chosen(store: Store, test: str, name: str | None) -> None:
    cells = compare(store, store.runs(), ["test/accuracy"], How(test=test))["panels"][0]["configurations"]
    assert cells[0]["values"][0].get("against", {}).get("name") == name


def test_other_data_and_other_label_counts_are_other_panels(runs: Path) -> None:
    for number, (labels, hash_) in enumerate([(40, "d1"), (40, "d2"), (1000, "d1"), (400, "d1")]):
        made: dict[str, Any] = {"config_id": f"c{number}", "method": "supervised", "labels": labels, "data_hash": hash_}
        finished_run(runs, f"r{number}", **made)
        finished_run(runs, f"s{number}", **made | {"config_id": f"d{number}", "method": "mixmatch"})
    with synced(runs) as store:
        panels = compare(store, store.runs(), ["test/accuracy"])["panels"]
    assert [(panel["data_hash"], panel["labels"]) for panel in panels] == [
        ("d1", 40),
        ("d1", 400),
        ("d1", 1000),
        ("d2", 40),
    ]
    assert all(len(panel["configurations"]) == 2 for panel in panels)


def test_one_cell_whose_data_changed_is_not_averaged(runs: Path) -> None:
    finished_run(runs, "r1", seed=0, data_hash="d1")
    finished_run(runs, "r2", seed=1, data_hash="d2")
    with synced(runs) as store:
        panels = compare(store, store.runs(), ["test/accuracy"])["panels"]
    assert [panel["configurations"][0]["values"][0]["n"] for panel in panels] == [1, 1]


def test_runs_without_a_value_are_counted(runs: Path) -> None:
    finished_run(runs, "r1", seed=0)
    finished_run(runs, "r2", seed=1, end="nc")
    write(make_run(runs, "r3", seed=2), 1, attempt(), state("running"))
    write(make_run(runs, "r4", seed=3), 1, attempt(), state("failed"))
    with synced(runs) as store:
        (panel,) = compare(store, store.runs(), ["test/accuracy"])["panels"]
    (cell,) = panel["configurations"]
    assert cell["counts"] == {"completed": 1, "failed": 1, "nc": 1, "running": 1}
    figures = cell["values"][0]
    assert (figures["n"], figures["std"], figures["low"]) == (1, None, None)


NAN = 'the loss term "labeled" became NaN or infinite at step 10. The last checkpoint is older'


def unstable(runs: Path) -> None:
    """A baseline of three runs; four completed runs, one collapsed, one diverged, one out of memory, one repaired."""
    for seed in range(3):
        finished_run(runs, f"a{seed}", name="a", method="supervised", config_id="a", seed=seed, final=0.5)
    for seed in range(4):
        finished_run(runs, f"b{seed}", name="b", config_id="b", seed=seed, final=0.98 - 0.01 * seed, created=T0 + 1)
    finished_run(runs, "b4", name="b", config_id="b", seed=4, final=0.6, end="nc", created=T0 + 2)
    for seed, reason in ((5, NAN), (6, "out of memory in step 3")):
        folder = make_run(runs, f"b{seed}", name="b", config_id="b", seed=seed, created=T0 + 2)
        write(folder, 1, attempt(), state("running"), data(split_hash=f"s{seed}"), state("failed", 10, reason, 3))
    finished_run(runs, "b7", name="b", config_id="b", seed=0, end="nc", created=T0)  # seed 0 was completed later


def test_runs_that_did_not_converge_stand_beside_the_mean_and_can_be_counted(runs: Path) -> None:
    unstable(runs)
    metrics = ["test/accuracy", "test/nll"]
    with synced(runs) as store:
        plain = compare(store, store.runs(), metrics)
        counted = compare(store, store.runs(), metrics, How(count_nc=True))
    rows = {row["recipe"]: row for row in plain["panels"][0]["configurations"]}
    accuracy, nll = rows["b"]["values"]
    assert (accuracy["n"], accuracy["nc"], accuracy["nc_counted"]) == (4, 2, False)
    assert accuracy["mean"] == pytest.approx(0.965)
    assert (rows["a"]["values"][0]["nc"], rows["a"]["values"][0]["nc_counted"]) == (0, False)
    (row,) = [row for row in counted["panels"][0]["configurations"] if row["recipe"] == "b"]
    accuracy, same = row["values"]
    # Four classes: chance is 1/4, not the last value .6, which is older than the collapse.
    assert (accuracy["n"], accuracy["nc"], accuracy["nc_counted"]) == (6, 2, True)
    assert accuracy["mean"] == pytest.approx((4 * 0.965 + 2 * 0.25) / 6)
    assert (same["n"], same["mean"], same["nc_counted"]) == (4, nll["mean"], False), "NLL has no level of chance"
    assert [run["uid"] for run in row["runs"] if run["counted"]] == ["b0", "b1", "b2", "b3", "b4", "b5"]


@pytest.mark.parametrize(
    ("flags", "cell", "legend"),
    [
        ((), "4 / 7 96.5 +- 1.3 (2 nc)", "not in the mean, which favours unstable methods; --count-nc counts it"),
        (
            ("--count-nc",),
            "6 / 7 72.7 +- 36.9 (with 2 nc)",
            "counted in the mean as chance level, 1 / number of classes",
        ),
    ],
)
def test_the_page_says_how_many_did_not_converge(
    flags: tuple[str, ...], cell: str, legend: str, runs: Path, mm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unstable(runs)
    out = mm("compare", "-m", "test/accuracy", *flags).out.replace("\u00b1", "+-")
    assert cell in " ".join(out.split())
    assert legend in out


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("test", ["paired", "welch", "permutation"])
def test_intervals_of_shares_stay_within_all_that_is_possible(n: int, test: str, runs: Path) -> None:
    for seed in range(n):
        finished_run(
            runs, f"a{seed}", name="a", method="supervised", config_id="a", seed=seed, final=0.02 + 0.05 * seed
        )
        finished_run(runs, f"b{seed}", name="b", config_id="b", seed=seed, final=1 - 0.12 * (seed % 2))
    with synced(runs) as store:
        (panel,) = compare(store, store.runs(), ["test/accuracy", "test/nll"], How(test=test))["panels"]
    for row in panel["configurations"]:
        share, nll = row["values"]
        assert share["low"] is not None
        assert share["high"] is not None
        assert 0 <= share["low"] <= share["mean"] <= share["high"] <= 1
        if against := share.get("against"):
            assert against["low"] is not None
            assert against["high"] is not None
            assert -1 <= against["low"] <= against["diff"] <= against["high"] <= 1
    first, second = (metric["interval"] for metric in panel["metrics"])
    assert (first, second) == ("Student t, cut at 0 and 1 (differences: -1 and 1)", "Student t")
    assert n > 2 or nll["high"] > 1, "an interval that is not cut passes the bounds here"


def hardware_runs(runs: Path, *kinds: tuple[str, str]) -> None:
    for seed, (precision, device) in enumerate(kinds):
        folder = make_run(runs, f"r{seed}", name="a", config_id="a", seed=seed)
        start = attempt(precision=precision, device=device)
        write(folder, 1, start, data(split_hash=f"s{seed}"), evaluation(1000, 0.9), state("completed", 1000))


@pytest.mark.parametrize(
    ("kinds", "mark", "note"),
    [
        ([("fp32", "cpu"), ("fp32", "cpu")], None, None),
        ([("bf16", "NVIDIA A100"), ("bf16", "NVIDIA H100")], None, None),
        ([("fp32", "cpu"), ("bf16", "cpu"), ("fp32", "cpu")], "90.0 +- 0.0 (mixed precision)",
         "a: its mean mixes bf16 on CPU (seeds 1), fp32 on CPU (seeds 0, 2); precision:fp32 or device:cpu selects"),
        ([("bf16", "cpu"), ("bf16", "NVIDIA H100")], "90.0 +- 0.0 (CPU and GPU)",
         "a: its mean mixes bf16 on CPU (seeds 0), bf16 on GPU (seeds 1); precision:fp32 or device:cpu selects"),
    ],
)  # fmt: skip
def test_a_mean_over_several_precisions_or_kinds_of_device_is_marked(
    kinds: list[tuple[str, str]], mark: str | None, note: str | None, runs: Path, mm: Any
) -> None:
    hardware_runs(runs, *kinds)
    out = mm("compare", "-m", "test/accuracy").out.replace("\u00b1", "+-")
    assert ("its mean mixes" in out) == (note is not None)
    if mark and note:
        assert mark in out
        assert note in " ".join(out.split())
        (panel,) = json.loads(mm("compare", "-m", "test/accuracy", "--json").out)["panels"]
        assert len(panel["configurations"][0]["hardware"]) == 2
        alone = mm("compare", "-m", "test/accuracy", f"precision:{kinds[0][0]}", f"device:{kinds[0][1]}").out
        assert "mixes" not in alone


def test_a_comparison_shows_where_precision_differs(runs: Path) -> None:
    hardware_runs(runs, ("fp32", "cpu"))
    folder = make_run(runs, "r9", name="b", config_id="b")
    write(folder, 1, attempt(precision="bf16"), data(split_hash="s0"), evaluation(1000, 0.9), state("completed", 1000))
    with synced(runs) as store:
        found = compare(store, store.runs(), ["test/accuracy"])["settings"]
    assert found["keys"] == ["(hardware)"]
    assert sorted(str(column["values"][0]) for column in found["columns"]) == ["bf16 on CPU", "fp32 on CPU"]


def test_diff_compares_the_attempts(runs: Path) -> None:
    same = {"isa": "AVX2", "threads": 2, "precision": "fp32", "versions": {"torch": "2.14"}}
    changed = {
        "device": "NVIDIA H100",
        "isa": "AVX512",
        "threads": 1,
        "precision": "bf16",
        "versions": {"torch": "2.15"},
    }
    write(make_run(runs, "r1", config_id="a"), 1, attempt(**same), data(), state("completed", 9))
    write(make_run(runs, "r2", config_id="a"), 1, attempt(**changed), data(), state("completed", 9))
    folder = make_run(runs, "r3", config_id="a")
    write(folder, 1, attempt(**same), data(), state("interrupted", 5))
    write(folder, 2, attempt(2, 5, **changed | {"precision": "fp32"}), state("completed", 9))
    with synced(runs) as store:
        one, two, three = store.runs()
        assert summaries.difference(store, one, one, False)["differences"] == {}
        found = summaries.difference(store, one, two, False)["differences"]
        resumed = summaries.difference(store, one, three, False)["differences"]
    assert found == {
        "environment.device": ["cpu", "NVIDIA H100"], "environment.isa": ["AVX2", "AVX512"],
        "environment.threads": [2, 1], "environment.precision": ["fp32", "bf16"],
        "environment.versions.torch": ["2.14", "2.15"],
    }  # fmt: skip
    assert resumed["environment.threads"] == [2, [2, 1]]
    assert "environment.precision" not in resumed


def test_a_seed_run_twice_counts_once(runs: Path) -> None:
    finished_run(runs, "r1", seed=0, final=0.5, created=T0)
    finished_run(runs, "r2", seed=0, final=0.9, created=T0 + 1)
    with synced(runs) as store:
        (panel,) = compare(store, store.runs(), ["test/accuracy"])["panels"]
    assert panel["configurations"][0]["values"][0]["mean"] == 0.9
    assert [run["counted"] for run in panel["configurations"][0]["runs"]] == [False, True]
    assert "repeat a seed" in panel["notes"][0]


def test_a_diverged_value_is_shown_not_hidden(runs: Path) -> None:
    for seed, value in enumerate([0.9, math.nan]):
        folder = make_run(runs, f"r{seed}", seed=seed)
        write(folder, 1, attempt(), data(), {"e": "points", "step": 1, "v": {PRIMARY: value}}, state("completed", 1))
    with synced(runs) as store:
        (panel,) = compare(store, store.runs(), ["test/accuracy"])["panels"]
    assert math.isnan(panel["configurations"][0]["values"][0]["mean"])


def test_the_baseline(store: Store) -> None:
    rows = store.runs()
    named = compare(store, rows, ["test/accuracy"], How(baseline="mixmatch"))["panels"][0]
    assert named["baseline"] == "config-mixmatch"
    assert compare(store, rows[6:], ["test/accuracy"])["panels"][0]["baseline"] is None
    with pytest.raises(UserError, match="Did you mean"):
        compare(store, rows, ["test/accuracy"], How(baseline="mixmach"))
    with pytest.raises(UserError, match="Known: auto"):
        compare(store, rows, ["test/accuracy"], How(test="t-test"))


@pytest.mark.parametrize(
    ("published", "value", "std"),
    [
        ({"value": 89.0, "std": 0.5}, 0.89, 0.005),
        ({"value": 6.42, "unit": "error %"}, 0.9358, None),
        ({"value": 0.89, "unit": "accuracy"}, 0.89, None),
    ],
)
def test_published_values_are_fractions(published: dict[str, Any], value: float, std: float | None) -> None:
    found = published_value(published, "test/accuracy", PRIMARY)
    assert found
    assert (found["value"], found["std"]) == pytest.approx((value, std))


@pytest.mark.parametrize("published", [None, {}, {"value": "x"}, {"value": 1.0, "metric": "test/nll"}])
def test_published_values_of_something_else(published: Any) -> None:
    assert published_value(published, "test/accuracy", PRIMARY) is None


def test_settings_are_flat() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_diff(runs: Path) -> None:
    finished_run(runs, "r1", seed=0)
    finished_run(runs, "r2", seed=1, settings={"optimizer__lr": 0.1, "centroids__rate": 0.5})
    with synced(runs) as store:
        a, b = store.runs()
        found = summaries.difference(store, a, b, False)["differences"]
        assert found == {
            "seed": [0, 1],
            "optimizer.lr": [0.03, 0.1],
            "centroids.rate": [None, 0.5],
            "split": ["s0", "s1"],
        }
        assert len(summaries.difference(store, a, b, True)["differences"]) > 10


def test_figures() -> None:
    assert console.figure(0.8766) == "87.7"
    assert console.figure(-0.021, "accuracy", sign=True) == "-2.1"
    assert console.figure(0.12344, "test/ema/head/nll") == "0.1234"
    assert console.figure(math.nan) == "nan"
    assert console.figure(None) == ""
    assert [text.duration(s) for s in (5, 119, 120, 5400, 86400, 200000)] == [
        "5s",
        "1m59s",
        "2m00s",
        "1h30m",
        "1d00h",
        "2d07h",
    ]
    assert [console.p_value(p) for p in (0.00001, 0.0625, 1.0, None)] == ["<.0001", ".0625", "1", ""]
    assert [console.file_size(n) for n in (5, 123456, None)] == ["5 bytes", "123.5 kB", "0 bytes"]


def test_text_that_a_terminal_would_obey() -> None:
    assert text.printable("a\x1b[31mb\n\x9b\u202e c\u00a0d") == "a\\u001b[31mb\\u000a\\u009b\\u202e c\u00a0d"
    assert text.printable(None) == ""
    assert len(console.cut("x" * 100)) == console.WIDEST


def test_while_a_run_trains_its_curves_give_the_last_evaluation(runs: Path) -> None:
    folder = make_run(runs, "r1")
    v = {"accuracy": 0.7, "nll": 1.5, "odd": 1.0}
    write(folder, 1, attempt(), {"e": "points", "step": 50, "v": {f"test/raw/head/{key}": v[key] for key in v}})
    write(folder, 1, evaluation(40, 0.6, "raw"), evaluation(60, 0.8, "ema"))
    with synced(runs) as store:
        found = summaries.run_details(store, store.runs()[0])["evaluations"]
    shown = {one["weights"]: (one["step"], one["metrics"]["accuracy"], one["n"]) for one in found}
    assert shown == {"raw": (50, 0.7, None), "ema": (60, 0.8, 397)}
    assert found[0]["metrics"]["nll"] == 1.5
    assert "odd" not in found[0]["metrics"]


def test_better_cells_come_first_whatever_the_direction(runs: Path) -> None:
    figures = {"a": (0.5, 3.0), "b": (math.nan, 1.0), "c": (0.9, 2.0), "d": (0.7, math.nan)}
    for n, (name, (accuracy, nll)) in enumerate(figures.items()):
        folder = make_run(runs, f"r{n}", name=name, config_id=name)
        rows = [attempt(), state("running"), data()]
        v = {PRIMARY: accuracy, "test/ema/head/nll": nll}
        write(folder, 1, *rows, {"e": "points", "step": 9, "v": v}, state("completed", 9))
    with synced(runs) as store:
        order = {
            metric: [cell["recipe"] for cell in compare(store, store.runs(), [metric])["panels"][0]["configurations"]]
            for metric in ("test/accuracy", "test/nll")
        }
    assert order == {"test/accuracy": ["c", "d", "a", "b"], "test/nll": ["b", "c", "a", "d"]}


def test_the_permutation_test_says_what_it_cannot_count(runs: Path) -> None:
    family(runs, 13)
    with synced(runs) as store, pytest.raises(UserError, match="takes at most 12 pairs, but there are 13"):
        compare(store, store.runs(), ["test/accuracy"], How(test="permutation"))


def test_a_misspelt_metric_is_told(store: Store) -> None:
    with pytest.raises(UserError, match=r'no run has "test/acuracy". Did you mean "test/accuracy"'):
        compare(store, store.runs(), ["test/acuracy"])
    with pytest.raises(UserError, match="Did you mean"):
        select.select_runs(store, store.runs(), ["test/acuracy>0.5"])


def test_no_run_has_failed(runs: Path) -> None:
    finished_run(runs, "20261125-080000-x-s0-0001")
    with synced(runs) as store, pytest.raises(RunNotFound, match="no run has failed") as caught:
        select.find_run(store.runs(), "@last-failed")
    assert "Did you mean" not in str(caught.value)


def test_another_version_of_a_plugin_is_told(runs: Path) -> None:
    for n, (cell, digest) in enumerate((("c1", "aa"), ("c2", "bb"))):
        folder = finished_run(runs, f"r{n}", config_id=cell, seed=n)
        about = json.loads((folder / "run.json").read_text())
        part = {"kind": "labeler", "slot": None, "name": "plugins:calm", "origin": "plugins", "version": None}
        about["components"].append(part | {"file_hash": "0" * 64, "helpers": {"_shared.py": digest * 32}})
        (folder / "run.json").write_text(json.dumps(about))
    with synced(runs) as store:
        found = compare(store, store.runs(), ["test/accuracy"])["settings"]
    assert found["keys"] == ["version of labeler"]
    wanted = [[f"plugins:calm 00000000 _shared.py {digest * 4}"] for digest in ("aa", "bb")]
    assert [column["values"] for column in found["columns"]] == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"config": {"split": 5}},
        {"config": 7},
        {"components": 5},
        {"components": ["x"]},
        {"git": "x"},
        {"environment": 3},
    ],
)
def test_a_run_json_of_any_shape_spoils_no_listing(runs: Path, wrong: dict[str, Any]) -> None:
    finished_run(runs, "20261125-080000-good-s0-0001")
    folder = finished_run(runs, "20261125-080001-odd-s0-0002", config_id="odd")
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | wrong))
    with synced(runs) as store:
        listed = store.runs()
        assert len(summaries.listing(store, listed)) == 2
        compare(store, listed, ["test/accuracy"])
        summaries.run_details(store, listed[1])
        summaries.difference(store, *listed, everything=True)


def test_without_a_metric_what_the_runs_have_is_compared(mm: Callable[..., Result], tmp_path: Path) -> None:
    """Runs without balanced accuracy have accuracy alone; those judged by another metric have that one."""

    def compared() -> list[str]:
        return [one["metric"] for one in json.loads(mm("compare", "--json").out)["panels"][0]["metrics"]]

    runs = tmp_path / "runs"
    for seed in range(2):
        folder = make_run(runs, f"plain-s{seed}", seed=seed, created=T0 + seed, primary="test/ema/head/nll")
        loss = points(10, test__ema__head__nll=0.5 + seed)
        write(folder, 1, attempt(), state("running"), data(), loss, state("completed", 10))
    assert compared() == ["test/nll"]
    assert "test/nll" in mm("plot").out
    write(runs / "plain-s0", 2, points(20, test__ema__head__accuracy=0.5), state("completed", 20))
    assert compared() == ["test/accuracy"]
