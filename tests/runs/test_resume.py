"""Stop a run at any moment, by any means: what `mmctl resume` ends with is what an uninterrupted run ends with."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.command import Result
from helpers.paths import REPO
from helpers.processes import spawn, wait_for
from helpers.run_helpers import After, assert_same, only
from mmctl.recipe.recipe import load
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training import checkpoint

SETS = [
    "train.steps=24", "train.save_every=5", "train.log_every=4", "eval.every=8", "train.threads=1", "split.labels=20",
]  # fmt: skip
RECIPES = ("digits-supervised.toml", "digits-mixmatch.toml", "digits.toml")


def started(recipe: str, tmp_path: Path, *more: str) -> Path:
    return create_run(load(REPO / "recipes" / recipe, sets=[*SETS, *more]), tmp_path / "runs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Uninterrupted runs."""
    found = {}
    for recipe in RECIPES:
        found[recipe] = started(recipe, tmp_path_factory.mktemp("whole"))
        assert execute(found[recipe], lambda: False).state == "completed"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_and_resumed_is_bit_identical(recipe: str, whole: dict[str, Path], tmp_path: Path) -> None:
    folder = started(recipe, tmp_path)
    states = [execute(folder, After(n)).state for n in (3, 7, 1)]
    assert states == ["interrupted"] * 3
    assert execute(folder, lambda: False).state == "completed"
    assert_same(folder, whole[recipe])


