"""Runs as a user starts them: folders, batches, dry runs, evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.command import Result
from helpers.paths import REPO
from mmctl.cli.options import parse_seeds
from mmctl.recipe.recipe import load
from mmctl.run_folder import journal
from mmctl.runs.create import create_run

DIGITS = REPO / "recipes" / "digits.toml"
SHORT = [w for s in ("train.steps=6", "eval.every=3", "train.threads=1", "split.labels=20") for w in ("--set", s)]


def folders(tmp_path: Path) -> list[Path]:
    return sorted(p for p in (tmp_path / "runs").glob("2*") if p.is_dir()) if (tmp_path / "runs").exists() else []


def test_a_run_from_start_to_evaluation(mm: Callable[..., Result], tmp_path: Path) -> None:
    done = mm("run", DIGITS, *SHORT, "--name", "first", "--tag", "good", "--note", "a try")
    assert done.code == 0, done.err
    (folder,) = folders(tmp_path)
    names = {p.name for p in folder.iterdir()}
    assert {"recipe.toml", "source.toml", "run.json", "split.json", "lease", "journal.1.jsonl", "checkpoints"} <= names
    about = json.loads((folder / "run.json").read_text())
    assert (about["name"], about["tags"], about["note"], about["total_steps"]) == ("first", ["good"], "a try", 6)
    assert about["primary"] == "test/ema/head/accuracy"
    assert load(folder / "recipe.toml").config_id == about["config_id"]
    assert (folder / "source.toml").read_text().startswith(DIGITS.read_text())
    assert "# --set train.steps=6" in (folder / "source.toml").read_text()
    kinds = [line.event.kind for line in journal.read_lines(folder / "journal.1.jsonl")]
    assert kinds[0] == "attempt"
    assert {"state", "data", "points", "checkpoint", "evaluation", "pace"} <= set(kinds)
    listed = json.loads(mm("ls", "--json").out)
    assert len(listed["runs"]) == 1
    shown = mm("show", "first").out
    assert "20 labelled" in shown
    assert "completed" in shown


@pytest.mark.sampled(4, 2)
@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize("predictor", ["head", "centroid"])
def test_evaluate_gives_the_logged_figures_to_the_last_digit(
    weights: str, predictor: str, mm: Callable[..., Result], tmp_path: Path
) -> None:
    assert mm("run", DIGITS, *SHORT, "--quiet").code == 0
    found = json.loads(mm("evaluate", "@last", "--weights", weights, "--predictor", predictor, "--json").out)
    assert found["logged"]
    assert {k: found["metrics"][k] for k in found["logged"]} == found["logged"]
    assert found["step"] == 6
    assert sum(map(sum, found["confusion"])) == found["n"] == 500


@pytest.mark.slow
def test_evaluate_other_splits_and_gates(mm: Callable[..., Result], tmp_path: Path) -> None:
    assert mm("run", DIGITS, *SHORT, "--quiet").code == 0
    train = json.loads(mm("evaluate", "1", "--split", "train", "--json").out)
    assert train["n"] == 1297
    table = mm("evaluate", "1").out
    assert "recall" in table
    assert "=" in table
    assert mm("evaluate", "1", "--min", "0.999").code == 7
    for words in (
        ("--split", "tset"), ("--weights", "emma"), ("--predictor", "heads"), ("--checkpoint", "7"),
    ):  # fmt: skip
        wrong = mm("evaluate", "1", *words)
        assert wrong.code == 2
        assert len(wrong.err.strip().splitlines()) == 1, wrong.err


def test_dry_run_tells_the_plan_and_writes_nothing(mm: Callable[..., Result], tmp_path: Path) -> None:
    done = mm("run", DIGITS, "--dry-run", "--set", "train.threads=1")
    assert done.code == 0, done.err
    for words in (
        "40 labelled, 1297 unlabelled",
        "0: 4, 1: 4",
        "ETA",
        "no gradient",
        "ramp over 200 steps",
        "40 in both",
    ):
        assert words in done.out, words
    assert folders(tmp_path) == []


@pytest.mark.parametrize(("limit", "says"), [(0.0, "(one step, measured for 0 s)"), (0.65, "(median of 2 steps, ")])
def test_dry_run_has_a_time_limit(
    limit: float, says: str, mm: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmctl.preview import dry_run

    now = iter(range(10**6))
    monkeypatch.setattr(dry_run, "LIMIT", limit)
    # Each look at the clock takes a twentieth of a second, and each step looks three times.
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(perf_counter=lambda: next(now) / 20))
    done = mm("run", DIGITS, "--dry-run", "--set", "train.threads=1")
    assert done.code == 0, done.err
    assert says in done.out


def test_dry_run_tells_of_cycles_and_of_the_mean_over_them(mm: Callable[..., Result], tmp_path: Path) -> None:
    sets = ("schedule.name=cyclic", "schedule.horizon=0.6", "schedule.start=0.5", "schedule.cycle=0.1")
    swa = ("average.kind=swa", "average.start=0.4", "average.every=5", "train.threads=1")
    done = mm("run", DIGITS, "--dry-run", *(word for s in (*sets, *swa) for word in ("--set", s)))
    assert done.code == 0, done.err
    assert "a cosine that would reach 0 at step 300; from step 250 its last 50 steps repeat" in done.out
    assert "SWA: mean of the networks after steps 200, 205, 210 ..." in done.out


@pytest.mark.slow
def test_a_batch_runs_side_by_side_and_tells_what_failed(mm: Callable[..., Result], tmp_path: Path) -> None:
    done = mm("run", DIGITS, REPO / "recipes" / "digits-supervised.toml", "--seeds", "0-1", "--jobs", "2", *SHORT)
    assert done.code == 0, done.err
    assert "[4/4]" in done.out
    compared = json.loads(mm("compare", "--json").out)
    cells = compared["panels"][0]["configurations"]
    assert sorted(c["method"] for c in cells) == ["marginmix", "supervised"]
    assert all(c["values"][0]["n"] == 2 for c in cells)
    failed = mm("run", DIGITS, "--seeds", "5,6", "--jobs", "2", *SHORT, "--set", "optimizer.lr=1e30")
    assert failed.code == 6
    assert "2 of 2 runs did not complete" in failed.err
    assert failed.out.count("failed") == 2


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        (None, []), ("0", [0]), ("3-3", [3]), ("0-4", [0, 1, 2, 3, 4]), ("0,2,5", [0, 2, 5]), (" 7, 1-2 ,", [7, 1, 2]),
        ("999999999", [999999999]), ("0-9999", [*range(10_000)]),
    ],
)  # fmt: skip
def test_what_seeds_stand_for(text: str | None, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "contains no seed"), (" , ", "contains no seed"), ("a", "is not a seed"), ("-1", "is not a seed"),
        ("4-0", "is not a seed"), ("0-", "is not a seed"), ("0..4", "is not a seed"), ("1.5", "is not a seed"),
        ("1_0", "is not a seed"), ("1000000000", "is not a seed"), ("1,1", "a seed twice"), ("0-4,3", "a seed twice"),
        ("0-10000", "more than 10000 seeds"), ("0-9999,10000", "more than 10000 seeds"),
    ],
)  # fmt: skip
def test_what_are_no_seeds(mm: Callable[..., Result], tmp_path: Path, text: str, says: str) -> None:
    for words in (("run", "digits"), ("table", "table3", "--commands")):
        done = mm(*words, f"--seeds={text}")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("mmctl: --seeds: ")
        assert says in done.err
    assert folders(tmp_path) == []


def test_no_folder_is_used_twice(tmp_path: Path) -> None:
    recipe = load(DIGITS)
    made = {create_run(recipe, tmp_path / "runs") for _ in range(20)}
    assert len(made) == 20


def test_an_error_names_installed_components(tmp_path: Path) -> None:
    from mmctl.runs.recorder import plugin_line

    file = tmp_path / "site-packages" / "theirs.py"
    file.parent.mkdir()
    file.write_text("def apply():\n    return 1 / 0\n")
    scope: dict[str, Callable[[], float]] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    with pytest.raises(ZeroDivisionError) as caught:
        scope["apply"]()
    theirs = {"origin": "their-dist", "file": str(file)}
    assert plugin_line(caught.value, [theirs]) == f"{file.resolve()}:2"
    assert (
        plugin_line(caught.value, [{"origin": "mmctl", "file": str(file)}, {"origin": "their-dist", "file": None}])
        is None
    )
