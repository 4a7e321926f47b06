"""Comparisons to the end: unfinished and unstable runs, settings, groups, equal compute, gates, and every format."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, evaluation, family, finished_run, make_run, state, write
from mmctl.errors import UserError
from mmctl.recipe.settings import TABLES
from mmctl.report.compare import How, compare
from mmctl.report.comparison import Comparison
from mmctl.report.gates import failures, parse_gate
from mmctl.report.settings import ONLY_WITH, UNLABELED
from mmctl.run_folder.events import Event, Pace
from mmctl.store.store import Store

Mm = Callable[..., Result]
ACCURACY = ["test/accuracy"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def found_in(runs: Path, *metrics: str, **how: Any) -> Comparison:
    with Store(runs, memory=True) as store:
        store.sync()
        return compare(store, store.runs(), metrics or ACCURACY, How(**how))


def rows_of(found: Comparison) -> dict[str, Any]:
    return {row["recipe"]: row for panel in found["panels"] for row in panel["configurations"]}


def seeds(runs: Path, name: str, finals: list[float], end: str = "completed", first: int = 0, **more: Any) -> None:
    for n, final in enumerate(finals, first):
        finished_run(runs, f"{name}{n}", name=name, config_id=name, seed=n, final=final, end=end, **more)


# unfinished and unstable runs


def test_unfinished_runs_are_counted_but_in_no_mean(runs: Path, mm: Mm) -> None:
    seeds(runs, "a", [0.9, 0.8])
    seeds(runs, "a", [0.1], end="interrupted", first=2)
    write(make_run(runs, "a3", name="a", config_id="a", seed=3), 1, attempt(), state("running"), evaluation(10, 0.1))
    write(make_run(runs, "old", name="a", config_id="a", seed=0, created=T0 - 1), 1, attempt(), state("failed"))
    row = rows_of(found_in(runs))["a"]
    assert (row["values"][0]["n"], row["seeds"], row["values"][0]["mean"]) == (2, 4, pytest.approx(0.85))
    out = " ".join(mm("compare").out.split())
    assert "a 2 / 4 85.0" in out
    assert "n: completed runs / runs that were started" in out


@pytest.mark.parametrize(("said", "counts"), [("chance", 0.25), (0.1, 0.1), (0, 0.0)])
def test_a_recipe_says_what_a_run_that_did_not_converge_counts(runs: Path, mm: Mm, said: Any, counts: float) -> None:
    seeds(runs, "a", [0.6, 0.6], method="supervised")
    seeds(runs, "b", [0.9, 0.9], settings={"eval__nc_as": said})
    seeds(runs, "b", [0.9], end="nc", first=2, settings={"eval__nc_as": said})
    found = found_in(runs, "test/accuracy", "test/nll")
    one, nll = rows_of(found)["b"]["values"]
    mean = (0.9 + 0.9 + counts) / 3
    assert (one["n"], one["nc"], one["mean"]) == (2, 1, pytest.approx(0.9))
    assert one["all_runs"] == {
        "n": 3, "mean": pytest.approx(mean), "std": pytest.approx((0.9 - counts) / 3**0.5), "counts_as": counts,
    }  # fmt: skip
    assert one["against"]["left_out"] == 1
    assert nll["all_runs"] is None, "NLL has no such level"
    assert f"{100 * mean:.1f}" in mm("compare", "-m", "test/accuracy").out
    assert "(without 1 nc)" in mm("compare", "-m", "test/accuracy").out


def test_runs_that_did_not_converge_never_flatter(runs: Path) -> None:
    """By its two good runs, b would be first; with the collapsed ones as chance level it is last."""
    seeds(runs, "a", [0.6, 0.6])
    seeds(runs, "b", [0.9, 0.9])
    seeds(runs, "b", [0.9, 0.9], end="nc", first=2)
    assert list(rows_of(found_in(runs))) == ["a", "b"]
    assert list(rows_of(found_in(runs, "test/nll"))) == ["a", "b"], "no level of chance: after the others"
    assert list(rows_of(found_in(runs, count_nc=True))) == ["a", "b"]
    assert rows_of(found_in(runs))["b"]["values"][0]["all_runs"] is None, "the recipe does not say it"


def test_documents_mark_no_row_with_runs_left_out_as_the_best(runs: Path, mm: Mm) -> None:
    seeds(runs, "a", [0.6, 0.62, 0.61])
    seeds(runs, "b", [0.59, 0.62, 0.60])
    seeds(runs, "c", [0.2, 0.21, 0.2])
    seeds(runs, "d", [0.9, 0.91])
    seeds(runs, "d", [0.9], end="nc", first=2)
    out = mm("compare", "-m", "test/accuracy", "--format", "latex").out
    assert re.search(r"^a & \$3\$ & \\textbf\{\\boldmath \$61\.0 \\pm 1\.0\$\}", out, re.M)
    assert re.search(r"^b & \$3\$ & \\underline\{", out, re.M), "not significantly worse"
    assert re.search(r"^c & \$3\$ & \$20\.3", out, re.M)
    assert re.search(r"^d & \$2\$ / \$3\$ & \$90\.5 \\pm 0\.7\$ \(\$1\$ nc\)", out, re.M)


# settings


def test_settings_that_matter_to_one_side_are_not_listed(runs: Path) -> None:
    def more(weight: float, **settings: Any) -> dict[str, Any]:
        return {"loss__unlabeled": {"name": "mmctl:brier", "weight": weight}, "train__unlabeled_batch": 7} | settings

    seeds(runs, "a", [0.5], method="supervised", settings={"train__unlabeled_batch": 64, "method__only": 1})
    seeds(runs, "b", [0.6], settings=more(75, train__batch=32))
    assert found_in(runs)["settings"]["keys"] == ["method.name", "train.batch"]
    seeds(runs, "c", [0.4], settings=more(1))
    found = found_in(runs)["settings"]
    assert found["keys"] == ["loss.unlabeled.weight", "method.name", "train.batch"]
    weight = {column["config_ids"][0]: column["values"][0] for column in found["columns"]}
    assert weight == {"a": None, "b": 75, "c": 1}
    assert "loss.unlabeled.name" in found_in(runs, all_keys=True)["settings"]["keys"]


def test_a_setting_that_one_side_does_not_give_is_listed_where_the_component_is_the_same(runs: Path) -> None:
    seeds(runs, "a", [0.5], settings={"optimizer__clip": 1.0, "optimizer__betas": [0.9, 0.99]})
    seeds(runs, "b", [0.6], settings={"optimizer__momentum": 0.8})
    assert found_in(runs)["settings"]["keys"] == ["optimizer.clip", "optimizer.momentum"], "betas are not SGD's"


def test_settings_are_listed_once_for_all_panels(runs: Path, mm: Mm) -> None:
    for labels in (20, 40):
        for name, lr in (("a", 0.1), ("b", 0.2)):
            made = {"labels": labels, "settings": {"optimizer__lr": lr}}
            finished_run(runs, f"{name}{labels}", name=name, config_id=f"{name}{labels}", **made)
    found = found_in(runs)["settings"]
    assert found["keys"] == ["optimizer.lr"]
    assert [(column["config_ids"], column["values"]) for column in found["columns"]] == [
        (["a20", "a40"], [0.1]), (["b20", "b40"], [0.2]),
    ]  # fmt: skip
    assert mm("compare").out.count("Settings that differ") == 1
    finished_run(runs, "a40x", name="a", config_id="a40x", labels=40, settings={"optimizer__lr": 0.3})
    assert "a a40x" in mm("compare").out


def test_many_configurations_have_a_line_each(runs: Path, mm: Mm) -> None:
    for n in range(7):
        seeds(runs, f"r{n}", [0.5], settings={"optimizer__lr": n / 10})
    lines = mm("compare").out.partition("Settings that differ")[2].split("\n")
    assert lines[1].split() == ["recipe", "optimizer.lr"]
    assert len([line for line in lines if re.match(r"r\d +0", line)]) == 7


def test_a_terminal_gets_the_best_of_very_many_rows(runs: Path, mm: Mm) -> None:
    for n in range(203):
        made = make_run(runs, f"r{n}", name=f"r{n}", config_id=f"r{n}", settings={"optimizer__lr": n})
        write(made, 1, attempt(), data(), evaluation(1000, n / 1000), state("completed", 1000))
    out = mm("compare", "-m", "test/accuracy", "-b", "r0").out
    assert len(re.findall(r"^r\d+ +1 ", out, re.M)) == 201, "with the baseline, which is the last"
    assert "the first 201 of 203 rows; all are in --json and other formats" in out
    assert len(mm("compare", "-m", "test/accuracy", "--format", "csv").out.split("\n")) == 205


def test_the_table_of_conditions_names_real_settings() -> None:
    for key in (*ONLY_WITH, *UNLABELED):
        table, name = key.split(".")
        assert name in TABLES[table].model_fields, key
    for chooser, values in ONLY_WITH.values():
        table, name = chooser.split(".")
        assert set(values.split()) <= set(TABLES[table].model_fields[name].annotation.__args__)  # type: ignore[union-attr]
    said = {
        f"{table}.{name}": re.match(r"([a-z, ]+): ", field.description or "")
        for table, model in TABLES.items()
        for name, field in model.model_fields.items()
        if table != "split"
    }
    for key, found in said.items():
        if found:
            assert set(found[1].split(", ")) == set(ONLY_WITH[key][1].split()), key


# groups, level, order


def test_runs_are_grouped_by_what_is_asked(runs: Path) -> None:
    for n, (lr, method) in enumerate([(0.1, "mixmatch"), (0.1, "pi_model"), (0.2, "mixmatch")]):
        for seed in range(2):
            more = {"method": method, "settings": {"optimizer__lr": lr}, "seed": seed}
            finished_run(runs, f"r{n}{seed}", name=f"r{n}", config_id=f"c{n}", final=0.5 + n / 10 + seed / 50, **more)
    found = found_in(runs, by=("cfg.optimizer.lr",), baseline="optimizer.lr=0.1")
    rows = rows_of(found)
    assert list(rows) == ["optimizer.lr=0.2", "optimizer.lr=0.1"]
    one = rows["optimizer.lr=0.1"]
    assert (one["configurations"], one["values"][0]["n"], one["method"]) == (2, 4, "several")
    assert one["values"][0]["mean"] == pytest.approx(0.56)
    assert rows["optimizer.lr=0.2"]["values"][0]["against"]["name"] == "Welch t", "their runs are no pairs"
    assert any("over 2 configurations" in note for note in found["panels"][0]["notes"])
    assert [column["config_ids"] for column in found["settings"]["columns"]] in ([], [["optimizer.lr=0.2"]])
    assert set(rows_of(found_in(runs, by=("method", "cfg.optimizer.lr")))) == {
        "method=mixmatch, optimizer.lr=0.1", "method=pi_model, optimizer.lr=0.1", "method=mixmatch, optimizer.lr=0.2",
    }  # fmt: skip
    for wrong, hint in (("cfg.optimizer.lrr", "cfg.optimizer.lr"), ("metod", "method"), ("", "config")):
        with pytest.raises(UserError, match=f"--by.*{hint}"):
            found_in(runs, by=(wrong,))


def test_the_level_is_that_of_all_intervals(runs: Path, mm: Mm) -> None:
    family(runs, 3)
    wide, narrow = (rows_of(found_in(runs, level=level))["mixmatch"]["values"][0] for level in (0.95, 0.8))
    for one, other in ((wide, narrow), (wide["against"], narrow["against"])):
        assert one["low"] < other["low"] < other["high"] < one["high"]
    out = mm("compare", "--ci", "80", "--precision", "3").out
    assert "80 % interval" in out
    assert re.search(r"\d\d\.\d{3} . \d\.\d{3}", out)
    for wrong in ("0.95", "100", "49", "nan"):
        assert mm("compare", "--ci", wrong).code == 2


@pytest.mark.parametrize(
    ("sort", "order"),
    [("recipe", "abc"), ("-recipe", "cba"), ("n", "bca"), ("test/nll", "cba"), ("-test/nll", "abc"),
     ("test/accuracy", "cba"), ("-test/accuracy", "abc"), ("delta", "cba"), ("-delta", "bca"), ("std", "cba")],
)  # fmt: skip
def test_the_order_of_the_rows(runs: Path, sort: str, order: str) -> None:
    seeds(runs, "a", [0.5], method="supervised")
    seeds(runs, "b", [0.5, 0.7, 0.6])
    seeds(runs, "c", [0.8, 0.82])
    assert "".join(rows_of(found_in(runs, "test/accuracy", "test/nll", sort=sort))) == order
    with pytest.raises(UserError, match='Did you mean "delta"'):
        found_in(runs, sort="dela")


# equal compute


def costly(runs: Path, name: str, batch: int, *journals: list[Event]) -> None:
    """A run of 400 steps, evaluated each 100; its accuracy is its step / 1000."""
    more = {"train__batch": batch, "train__unlabeled_batch": batch, "train__steps": 400}
    folder = make_run(runs, name, name=name, config_id=name, total=400, settings=more)
    for n, events in enumerate(journals or ([],), 1):
        first = int(events[0].step) if events and isinstance(events[0], Pace) else 0
        steps = range(100, 401, 100) if n == len(journals or ([],)) else range(100, 301, 100)
        seen = [evaluation(step, step / 1000) for step in steps if step > first]
        write(folder, n, attempt(n, first), state("running"), data(), *events, *seen)
    write(folder, len(journals or ([],)), state("completed", 400))


def values(found: Comparison) -> dict[str, float | None]:
    return {name: row["values"][0]["mean"] for name, row in rows_of(found).items()}


def test_curves_are_read_up_to_the_same_number_of_images(runs: Path, mm: Mm) -> None:
    costly(runs, "a", 10)
    costly(runs, "b", 20)
    assert values(found_in(runs)) == {"a": 0.4, "b": 0.4}
    found = found_in(runs, x="images")
    assert found["panels"][0]["compute"] == {"x": "images", "amount": 8000, "given": False}
    assert values(found) == {"a": 0.4, "b": 0.2}
    assert values(found_in(runs, "test/accuracy@mean20", x="images"))["b"] == pytest.approx(0.15)
    assert values(found_in(runs, "test/accuracy@best:test/nll", x="images"))["b"] == 0.2
    assert values(found_in(runs, x="steps", at=250)) == {"a": 0.2, "b": 0.2}
    found = found_in(runs, x="images", at=12_000)
    assert values(found) == {"b": 0.3, "a": None}, "a ended before: no value that would flatter it or not"
    assert found["panels"][0]["notes"] == ["not counted: a ended after 8000 images"]
    assert "no evaluation within 99 images" in found_in(runs, x="images", at=99)["panels"][0]["notes"][0]
    assert "each run up to 8,000 images, the least that a completed run took" in mm("compare", "--x", "images").out
    assert mm("compare", "--at", "5").code == 2
    assert 'Did you mean "seconds"' in mm("compare", "--x", "second").err
    assert mm("compare", "--x", "steps", "-m", "test/accuracy@step=100").code == 2


def test_supervised_training_draws_no_unlabelled_images(runs: Path) -> None:
    costly(runs, "b", 10)
    record = make_run(
        runs,
        "s",
        name="s",
        method="supervised",
        config_id="s",
        total=400,
        settings={"train__batch": 20, "train__steps": 400},
    )
    write(record, 1, attempt(), data(), evaluation(400, 0.7), state("completed", 400))
    assert found_in(runs, x="images")["panels"][0]["compute"] == {"x": "images", "amount": 8000, "given": False}


def test_seconds_are_those_of_the_steps_that_remain(runs: Path) -> None:
    """b took 200 s for 300 steps, was killed, and went on from step 200, which it had reached after 120 s."""
    costly(runs, "a", 10, [Pace(step=100, seconds=10, cpu=1), Pace(step=400, seconds=220, cpu=1)])
    first = [Pace(step=0, seconds=0, cpu=0), Pace(step=100, seconds=40, cpu=0), Pace(step=300, seconds=200, cpu=0)]
    costly(runs, "b", 10, first, [Pace(step=200, seconds=0, cpu=0), Pace(step=400, seconds=200, cpu=0)])
    found = found_in(runs, x="seconds")
    assert found["panels"][0]["compute"] == {"x": "seconds", "amount": 220, "given": False}
    assert values(found) == {"a": 0.4, "b": 0.3}, "200 steps in 120 s, then one each second"
    assert values(found_in(runs, x="seconds", at=119)) == {"a": 0.2, "b": 0.1}
    write(
        make_run(runs, "c", name="c", config_id="c"),
        1,
        attempt(device="x"),
        data(),
        evaluation(9, 0.1),
        state("completed", 9),
    )
    notes = found_in(runs, x="seconds")["panels"][0]["notes"]
    assert notes == [
        "not counted: c does not say how many seconds its steps took",
        "seconds of different devices are compared: cpu, x",
    ]


# gates


@pytest.mark.parametrize(
    ("gate", "lines"),
    [
        ("test/accuracy<0.9", 1), ("test/accuracy < 0.5", 0), ("test/accuracy<=0.9", 2),
        ("n<3 and test/accuracy>0.8", 1),
        ("n < 2", 0), ("delta<0", 0), ("delta>0 and p<0.9", 1), ("effect>100", 0), ("std>0.5", 0),
        ("nc>0", 0), ("high<0.1", 0), ("p_holm<2", 1),
    ],
)  # fmt: skip
def test_conditions(runs: Path, gate: str, lines: int) -> None:
    seeds(runs, "a", [0.5, 0.52, 0.51], method="supervised")
    seeds(runs, "b", [0.89, 0.91])
    assert len(failures(found_in(runs, "test/accuracy", test="welch"), [parse_gate(gate)])) == lines


def test_a_condition_that_cannot_be_judged_fails(runs: Path, mm: Mm) -> None:
    seeds(runs, "a", [0.5], method="supervised")
    seeds(runs, "b", [0.9])
    assert "p has no value" in failures(found_in(runs), [parse_gate("p<0.05 and delta>0")])[0]
    assert failures(found_in(runs), [parse_gate("p<0.05 and delta<0")]) == [], "one term is false"
    write(make_run(runs, "c", name="c", config_id="c"), 1, attempt(), data(), state("running"))
    done = mm("compare", "--fail-if", "test/macro_f1<0.1")
    assert (done.code, done.out.count("test/macro_f1, %")) == (7, 1)
    assert "c: test/macro_f1 has no value (--fail-if 'test/macro_f1<0.1')" in done.err
    assert mm("compare", "tag:none", "--fail-if", "n<1").code == 7
    assert mm("compare", "b", "--fail-if", "p<0.05").code == 2, "no baseline"
    assert mm("compare", "--fail-if", "p<0.05", "--test", "none").code == 2
    for wrong in (
        "accuracy",
        "test/accuracy=0.9",
        "acc<1",
        "test/accuracy<x",
        "n<1 or n>2",
        "test/accuracy@lats<1",
        "",
    ):
        done = mm("compare", "--fail-if", wrong)
        assert (done.code, done.out) == (2, ""), wrong


def test_strict_wants_every_seed(runs: Path, mm: Mm) -> None:
    seeds(runs, "a", [0.5, 0.6])
    seeds(runs, "b", [0.7])
    done = mm("compare", "--strict")
    assert done.code == 6
    assert "digits, 40 labels, b: no completed run of seed 1" in done.err
    seeds(runs, "b", [0.7], end="nc", first=1)
    assert mm("compare", "--strict").code == 0, "that it did not converge is a result"
    seeds(runs, "b", [0.7], end="interrupted", first=2)
    assert "a: no completed run of seed 2" in mm("compare", "--strict", "--format", "csv").err


# formats


class Page(html.parser.HTMLParser):
    """The tags of a page, checked to be nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[int] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "b")
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += int(dict(attrs).get("colspan") or 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_format(runs: Path, mm: Mm) -> None:
    family(runs, 3)
    seeds(runs, "odd", [0.5, 0.6], settings={"method__note": "a|b & <b>50 %</b>\x1b[31m"})
    forms = {
        form: mm("compare", "--format", form) for form in ("text", "markdown", "latex", "csv", "tsv", "json", "html")
    }
    for form, done in forms.items():
        assert (done.code, done.err) == (0, ""), form
        assert "\x1b" not in done.out
        assert "marginmix" in done.out
    assert forms["json"].out == mm("compare", "--json").out
    rows = list(csv.DictReader(io.StringIO(forms["csv"].out)))
    assert rows == list(csv.DictReader(io.StringIO(forms["tsv"].out), delimiter="\t"))
    assert len(rows) == 4 * 2
    shown = json.loads(forms["json"].out)["panels"][0]["configurations"]
    for row, one in zip(rows[::2], shown, strict=True):
        assert (row["recipe"], int(row["n"]), int(row["seeds"])) == (one["recipe"], one["values"][0]["n"], one["seeds"])
        assert float(row["mean"]) == one["values"][0]["mean"]
        assert (row["p"] == "") == ("against" not in one["values"][0])
    tables = [part for part in forms["markdown"].out.rstrip().split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n")}) == 1
    assert r"a\|b & \<b\>50 %\</b\>\\u001b[31m" in forms["markdown"].out
    latex = forms["latex"].out
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    assert r"a\textbar{}b \& \textless{}b\textgreater{}50 \%\textless{}/b\textgreater{}" in latex
    for line in latex.split("\n"):
        if line.endswith(r" \\") and "paired" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) in (4, 9, 10, 11), line
    assert "a|b &amp; &lt;b&gt;50 %&lt;/b&gt;" in forms["html"].out
    page = Page(forms["html"].out.partition("\n")[2])
    assert len(set(page.cells)) <= 3
    assert forms["html"].out.isascii()
    assert mm("compare", "--format", "latx").code == 2


def test_the_same_formats_for_published_tables(mm: Mm) -> None:
    out = {form: io.StringIO(mm("table", "table3", "-f", form).out) for form in ("csv", "tsv")}
    assert list(csv.reader(out["csv"])) == list(csv.reader(out["tsv"], delimiter="\t"))
    Page(mm("table", "table3", "-f", "html").out.partition("\n")[2])


@pytest.mark.parametrize("columns", [40, 80, 120, 250])
def test_the_page_keeps_to_the_width(runs: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    family(runs, 3)
    monkeypatch.setenv("COLUMNS", str(columns))
    out = mm("compare", "--per-seed").out
    assert max(map(len, out.splitlines())) <= columns
    assert "(no room for" in out or columns == 250
