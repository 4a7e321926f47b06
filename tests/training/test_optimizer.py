"""Schedules as closed forms; the optimizer against plain float64 loops and against torch's own."""

from __future__ import annotations

import math
import tomllib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from helpers.paths import REPO
from helpers.reference_math import randn
from mmctl.training.optimizer import Optimizer
from mmctl.training.schedules import cyclic, learning_rate, length_of, ramp, steps_of
from mmctl.training.state import own_groups


def test_lengths_are_steps_or_shares() -> None:
    assert steps_of(7, 1000) == 7
    assert steps_of(0.25, 1000) == 250
    assert steps_of(1.0, 1000) == 1000
    assert steps_of(1, 1000) == 1


def test_cosine() -> None:
    def at(step: int) -> float:
        return learning_rate(step, 1000, 0.1, "cosine", 0, 1e-4)

    assert at(0) == pytest.approx(0.1)
    assert at(500) == pytest.approx((0.1 + 1e-4) / 2)
    assert at(1000) == pytest.approx(1e-4)
    assert at(250) == pytest.approx(1e-4 + (0.1 - 1e-4) * 0.5 * (1 + math.sqrt(0.5)))
    assert all(at(s + 1) < at(s) for s in range(999))


def test_seven_sixteenths_and_constant() -> None:
    assert learning_rate(0, 100, 0.03, "seven_sixteenths", 0, 0.0) == pytest.approx(0.03)
    assert learning_rate(50, 100, 0.03, "seven_sixteenths", 0, 0.0) == pytest.approx(0.03 * math.cos(7 * math.pi / 32))
    assert learning_rate(100, 100, 0.03, "seven_sixteenths", 0, 0.0) == pytest.approx(0.03 * 0.19509032)
    assert {learning_rate(s, 100, 0.03, "constant", 0, 0.0) for s in range(100)} == {0.03}


@pytest.mark.parametrize("warmup", [10, 0.1])
@pytest.mark.parametrize("name", ["cosine", "seven_sixteenths", "constant"])
def test_warm_up(name: str, warmup: int | float) -> None:
    rates = [learning_rate(s, 100, 0.5, name, warmup, 0.0) for s in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (s + 1) for s in range(10)])
    assert rates[10] == pytest.approx(0.5)
    whole = learning_rate(45, 90, 0.5, name, 0, 0.0)
    assert rates[55] == pytest.approx(whole)  # the form spans what is left


def test_cyclic_is_fast_swas_program() -> None:
    """Epochs 180, cosine over 210, cycles of 30, as its CIFAR-10 runs: the learning rate of any epoch, in loops."""

    def program(epoch: int) -> float:
        while epoch >= 180:
            epoch -= 30
        return 0.1 * 0.5 * (1 + math.cos(math.pi * epoch / 210))

    rates = [learning_rate(s, 1200, 0.1, "cyclic", 0, 0.0, (210, 180, 30)) for s in range(1200)]
    assert rates == pytest.approx([program(s) for s in range(1200)], rel=1e-12)
    assert rates[0] == 0.1
    assert min(rates) == rates[179] == rates[209] == rates[1199]  # a cycle ends at its lowest
    assert rates[180] == rates[150] == pytest.approx(cyclic(150, 0.1, 210, 180, 30))
    warm = [learning_rate(s, 1200, 0.1, "cyclic", 12, 0.0, (210, 180, 30)) for s in range(1200)]
    assert warm[:12] == pytest.approx([0.1 * (s + 1) / 12 for s in range(12)])
    assert warm[12:] == rates[12:]  # cycles end where they did


