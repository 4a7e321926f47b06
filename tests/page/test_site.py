"""`mmctl report --site`: an index and a page for each configuration, of which only changed ones are written again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.fake_runs import evaluation, family, finished_run
from helpers.html_page import HtmlPage, check_page
from mmctl.run_folder.events import Note, Tag
from mmctl.run_folder.journal import append
from mmctl.run_folder.predictions import write_predictions

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
            assert not anchor or anchor in pages[name].ids if name else True
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