@pytest.mark.slow
def test_a_stop_in_the_last_evaluation_is_made_good(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = started("digits.toml", tmp_path)
    seen = {"last": False}

    def stop() -> bool:
        return seen["last"]

    def watch(event: Any, training: Any) -> None:
        seen["last"] = seen["last"] or training.step == 24

    assert execute(folder, stop, watch).state == "interrupted"
    assert execute(folder, lambda: False).state == "completed"
    assert_same(folder, whole["digits.toml"])


@pytest.mark.slow
def test_what_is_looked_at_does_not_change_what_is_trained(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = started("digits.toml", tmp_path, "eval.every=5", "train.log_every=3", "train.save_every=100")
    execute(folder, lambda: False)
    one, other = checkpoint.newest(folder)[0], checkpoint.newest(whole["digits.toml"], False)[0]
    assert one is not None
    assert other is not None
    trained = [k for k in one.tensors if not k.startswith("tally.")]
    assert [k for k in trained if not torch.equal(one.tensors[k], other.tensors[k])] == []


def run_words() -> list[str]:
    return ["run", "recipes/digits.toml", "--quiet", *(w for s in SETS for w in ("--set", s))]


def killed_until_done(runs: Path, kills: int, dice: random.Random, anytime: bool = False) -> Path:
    """Start a run, kill -9 it after its next checkpoint (or at any time), and resume it until it is through."""
    process = spawn(runs, *run_words())
    for _ in range(kills):
        if anytime:
            time.sleep(5 * dice.random())
        else:
            before = checkpoint.steps(only(runs)) if only(runs) else []  # type: ignore[arg-type]
            while process.poll() is None and not ((f := only(runs)) and checkpoint.steps(f) != before):
                time.sleep(0.005)
            time.sleep(0.12 * dice.random())
        process.kill()
        process.communicate()
        folder = only(runs)
        process = spawn(runs, *(["resume", folder.name, "--quiet"] if folder else run_words()))
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 2), err  # 2: the last kill came after its end
    assert process.returncode == 0 or "already finished" in err
    folder = only(runs)
    assert folder is not None
    return folder


@pytest.mark.slow
def test_kill_9(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = killed_until_done(tmp_path / "runs", 2, random.Random(1))
    assert_same(folder, whole["digits.toml"])
    assert not list((folder / "checkpoints").glob(".tmp-*"))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("anytime", "seed"),
    [
        (True, 0), (False, 0), (True, 1), (False, 1),
    ],
)  # fmt: skip
def test_kill_9_again_and_again(seed: int, anytime: bool, whole: dict[str, Path], tmp_path: Path) -> None:
    folder = killed_until_done(tmp_path / "runs", 6, random.Random(seed + 10), anytime)
    assert_same(folder, whole["digits.toml"])


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive), pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_signals_stop_at_a_checkpoint(number: int, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = spawn(runs, "run", "recipes/digits.toml", "--quiet", "--set", "train.save_every=5")
    folder = wait_for(lambda: (folder := only(runs)) and checkpoint.steps(folder) and folder, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f"mmctl resume {folder.name}" in err
    assert "Traceback" not in err
    found, bad = checkpoint.newest(folder)
    assert found is not None
    assert found.manifest["reason"] == "interrupt"
    assert bad == []


@pytest.mark.slow
def test_a_crashed_run_is_shown_as_crashed_and_resumed(mm: Callable[..., Result], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = spawn(runs, *run_words())
    wait_for(lambda: (folder := only(runs)) and checkpoint.steps(folder), process)
    process.kill()
    process.communicate()
    assert "crashed" in mm("ls").out
    assert mm("resume", "@last", "--quiet").code == 0
    assert "completed" in mm("ls").out
    before = [json.loads(mm(*words, "--json").out) for words in (["ls"], ["compare"])]
    (runs / "mmctl.db").unlink()
    assert mm("db", "rebuild").code == 0
    assert [json.loads(mm(*words, "--json").out) for words in (["ls"], ["compare"])] == before


GLOBAL_NUMBERS = '''
import json
import random
import numpy as np
import torch
from mmctl.plugin import augment


@augment("careless")
class Careless:
    """Draws from every global generator there is."""

    def draw(self, rng, n):
        return {}

    def apply(self, x_BCHW):
        noise = torch.randn(x_BCHW.shape) * 3 + np.random.randn() + random.random()
        return (x_BCHW + noise).clamp(0, 255).to(torch.uint8)
'''


@pytest.mark.slow
def test_foreign_global_generators_resume_too(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "careless.py").write_text(GLOBAL_NUMBERS)
    a = started("digits-supervised.toml", tmp_path, 'augment.weak={name="careless"}')
    execute(a, lambda: False)
    b = started("digits-supervised.toml", tmp_path, 'augment.weak={name="careless"}')
    execute(b, After(6))
    execute(b, lambda: False)
    assert_same(a, b)


def test_refusals(mm: Callable[..., Result], tmp_path: Path) -> None:
    folder = started("digits-supervised.toml", tmp_path)
    execute(folder, After(8))
    manifest = next(iter(sorted((folder / "checkpoints").glob("step-*")))) / "manifest.json"
    assert "sha256" in manifest.read_text()
    split = folder / "split.json"
    kept = split.read_text()
    split.write_text(kept.replace('"seed": 0', '"seed": 1'))
    refused = mm("resume", folder)
    assert refused.code == 2
    assert "split" in refused.err
    split.write_text(kept)
    for found in (folder / "checkpoints").glob("step-*"):
        data = bytearray((found / "state.safetensors").read_bytes())
        data[len(data) // 2] ^= 1
        (found / "state.safetensors").write_bytes(bytes(data))
    refused = mm("resume", folder)
    assert refused.code == 2
    assert "no usable checkpoint" in refused.err
    done = started("digits-supervised.toml", tmp_path)
    execute(done, lambda: False)
    finished = mm("resume", done)
    assert finished.code == 2
    assert "already finished" in finished.err


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = started("digits.toml", tmp_path)
    execute(folder, After(12))
    newest = checkpoint.folder_of(folder, checkpoint.steps(folder)[-1])
    state = newest / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-7])
    assert execute(folder, lambda: False).state == "completed"
    assert_same(folder, whole["digits.toml"])
    assert list((folder / "checkpoints").glob("bad-*"))


@pytest.mark.slow
def test_a_moved_runs_folder_goes_on(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = started("digits.toml", tmp_path)
    execute(folder, After(9))
    moved = tmp_path / "elsewhere"
    folder.parent.rename(moved)
    assert execute(moved / folder.name, lambda: False).state == "completed"
    assert_same(moved / folder.name, whole["digits.toml"])


def test_divergence_names_the_term_and_keeps_the_last_good_state(mm: Callable[..., Result], tmp_path: Path) -> None:
    sets = [w for s in (*SETS, "optimizer.lr=1e30", "train.save_every=1") for w in ("--set", s)]
    failed = mm("run", REPO / "recipes" / "digits.toml", "--quiet", *sets)
    assert failed.code == 3
    assert "became NaN or infinite at step" in failed.err
    assert "failed" in mm("ls").out
    folder = only(tmp_path / "runs")
    assert folder is not None
    found, bad = checkpoint.newest(folder)
    assert bad == []
    assert found is None or all(torch.isfinite(t).all() for t in found.tensors.values() if t.is_floating_point())
