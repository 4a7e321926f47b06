"""The benchmarks run to their end and say what they are asked for; how fast anything is, no test can tell."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from helpers.paths import REPO

KEYS = {
    "step": {
        "mixmatch_fp32", "mixmatch_bf16", "fixmatch_fp32", "fixmatch_bf16", "floor_fp32", "floor_bf16", "marginmix_fp32"
    },
    "augment": {"weak_numpy", "weak_pil", "strong_pil"},
    "memory": {"rss_fp32", "rss_bf16"},
    "startup": {"help_ms", "ls_ms", "show_ms"},
    "data": {
        "small_pillow", "small_imagefolder", "large_pillow", "large_imagefolder", "numbers_python", "map_step",
        "map_memory",
    },
    "checkpoint": {"blocking_ms", "saving_ms"},
    "scale": {
        "first_s", "first_mib", "ls_s", "compare_s", "changed_s", "rebuild_s", "database_mib", "sweep_s", "sweep_mib",
        "again_s", "queue_loop", "queue_s", "slurm_submit_s", "slurm_ask_s", "slurm_all_s",
    },
    "ranks": {"alone_ms", "shared_ms", "ratio"},
}  # fmt: skip
LACKING = {
    "fixmatch_fp32", "fixmatch_bf16", "strong_pil", "mixmatch_bf16", "floor_bf16", "rss_bf16",
    "slurm_submit_s", "slurm_ask_s", "slurm_all_s",
}  # fmt: skip
"""Null where this mmctl has no FixMatch, or this machine no use for bf16, or no Slurm cluster."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "checkpoint" else pytest.mark.exhaustive) for name in KEYS],
)
def test_quick(name: str) -> None:
    done = subprocess.run(
        [sys.executable, REPO / "benchmarks" / f"{name}.py", "--quick"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == KEYS[name]
    for key, value in found.items():
        if value is None:
            assert key in LACKING
        else:
            assert value > 0
            assert math.isfinite(value)


@pytest.mark.slow
def test_the_managers_quickly_with_mmctl_alone() -> None:
    words = [sys.executable, REPO / "benchmarks" / "manager.py", "--quick"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("8 writers on an empty store/mmctl/failed") == 0
    assert found["8 writers on an empty store/mmctl/points of 10000"] == 10_000
    assert found.pop("kill -9 while logging/mmctl/states") == ["crashed"]
    (points,) = found.pop("kill -9 while logging/mmctl/points")
    assert points > 0
    assert len(found) > 15
    assert {key: value for key, value in found.items() if not value or value <= 0} == {}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))


def test_a_server_that_ends_at_once_is_no_view(benchmarks: None, tmp_path: Path) -> None:
    import manager

    class Module:
        VIEW = ("-c", "")
        environment = staticmethod(lambda store: {})

    assert manager.view(manager.Tool("none", sys.executable, Module), tmp_path) is None


def test_only_listings_are_used_again(
    benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import manager

    def fail(tool: manager.Tool, store: Path) -> float:
        raise ZeroDivisionError

    class Module:
        CLI: ClassVar = {"help": ("-c", "")}
        environment = staticmethod(lambda store: {})

    for word in ("logged", "writers", "killed"):

        def work(tool: manager.Tool, store: Path, word: str = word) -> dict[str, Any]:
            return {word: [store.parent.name]}

        work.__name__ = word
        monkeypatch.setattr(manager, word, work)
    monkeypatch.setattr(manager, "view", fail)
    (tmp_path / "kept" / "none-20").mkdir(parents=True)
    (tmp_path / "kept" / "none-20.made").touch()
    with pytest.raises(ZeroDivisionError):
        manager.measured([manager.Tool("none", sys.executable, Module)], tmp_path / "kept", tmp_path / "new", [20], 1)
    printed = capsys.readouterr().out  # what was done before it failed
    assert "help wall s" in printed
    assert printed.count("['new']") == 3


def test_the_last_line_has_lists_and_no_nan(benchmarks: None, capsys: pytest.CaptureFixture[str]) -> None:
    import common

    common.finish({"a": ["crashed"], "b": math.nan, "c": 0.123456, "d": 3})
    assert json.loads(capsys.readouterr().out) == {"a": ["crashed"], "b": None, "c": 0.1235, "d": 3}


def test_rounds_are_interleaved_and_ratios_are_of_one_round(benchmarks: None) -> None:
    import common

    order: list[str] = []
    seconds = {"a": iter([9.0, 2.0, 8.0, 3.0]), "b": iter([9.0, 1.0, 2.0, 3.0])}

    def variant(name: str) -> float:
        order.append(name)
        return next(seconds[name])

    times = common.rounds({"a": lambda: variant("a"), "b": lambda: variant("b")}, 3)
    assert order == ["a", "b"] * 4
    assert times == {"a": [2.0, 8.0, 3.0], "b": [1.0, 2.0, 3.0]}
    assert common.ratio(times, "a", "b") == 2.0  # of 2, 4 and 1; that of the medians would be 1.5
    assert common.ratio(times, "a", "c") is None


def test_the_numpy_transforms_crop_and_flip_within_the_reflected_image(benchmarks: None) -> None:
    import reference

    rng = np.random.default_rng(0)
    picture = reference.normalised(rng.integers(0, 256, (1, 32, 32, 3), np.uint8))[0]
    padded = np.pad(picture, [(0, 0), (4, 4), (4, 4)], mode="reflect")
    crops = [padded[:, i : i + 32, j : j + 32] for i in range(8) for j in range(8)]
    for _ in range(5):
        shown = reference.numpy_weak(picture).numpy()
        assert any((shown == c).all() or (shown == c[..., ::-1]).all() for c in crops)


def test_the_network_of_both_programs_is_ours_in_the_raw_form(benchmarks: None) -> None:
    import reference
    import torch
    from torch import nn

    from mmctl.backbones.wrn import WRN28x2

    theirs, ours = reference.WRN28x2(usb=False), WRN28x2(3, 32, residual="raw", bn_eps=1e-5)
    taken = [m for b in theirs.blocks for m in (b.norm1, b.norm2, b.conv1, b.conv2, b.shortcut) if m is not None]
    made = [m for b in ours.blocks for m in (b.bn1, b.bn2, b.conv1, b.conv2, b.shortcut)]
    # Where it changes the width after the first stage, theirs has a first norm that nothing comes of.
    taken = [m for m in taken if m not in (theirs.blocks[4].norm1, theirs.blocks[8].norm1)]
    made = [m for m in made if not isinstance(m, nn.Identity)]
    pairs = [(theirs.stem, ours.stem), *zip(taken, made, strict=True), (theirs.norm, ours.bn)]
    for source, target in pairs:
        target.load_state_dict(source.state_dict())
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert (theirs.head(ours(x)) - theirs(x)).abs().max() < 1e-5


@pytest.mark.parametrize("loop", ["MixMatchPytorch", pytest.param("UsbFixMatch", marks=pytest.mark.slow)])
def test_one_step_of_a_published_loop_moves_network_and_average(benchmarks: None, loop: str) -> None:
    import reference
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels, targets = rng.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 10
    sizes = {"batch": 4} | ({"unlabeled_batch": 4} if loop == "UsbFixMatch" else {})
    made = getattr(reference, loop)(
        pixels, targets, np.arange(8), np.arange(8, 40), device=torch.device("cpu"), **sizes
    )
    before = [p.detach().clone() for p in (*made.model.parameters(), *made.ema.parameters())]
    made.step()
    after = [*made.model.parameters(), *made.ema.parameters()]
    moved = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # All but the two unused norms: their weights and biases stand still, in the network and in its average.
    assert moved >= len(after) - 8
    assert all(torch.isfinite(p).all() for p in after)
