"""`mmctl ls` with curves, chosen columns, orders and formats, from 40 to 250 columns."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from helpers.command import Result
from helpers.fake_runs import attempt, data, finished_run, make_run, points, state, write
from mmctl.run_folder.lease import Lease
from mmctl.store import importer
from mmctl.store.store import Store

Mm = Callable[..., Result]
RATES = (0.3, 0.01, 0.1)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three finished runs whose accuracy, seed and learning rate have different orders, and one that has not begun."""
    for n, final in enumerate((0.8, 0.9, 0.7)):
        finished_run(
            tmp_path / "runs", f"20261125-08150{n}-mixmatch-s{n}-000{n}", seed=n, final=final, evaluations=30,
            settings={"optimizer__lr": RATES[n]}, created=1_790_000_000_000 + n, tags=["a|b"] if n else [],
        )  # fmt: skip
    make_run(tmp_path / "runs", "20261125-081509-later-s0-0009", name="later", created=1_790_000_000_009)
    return tmp_path / "runs"


def seeds(result: Result) -> list[str]:
    """The first cell of each line of a CSV."""
    assert result.code == 0, result.err
    return [row[0] for row in list(csv.reader(io.StringIO(result.out)))[1:]]


@pytest.mark.parametrize("width", [40, 52, 60, 80, 99, 100, 120, 160, 250])
def test_a_listing_fits_its_terminal(mm: Mm, runs: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = mm("ls")
    assert result.code == 0
    assert max(cell_len(line.rstrip()) for line in result.out.splitlines()) <= width
    assert all(word in result.out for word in ("mixmatch-s", "completed", "queued", "accuracy"))
    assert ("20261125-081500-mixmatch-s0-0000" in result.out) == (width >= 100)


def test_short_ids_name_their_run(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short = next(word for word in mm("ls").out.split() if word.startswith("mixmatch-s1"))
    assert json.loads(mm("show", short, "--json").out)["run"]["seed"] == 1


def test_a_line_has_the_curve_of_its_run(mm: Mm, runs: Path) -> None:
    lines = mm("ls", "--columns", "seed,curve").out.splitlines()[1:4]
    curves = [line.split()[1] for line in lines]
    assert all(len(curve) <= 12 for curve in curves)
    assert all(curve[0] == "\u2581" and curve[-1] == "\u2588" and list(curve) == sorted(curve) for curve in curves)


def test_a_curve_with_nan_shows_where(mm: Mm, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs", "20261125-081500-mixmatch-s0-0000")
    rows = [points(step, test__ema__head__accuracy=0.5 if step < 60 else float("nan")) for step in range(1, 101)]
    write(folder, 1, attempt(), state("running"), data(), *rows, state("nc", 100))
    curve = mm("ls", "--columns", "seed,curve").out.splitlines()[1].split()[1]
    assert curve.endswith("!!!!")
    assert curve[0] != "!"


def test_a_long_listing_reads_no_curves_unless_asked(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmctl.report.listing_columns.MOST_SPARKS", 3)
    assert "curve" not in mm("ls").out
    assert "curve" in mm("ls", "-n", "3").out
    assert "curve" in mm("ls", "-c", "+curve").out


def test_any_column_metric_or_setting_can_be_shown(mm: Mm, runs: Path) -> None:
    result = mm("ls", "seed:0,1,2", "--columns", "seed,test/nll@min,cfg.optimizer.lr,cfg.split.rule,config")
    head, first, *_ = result.out.splitlines()
    assert head.split() == ["seed", "test/nll@min", "optimizer.lr", "split.rule", "config"]
    assert first.split() == ["0", "0.2", "0.3", "balanced", "digits-mixmatch-40"]
    more = mm("ls", "--columns", "+recipe").out.splitlines()[0].split()
    assert "state" in more
    assert more[-1] == "recipe"


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("result", "0201"), ("test/accuracy", "0201"), ("-test/accuracy", "0102"), ("test/accuracy@max", "0201"),
        ("cfg.optimizer.lr", "1020"), ("-cfg.optimizer.lr", "0201"), ("seed", "0012"), ("-seed", "2100"),
        ("age", "0210"), ("state", "0120"), ("-state", "0012"), ("created", "0120"), ("seconds", "0012"),
    ],
)  # fmt: skip
def test_runs_are_sorted_by_anything_with_the_largest_last(mm: Mm, runs: Path, key: str, order: str) -> None:
    """The order of the seeds; `later`, with seed 0, comes first where it has no value."""
    assert "".join(seeds(mm("ls", "--sort", key, "--columns", "seed", "--format", "csv"))) == order


def test_the_last_runs_of_an_order_are_shown(mm: Mm, runs: Path) -> None:
    result = mm("ls", "--sort", "test/accuracy", "-n", "2")
    assert "the last 2 by test/accuracy of 4" in result.out
    assert [line.split()[0] for line in result.out.splitlines()[1:3]] == ["1", "2"]


def test_csv_has_the_values_as_stored(mm: Mm, runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(mm("ls", "--format", "csv", "-c", "+test/nll,left").out)))
    listed = json.loads(mm("ls", "--json").out)["runs"]
    assert [row["run"] for row in rows] == [run["uid"] for run in listed]
    assert [float(row["result"]) for row in rows[:3]] == [run["value"] for run in listed[:3]]
    assert rows[3]["result"] == rows[3]["test/nll"] == rows[0]["left"] == ""
    assert rows[0]["created"] == "2026-09-21T14:13:20+00:00"
    assert rows[1]["tags"] == "a|b"
    tabs = mm("ls", "-f", "tsv").out.splitlines()
    assert tabs[0].split("\t")[:3] == ["number", "run", "name"]


def test_markdown_escapes_what_is_markup_there(mm: Mm, runs: Path) -> None:
    head, rule, *rows = mm("ls", "--format", "markdown").out.splitlines()
    assert head.startswith("| # | run | state | step | curve | test/accuracy |")
    assert rule.count("|") == head.count("|")
    assert len(rows) == 4
    assert "a\\|b" in rows[1]


def test_formats_of_an_empty_listing_are_well_formed(mm: Mm, runs: Path) -> None:
    assert mm("ls", "tag:none", "-f", "csv").out.count("\n") == 1
    assert json.loads(mm("ls", "tag:none", "-f", "json").out)["runs"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sort", "curve"], "--sort curve: this column has no order"),
        (["--sort", "acuracy"], '--sort "acuracy": no such column.'),
        (["--sort", "test/acuracy"], 'no run has "test/acuracy". Did you mean "test/accuracy"'),
        (["--columns", "cfg.optimiser.lr"], 'no run has this setting. Did you mean "cfg.optimizer.lr"'),
        (["--columns", "stat"], 'no such column. Did you mean "state"'),
        (["--columns", ","], "--columns: names no column"),
        (["--format", "cvs"], '--format "cvs": no such format. Did you mean "csv"?'),
    ],
)
def test_mistakes_are_named(mm: Mm, runs: Path, words: list[str], said: str) -> None:
    result = mm("ls", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_a_short_listing_looks_only_into_the_folders_that_it_shows(
    mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = json.loads(mm("ls", "--json").out)["runs"]
    seen: list[str] = []
    stale = importer.stale

    def counted(folder: str, *facts: object) -> bool:
        seen.append(Path(folder).name)
        return stale(folder, *facts)  # type: ignore[arg-type]

    monkeypatch.setattr(importer, "stale", counted)
    found = json.loads(mm("ls", "-n", "1", "--json").out)
    assert seen == ["20261125-081509-later-s0-0009"]
    assert (found["total"], found["found"], found["runs"]) == (4, 4, everything[-1:])
    # What has come, what has gone and what may have died is known all the same.
    shutil.rmtree(runs / everything[0]["uid"])
    old = make_run(runs, "20261125-070000-old-s7-0007", seed=7, created=1)
    with Lease(old):
        write(old, 1, attempt(), state("running"), data())
        assert json.loads(mm("ls", "-n", "1", "--json").out)["total"] == 4
    result = mm("ls", "-n", "1")
    assert "the newest 1 of 4" in result.out
    assert result.out.splitlines()[1].split()[0] == "4"
    with Store(runs) as store:
        assert [run["state"] for run in store.runs() if run["seed"] == 7] == ["crashed"]


def test_the_newest_runs_are_the_last_of_all(mm: Mm, runs: Path) -> None:
    for seed in range(3):  # at the same moment: then by their ids
        make_run(runs, f"20261125-09000{seed}-same-s{seed}-000{seed}", seed=seed, created=1_790_000_000_009)
    mm("ls")
    with Store(runs) as store:
        every = store.runs()
        assert [run["number"] for run in every] == list(range(1, 8))
        for count in (1, 3, 5, 7, 20):
            assert store.runs(newest=count) == every[-count:]
        assert store.runs([every[2]["uid"], every[4]["uid"]]) == [every[2], every[4]]
        assert store.runs([]) == []