@pytest.mark.parametrize("steps", [200_000, 1_048_576, 1500, 500, 7])
def test_the_recipe_of_ict_has_its_programs_cosine(steps: int) -> None:
    """Its program: .1 * .5 * (1 + cos(pi * epoch / 450)), with a fractional epoch, over 400 epochs."""
    table = tomllib.loads((REPO / "recipes" / "methods" / "ict.toml").read_text())["schedule"]
    cycles = table["horizon"], table["start"], table["cycle"]
    for step in {*range(0, steps, max(1, steps // 50)), steps - 1}:
        theirs = 0.1 * 0.5 * (1 + math.cos(math.pi * (400 * step / steps) / 450))
        assert learning_rate(step, steps, 0.1, table["name"], 0, 0.0, cycles) == pytest.approx(theirs, abs=1e-12)
    # The cosine that it replaced agrees at both ends only.
    old = learning_rate(19 * steps // 20, steps, 0.1, "cosine", 0, 0.003)
    assert steps < 100 or old < 0.8 * learning_rate(19 * steps // 20, steps, 0.1, "cyclic", 0, 0.0, cycles)


def test_a_length_is_at_least_a_step() -> None:
    assert [length_of(n, 100) for n in (None, 7, 0.25, 0.001, 2.0)] == [1, 7, 25, 1, 200]


def test_a_warm_up_as_long_as_the_run() -> None:
    assert [learning_rate(s, 4, 1.0, "cosine", 4, 0.0) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_ramp() -> None:
    assert [ramp(s, 100, 2.0, 4, "linear") for s in (0, 1, 4, 99)] == [0.0, 0.5, 2.0, 2.0]
    assert ramp(0, 100, 2.0, 0, "linear") == 2.0
    assert ramp(10, 100, 2.0, 0.4, "linear") == pytest.approx(0.5)
    assert ramp(20, 100, 2.0, 0.4, "sigmoid") == pytest.approx(2 * math.exp(-5 * 0.25))
    assert ramp(0, 100, 2.0, 0.4, "sigmoid") == pytest.approx(2 * math.exp(-5))
    assert ramp(40, 100, 2.0, 0.4, "sigmoid") == 2.0


def settings(**changed: Any) -> Any:
    table = {
        "name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "betas": (0.9, 0.999), "eps": 1e-8,
        "weight_decay": 0.01, "clip": None,
    }  # fmt: skip
    return SimpleNamespace(**table | changed)


def params() -> dict[str, nn.Parameter]:
    return {
        "weight": nn.Parameter(randn(3, 2)),
        "bias": nn.Parameter(randn(3, seed=1)),
        "own": nn.Parameter(randn(2, 2, seed=2)),
    }


OWN = {"own": {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}}
RATES = (0.1, 0.07, 0.04, 0.2)


def gradients(step: int) -> dict[str, torch.Tensor]:
    shapes = {k: p.shape for k, p in params().items()}
    return {k: randn(*shape, seed=10 * step + i) for i, (k, shape) in enumerate(shapes.items())}


def stepped(optimizer: Optimizer) -> dict[str, np.ndarray]:
    for step, lr in enumerate(RATES):
        for k, g in gradients(step).items():
            optimizer.params[k].grad = g
        optimizer.step(lr)
        assert all(p.grad is None for p in optimizer.params.values())
    return {k: p.detach().numpy() for k, p in optimizer.params.items()}


def plainly(s: Any, clip: float | None = None) -> dict[str, np.ndarray]:
    """The rules, written out."""
    w = {k: p.detach().numpy().copy() for k, p in params().items()}
    first, second = ({k: np.zeros_like(v) for k, v in w.items()} for _ in range(2))
    for step, lr in enumerate(RATES):
        grads = {k: g.numpy() for k, g in gradients(step).items()}
        if clip:
            norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
            grads = {k: g * min(1, clip / (norm + 1e-6)) for k, g in grads.items()}
        for k, g in grads.items():
            decay = s.weight_decay if k == "weight" else 0.0  # neither biases nor groups of their own
            rate, momentum = (0.5, 0.0) if k == "own" else (lr, s.momentum)
            if s.name == "sgd":
                g = g + decay * w[k]
                first[k] = momentum * first[k] + g
                w[k] -= rate * (g + momentum * first[k] if s.nesterov and momentum else first[k])
                continue
            if s.name == "adamw":
                w[k] *= 1 - rate * decay
            else:
                g = g + decay * w[k]
            b1, b2 = s.betas
            first[k] = b1 * first[k] + (1 - b1) * g
            second[k] = b2 * second[k] + (1 - b2) * g**2
            m, v = first[k] / (1 - b1 ** (step + 1)), second[k] / (1 - b2 ** (step + 1))
            w[k] -= rate * m / (np.sqrt(v) + s.eps)
    return w


@pytest.mark.parametrize("name", ["sgd", "plain_momentum", "no_momentum", "adam", "adamw"])
def test_rules_are_their_loops(name: str) -> None:
    changed: dict[str, dict[str, Any]] = {
        "plain_momentum": {"nesterov": False},
        "no_momentum": {"nesterov": False, "momentum": 0.0},
        "adam": {"name": "adam"},
        "adamw": {"name": "adamw", "betas": (0.8, 0.95), "eps": 1e-3},
    }
    s = settings(**changed.get(name, {}))
    got, expected = stepped(Optimizer(params(), OWN, s)), plainly(s)
    for k in expected:
        assert np.allclose(got[k], expected[k], rtol=1e-10, atol=1e-12), k


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_is_of_all_gradients_together(clip: float) -> None:
    got, expected = stepped(Optimizer(params(), OWN, settings(clip=clip))), plainly(settings(), clip)
    for k in expected:
        assert np.allclose(got[k], expected[k], rtol=1e-6), k


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_slots_made_early_change_nothing(name: str) -> None:
    s = settings(name=name, weight_decay=0.0)
    ours = stepped(Optimizer(params(), {}, s))
    theirs = params()
    rule: Any = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0),
    }[name](list(theirs.values()))
    for step, lr in enumerate(RATES):
        rule.param_groups[0]["lr"] = lr
        for k, g in gradients(step).items():
            theirs[k].grad = g
        rule.step()
    for k, p in theirs.items():
        assert np.allclose(ours[k], p.detach().numpy(), rtol=1e-10, atol=1e-12), k


def test_weight_decay_spares_biases_and_norms() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    optimizer = Optimizer(dict(net.named_parameters()), {}, settings())
    assert {k for g in optimizer.groups if g.weight_decay for k in g.names} == {"0.weight", "3.weight"}
    every = [k for g in optimizer.groups for k in g.names]
    assert len(every) == len(set(every)) == 6


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_slots_stand_before_the_first_step(name: str) -> None:
    optimizer = Optimizer(params(), OWN, settings(name=name))
    before = {k: t.clone() for k, t in optimizer.slots()}
    assert before
    assert all(t.abs().sum().item() == 0 for t in before.values())
    stepped(optimizer)
    after = dict(optimizer.slots())
    assert list(after) == list(before)
    assert all((t != before[k]).any() for k, t in after.items())
    kinds = {k.split(".")[-1] for k in after}
    assert kinds == ({"momentum_buffer"} if name == "sgd" else {"step", "exp_avg", "exp_avg_sq"})
    assert ("own.momentum_buffer" in after) is False


def test_a_module_can_ask_for_a_group_of_its_own() -> None:
    class Special(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.optim = {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
            self.centers = nn.Parameter(torch.zeros(2, 2))
            self.inner = nn.Linear(2, 2)  # a module inside it is not meant

    parts = {"model": nn.Linear(2, 2), "centroids": Special()}
    named = {f"{o}.{k}": p for o, part in parts.items() for k, p in part.named_parameters()}
    assert own_groups(parts, named) == {"centroids.centers": parts["centroids"].optim}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_group_of_its_own_decays_only_if_it_says_so(name: str) -> None:
    optimizer = Optimizer(params(), {"own": {"lr": 0.1}}, settings(name=name, weight_decay=0.3))
    decays = {k: g.weight_decay for g in optimizer.groups for k in g.names}
    assert decays["own"] == 0
    assert max(decays.values()) == 0.3
