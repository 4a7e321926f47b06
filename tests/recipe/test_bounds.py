"""Integers that cannot be meant are refused with the number that can; none ends in a MemoryError or a bug."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from mmctl.errors import UserError
from mmctl.recipe.settings import TABLES, LossTable, Top
from mmctl.registry.index import Index
from mmctl.registry.parameters import Parameter, parameters
from mmctl.registry.static_index import StaticIndex
from mmctl.runs.check import THREADS_PER_CORE
from mmctl.runs.preflight import preflight

VALUES = (0, -1, 10**9, 10**30)


def integers(rows: list[Parameter]) -> list[str]:
    """The parameters that take an integer, alone or in a list."""
    return [row.name for row in rows if "int" in row.type.replace("joint", "").replace("interleave", "")]


SETTINGS = [
    *(key for key in integers(parameters(Top))),
    *(f"{table}.{key}" for table, model in TABLES.items() for key in integers(parameters(model))),
    *(f"loss.labeled.{key}" for key in integers(parameters(LossTable))),
]
COMPONENTS = [
    (entry.kind, entry.name, key)
    for index in [StaticIndex(sources="off")]
    for entry in index.entries
    for key in integers(parameters(index.shape(entry).model))
]
CHOICES = {
    "schedule.horizon": ["schedule.name=cyclic", "schedule.start=1", "schedule.cycle=1"],
    "schedule.start": ["schedule.name=cyclic", "schedule.horizon=2", "schedule.cycle=1"],
    "schedule.cycle": ["schedule.name=cyclic", "schedule.horizon=2", "schedule.start=2"],
    "average.start": ["average.kind=swa", "average.every=1"],
    "average.every": ["average.kind=swa", "average.start=1"],
}
"""What else a setting needs."""


def test_all_are_found() -> None:
    assert {"seed", "train.batch", "train.threads", "split.val", "schedule.cycle", "loss.labeled.rampup"} <= {*SETTINGS}
    assert {("method", "mixmatch", "num_views"), ("augment", "fixmatch_ra", "solarize")} <= {*COMPONENTS}
    assert {kind for kind, _, _ in COMPONENTS} >= {"dataset", "backbone", "augment", "labeler", "method", "launcher"}


@pytest.mark.sampled(8, 2)
@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_of_any_size_runs_or_is_one_message(mm: Callable[..., Result], key: str) -> None:
    tiny_project.written("supervised")
    for value in VALUES:
        sets = ["train.steps=2", *CHOICES.get(key, []), f"{key}={value}"]
        done = mm("run", "tiny.toml", "--quiet", *(word for one in sets for word in ("--set", one)))
        assert done.code in (0, 2), (key, value, done.err)
        assert "a bug" not in done.err
        if done.code == 2:
            assert key.rpartition(".")[2] in done.err
        if value in (-1, 10**30):
            assert done.code == 2, (key, value)


@pytest.mark.sampled(6, 2)
@pytest.mark.parametrize(("kind", "name", "key"), COMPONENTS)
def test_a_parameter_of_any_size_is_built_or_is_one_message(kind: str, name: str, key: str) -> None:
    method = {"labeler": "fixmatch", "method": name}.get(kind, "supervised")
    table = {"augment": "augment.weak", "method": "method"}.get(kind, kind)
    row = next(r for r in parameters(Index().shape(Index().find(kind, name)).model) if r.name == key)
    for value in VALUES:
        text = f"[{value}, {value}]" if row.type == "list[int, int]" else str(value)
        sets = [f"{table}.name={name}", f"{table}.{key}={text}"]
        try:
            preflight([tiny_project.recipe(method, *sets)])
        except UserError:  # exit code 2; any other error fails the test
            continue
        assert 0 <= value <= 10**9


@pytest.mark.parametrize("key", SETTINGS)
def test_no_setting_is_without_a_largest_value(key: str) -> None:
    models = {"": Top, "loss.labeled": LossTable, **TABLES}
    table, _, last = key.rpartition(".")
    row = next(row for row in parameters(models[table]) if row.name == last)
    assert "<" in row.bounds or last == "seed"  # any integer of 64 bits is a seed


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ("train.threads=1000", r"this machine has \d+ cores; use at most \d+"),
        ("train.batch=1025", "the training set has 120 images; use at most 1024"),
        ("train.unlabeled_batch=1025", "only 90 images are unlabelled"),
    ],
)
def test_what_the_machine_or_the_data_does_not_have_is_refused(
    mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: str, said: str
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for more in ([], ["--dry-run"]):
        with pytest.raises(UserError, match=said):
            preflight([tiny_project.recipe("mixmatch", sets)])
        done = mm("run", "tiny.toml", "--set", sets, *more)
        assert (done.code, done.out) == (2, "")
        assert not (tmp_path / "runs").exists()
    preflight([tiny_project.recipe("supervised", f"train.threads={2 * THREADS_PER_CORE}", "train.batch=1024")])


def test_a_batch_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 256, "SC_PHYS_PAGES": 10}[name])
    with pytest.raises(UserError, match=r"train.batch = 12 \(tiny.toml:\d+\).* use less than 10"):
        preflight([tiny_project.recipe("supervised")])


@pytest.mark.parametrize("command", [["run", "--set", "train.steps=2"], ["run", "--dry-run"]])
def test_classes_with_few_labels_are_a_warning(mm: Callable[..., Result], command: list[str]) -> None:
    tiny_project.written("supervised")
    Path("one.json").write_text('{"labeled": ["1-0", "1-3", "1-1"]}')
    file = ["--set", "split.rule=file", "--set", "split.file=one.json", "--set", "split.labels=all"]
    done = mm(*command, "tiny.toml", *file)
    text = done.out + done.err
    assert "warning: 1 of 3 classes has no labelled image (checks)" in text
    assert "warning: 1 of 3 classes has only one labelled image (columns)" in text
    done = mm(*command, "tiny.toml")
    assert "labelled image" not in done.err


@pytest.mark.parametrize("word", ["\udcff", "a\udcffb"])
@pytest.mark.parametrize(
    "command",
    [["run", "tiny.toml", "--set", "name={}"], ["run", "tiny.toml", "--name", "{}"], ["run", "{}"], ["ls", "{}"],
     ["recipe", "validate", "tiny.toml", "--set", "dataset.root={}"], ["note", "1", "{}"]],
)  # fmt: skip
def test_an_argument_that_is_not_utf8_is_named(mm: Callable[..., Result], command: list[str], word: str) -> None:
    tiny_project.written("supervised")
    done = mm(*(part.format(word) for part in command))
    assert done.code == 2
    assert 'argument "' in done.err
    assert "\\udcff" in done.err
    assert "marginmix.toml" not in done.err


@pytest.mark.parametrize("name", ["", "a/b", "-x", ".x", "a b", "a\x1b", "a\nb", "x" * 81, "_x", "a,b", "tag:x"])
def test_a_name_that_no_run_may_have_is_refused_with_the_rule(mm: Callable[..., Result], name: str) -> None:
    tiny_project.written("supervised")
    for given in ([f"--name={name}"], ["--set", f'name="{name}"'.replace("\x1b", "\\u001b").replace("\n", "\\n")]):
        done = mm("run", "tiny.toml", *given)
        assert done.code == 2
        assert "must be at most 80 letters, digits and . _ + -, starting with a letter or digit" in done.err
    if name in ("", "a/b", "-x", ".x"):
        assert mm("run", "tiny.toml", f"--tag={name}").code == 2


@pytest.mark.parametrize("name", ["a", "3", "Versuch-2", "gr\u00f6\u00dfer", "x" * 80, "a.b_c+d"])
def test_a_good_name_is_taken(mm: Callable[..., Result], name: str) -> None:
    tiny_project.written("supervised")
    done = mm("run", "tiny.toml", "--quiet", "--set", "train.steps=1", "--name", name)
    assert done.code == 0, done.err
