"""`mmctl report --site`: an index and a page for each configuration, of which only changed ones are written again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.fake_runs import evaluation, family, finished_run, points, write
from helpers.html_page import HtmlPage, check_page
from helpers.paths import REPO
from mmctl import environment
from mmctl.page import site
from mmctl.page.report import Want
from mmctl.run_folder.events import Note, Tag
from mmctl.run_folder.journal import append
from mmctl.run_folder.predictions import write_predictions
from mmctl.store.store import Store

Mm = Callable[..., Result]
PLAIN = ("--no-embedding", "--no-images")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three methods with two seeds each, as far as journals tell."""
    folder = tmp_path / "runs"
    family(folder, 2)
    return folder


def made(mm: Mm, *words: object) -> dict[str, Any]:
    done = mm("report", "--site", "site", *PLAIN, *words, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def complete(mm: Mm, runs: Path) -> None:
    """Store predictions of every completed run, so that no part of a page is missing."""
    for folder in runs.glob("2*"):
        path = write_predictions(folder, "test", ["a", "b"], ["x", "y"], [0, 1], {"head": ([1, 1], [0.9, 0.8])})
        append(folder, evaluation(1000, 0.9, predictions=path))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_every_link_leads_somewhere(mm: Mm, runs: Path) -> None:
    found = made(mm)
    assert len(found["written"]) == 4
    pages = {path.name: HtmlPage.of(path) for path in Path("site").iterdir()}
    assert set(pages) == set(found["written"])
    for page in pages.values():
        check_page(page)
        for target in page.links:
            name, _, anchor = target.partition("#")
            assert not name or name in pages, target
            assert not anchor or anchor in (pages[name] if name else page).ids, target
    index = pages["index.html"]
    assert {target for target in index.links if not target.startswith("#")} == set(pages) - {"index.html"}
    assert "7 runs; 3 configurations" in index.text
    assert all("index.html" in page.links for name, page in pages.items() if name != "index.html")


def test_only_changed_pages_are_written_again(mm: Mm, runs: Path) -> None:
    complete(mm, runs)
    assert made(mm)["missing"] == []
    before = times(Path("site"))
    again = made(mm)
    assert (again["written"], len(again["unchanged"])) == ([], 4)
    assert times(Path("site")) == before
    append(next(runs.glob("*supervised-s0*")), Note(text="looked at"))
    (page,) = made(mm)["written"]
    assert page.startswith("supervised-")
    assert "looked at" in HtmlPage.of(Path("site", page)).text
    finished_run(runs, "20261125-120000-new", name="new", config_id="new", seed=1)
    assert sorted(name[:3] for name in made(mm)["written"]) == ["ind", "new"]
    assert len(made(mm, "-m", "train/loss")["written"]) == 5, "other options"


def test_a_page_with_a_missing_part_is_made_again(mm: Mm, runs: Path) -> None:
    assert len(made(mm)["missing"]) == 3
    complete(mm, runs)
    found = made(mm)
    assert found["missing"] == []
    assert len(found["written"]) == 3


def test_other_files_stay(mm: Mm, runs: Path) -> None:
    site = Path("site")
    site.mkdir()
    (site / "mine.html").write_text("mine")
    (site / "style.css").write_text("mine")
    made(mm)
    done = mm("report", "mixmatch", "--site", site, *PLAIN)
    assert "does not lead to 2 older pages" in done.err
    assert len(list(site.iterdir())) == 6
    assert (site / "mine.html").read_text() == (site / "style.css").read_text() == "mine"
    (site / "index.html").write_text("mine")
    done = mm("report", "--site", site, *PLAIN)
    assert (done.code, done.out) == (2, "")
    assert "is not a page of mmctl report" in done.err
    assert (site / "index.html").read_text() == "mine"
    made(mm, "--force")
    check_page(HtmlPage.of(site / "index.html"))


def test_pages_of_odd_names(mm: Mm, runs: Path) -> None:
    finished_run(runs, "20261125-120000-odd", name="../../x", config_id="../../../etc", seed=1)
    finished_run(runs, "20261125-120001-odd", name="..", config_id="", seed=1)
    append(runs / "20261125-120001-odd", Tag(add=["x"]))
    found = made(mm)
    assert all("/" not in name for name in found["written"])
    assert len(set(found["written"])) == 6
    assert len(list(Path("site").iterdir())) == 6


def page_like(name: str) -> HtmlPage:
    """The page of the site whose file name begins so."""
    (path,) = Path("site").glob(f"{name}-*.html")
    return HtmlPage.of(path)


def test_a_baseline_is_on_the_pages_of_its_data(mm: Mm, runs: Path) -> None:
    finished_run(runs, "20261125-120000-far", name="far", config_id="far", seed=1, data_hash="d2")
    made(mm, "-b", "supervised")
    page = page_like("mixmatch")
    check_page(page)
    assert "vs supervised" in page.text
    assert "3 runs; 1 configuration;" in page.text, "the runs of the baseline are in the tables only"
    assert "supervised, 2 seeds" not in page.text
    assert "vs supervised" in HtmlPage.of(Path("site/index.html")).text
    assert "vs supervised" not in page_like("far").text, "other data"
    assert made(mm, "-b", "supervised")["unchanged"]
    write(next(runs.glob("*supervised-s0*")), 1, points(2000, test__ema__head__accuracy=0.1))
    changed = {name.split("-")[0] for name in made(mm, "-b", "supervised")["written"]}
    assert changed >= {"supervised", "mixmatch", "marginmix"}, "they show the new figure of the baseline"


def test_a_metric_that_only_some_have(mm: Mm, runs: Path) -> None:
    write(next(runs.glob("*mixmatch-s0*")), 1, points(900, train__guess_accuracy=0.75))
    made(mm, "-m", "train/guess_accuracy", "-m", "test/accuracy")
    assert "train/guess_accuracy" in page_like("mixmatch").text
    assert "train/guess_accuracy" not in page_like("supervised").text
    assert "test/accuracy" in page_like("supervised").text
    made(mm, "-m", "train/guess_accuracy")
    assert "test/accuracy" in page_like("supervised").text, "what it has instead"


@pytest.mark.parametrize("words", [("-b", "supervisd"), ("-m", "test/acuracy")])
def test_a_wrong_option_leaves_no_folder(mm: Mm, runs: Path, words: tuple[str, ...]) -> None:
    done = mm("report", "--site", "a/site", *PLAIN, *words)
    assert (done.code, done.out) == (2, "")
    assert "Did you mean" in done.err
    assert not Path("a").exists()


def test_the_index_counts_one_run_of_each_seed(mm: Mm, tmp_path: Path) -> None:
    for n, final in enumerate((0.3, 0.9, 0.8)):
        finished_run(
            tmp_path / "runs", f"20261125-12000{n}-m", final=final, seed=max(n - 1, 0), config_id="c", name="m"
        )
    made(mm)
    listed = HtmlPage.of(Path("site/index.html")).text
    assert re.search(r"85\.0 \W+ 7\.1 test/accuracy", listed), "the first run was repeated, and does not count"
    assert "66.7" not in listed


def test_data_are_read_once_for_all_pages(mm: Mm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def build(*args: Any, **more: Any) -> Any:
        seen.append(more["shared"])
        return whole(*args, **more)

    whole = site.build
    monkeypatch.setattr(site, "build", build)
    made(mm)
    assert len(seen) == 3
    assert all(one is seen[0] for one in seen)


def test_a_part_that_can_never_be_there_does_not_count(mm: Mm, runs: Path) -> None:
    complete(mm, runs)
    assert made(mm, "-c", "best")["missing"] == [], "no train.keep_best"
    assert "keeps no best checkpoint" in page_like("mixmatch").text
    assert made(mm, "-c", "best")["written"] == []


def test_an_imported_run_is_made_once(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / "runs"))
    assert mm("import", REPO / "tests" / "exchange" / "files" / "offline.wandb").code == 0
    found = [json.loads(mm("report", "--site", "site", "--json").out) for _ in range(2)]
    assert [one["missing"] for one in found] == [[], []]
    assert found[1]["written"] == []


def test_a_predictor_without_probabilities(mm: Mm, runs: Path) -> None:
    for folder in runs.glob("2*"):
        path = write_predictions(folder, "test", ["a", "b"], ["x", "y"], [0, 1], {"head": ([1, 1], None)})
        append(folder, evaluation(1000, 0.9, predictions=path))
    assert made(mm)["missing"] == []
    assert "gives no probabilities" in page_like("mixmatch").text
    assert made(mm)["written"] == []


def test_other_code_is_another_digest(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings and images come from folders other than page/ and report/."""
    (tmp_path / "other" / "page").mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "other" / "environment.py"))
    found = []
    with Store(runs) as store:
        store.sync()
        for name, code in (("embed.py", "a = 1"), ("embed.py", "a = 2"), ("page/site.py", "a = 1")):
            (tmp_path / "other" / name).write_text(code)
            environment.code.cache_clear()
            found.append(site._digest(store, store.runs(), Want()))
    environment.code.cache_clear()
    assert len(set(found)) == 3
