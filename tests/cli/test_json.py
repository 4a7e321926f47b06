"""What --json prints is JSON for every program: no NaN and no Infinity, whatever a run has in its metrics."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main

from helpers import tiny_project
from helpers.command import Result
from helpers.fake_runs import attempt, data, evaluation, finished_run, make_run, points, state, write
from helpers.run_helpers import never
from mmctl.cli import app
from mmctl.run_folder.events import Points
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.text import to_json
from mmctl.training import checkpoint

Mm = Callable[..., Result]
ODD = {"accuracy": math.nan, "balanced_accuracy": 0.5, "macro_f1": math.nan, "nll": math.inf, "ece": -math.inf}
COMMANDS = [
    ["ls"],
    ["ls", "test/nll>1"],
    ["show", "odd"],
    ["show", "plain"],
    ["diff", "odd", "plain", "--all"],
    ["compare", "-m", "test/accuracy", "-m", "test/nll", "-m", "test/nll@mean20", "-m", "train/loss@max"],
    ["compare", "odd", "-m", "test/nll", "--count-nc", "--all-keys"],
    ["plot", "-m", "test/accuracy", "-m", "test/nll"],
    ["plot", "plain", "--bars", "--confusion"],
    ["logs", "odd"],
    ["tag", "odd", "good"],
    ["note", "odd", "infinite"],
    ["evaluate", "real"],
    ["evaluate", "real", "--predictor", "centroid"],
    ["table"],
    ["table", "table3"],
    ["table", "table3", "--format", "json", "--metric", "test/macro_f1"],
    ["table", "table3", "--commands"],
    ["plugins", "list"],
    ["plugins", "show", "marginmix"],
    ["plugins", "check", "brier"],
    ["recipe", "list"],
    ["recipe", "validate", "tiny.toml"],
    ["recipe", "show", "tiny.toml"],
    ["star", "odd"],
    ["rename", "odd", "odd"],
    ["archive", "odd", "--remove"],
    ["checkpoints", "ls"],
    ["checkpoints", "verify", "real"],
    ["checkpoints", "prune", "real"],
    ["checkpoints", "copy", "real", "weights"],
    ["reproduce", "real"],
    ["report"],
    ["report", "--site", "site"],
    ["query", "SELECT * FROM series"],
    ["export", "-o", "odd.csv", "--what", "series"],
    ["export", "odd", "-o", "odd.tar"],
    ["import", "odd.tar"],
    ["rm", "plain"],
    ["restore", "@last"],
    ["gc", "--yes"],
    ["data", "import", "images", "--dry-run"],
    ["db", "rebuild"],
    ["db", "check"],
    ["db", "info"],
    ["db", "backup", "copy.db"],
    ["db", "vacuum"],
]


def strict(text: str) -> Any:
    """The value of a JSON text; fails for NaN and Infinity, which are Python's own."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def infinite_run(runs: Path, bias: list[float]) -> Path:
    """A run whose last network is certain of classes that are wrong: with these biases of the head, and odd curves."""
    recipe = tiny_project.recipe("supervised", "train.steps=4", "eval.every=2", "train.threads=1", "train.device=cpu")
    folder = create_run(recipe, runs, name="real")
    execute(folder, never)
    saved = checkpoint.read(checkpoint.folder_of(folder, 4))
    heads = {name: torch.tensor(bias) for name in saved.tensors if name in ("model.head.bias", "ema.head.bias")}
    assert heads
    facts = {k: v for k, v in saved.manifest.items() if k not in ("format", "step", "sha256", "bytes", "tensors")}
    checkpoint.publish(folder, 4, saved.tensors | heads, facts)
    log = folder / "journal.1.jsonl"  # without the hash of the manifest that training wrote
    log.write_text(re.sub(r',"manifest":"[0-9a-f]+"', lambda found: " " * len(found[0]), log.read_text()))
    write(folder, 1, Points(step=4, values={f"test/ema/head/{name}": value for name, value in ODD.items()}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").touch()
    folder = tmp_path / "runs"
    infinite_run(folder, [3e38, -3e38, -3e38])
    odd = make_run(folder, "odd", name="odd", settings={"method__tau": math.inf})
    write(odd, 1, attempt(), state("running"), data())
    for step in (1, 2):
        both = {"train/loss": math.inf if step == 1 else -math.inf, "lr": math.nan}
        write(odd, 1, points(step, train__loss=both["train/loss"]), evaluation(step, 0.5, metrics=ODD))
        write(odd, 1, Points(step=step, values=both | {f"test/ema/head/{k}": v for k, v in ODD.items()}))
    write(odd, 1, state("completed", 2))
    finished_run(folder, "plain", name="plain", seed=1)
    return folder


def with_json(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands that have --json."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from with_json(inner, (*path, name))
    elif any("--json" in option.opts for option in command.params):
        yield path


def test_every_command_with_json_is_tried() -> None:
    found = set(with_json(typer.main.get_command(app)))
    assert (
        found
        - {
            ("stop",),
            ("doctor",),
            ("data", "get"),
            ("data", "check"),
            ("data", "split", "make"),
            ("data", "split", "show"),
            ("recipe", "new"),
        }
        == {  # of these, test_cli_manage, test_doctor, test_data_get and test_cli_data_tools
            tuple(words[:2]) if words[0] in ("plugins", "recipe", "data", "db", "checkpoints") else (words[0],)
            for words in COMMANDS
        }
    )


@pytest.mark.slow
def test_json_is_json_whatever_the_metrics(runs: Path, mm: Mm) -> None:
    for words in COMMANDS:
        done = mm(*words, "--json")
        assert done.code == 0, (words, done.err)
        assert strict(done.out)["schema_version"] == 1, words
    strict(mm("recipe", "schema").out)
    shown = strict(mm("show", "odd", "--json").out)["run"]
    assert [one["metrics"]["nll"] for one in shown["evaluations"]] == ["inf"]
    assert [one["metrics"]["macro_f1"] for one in shown["evaluations"]] == [None]
    out = mm("show", "odd").out
    assert " nan " in out
    assert " inf " in out


@pytest.mark.parametrize(("bias", "nll"), [([3e38, -3e38, -3e38], "inf"), ([math.nan, 0.0, 0.0], None)])
def test_evaluation_of_a_network_that_is_not_finite(bias: list[float], nll: str | None, tmp_path: Path, mm: Mm) -> None:
    (tmp_path / "plugins").mkdir()
    folder = infinite_run(tmp_path / "runs", bias)
    assert strict(mm("evaluate", "real", "--json").out)["metrics"]["nll"] == nll
    page = mm("evaluate", "real")
    assert page.code == 0, page.err
    assert "Warning" not in page.err
    lines = (folder / "journal.0.jsonl").read_text().splitlines()  # what was evaluated after training
    assert [strict(line)["metrics"]["nll"] for line in lines] == [nll, nll]
    assert mm("evaluate", "real", "--min", "0.99").code == 7


def test_the_files_of_a_run_are_json(runs: Path, mm: Mm) -> None:
    assert mm("evaluate", "real").code == 0
    (folder,) = runs.glob("2*")
    for path in [*folder.rglob("*.json"), folder / "lease"]:
        strict(path.read_text().strip("\0"))
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            strict(line)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": math.nan, "b": [math.inf, -math.inf, 1.5]}, '{"a":null,"b":["inf","-inf",1.5]}'),
        ({1: torch.tensor([1.0, math.nan])}, '{"1":[1.0,null]}'),
        ({"path": Path("a\u00e9")}, '{"path":"a\\u00e9"}'),
    ],
)
def test_the_writer(value: object, text: str) -> None:
    assert to_json(value) == text
    assert strict(to_json(value, indent=2)) == strict(text)
