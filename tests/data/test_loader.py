"""Everything of a step is a pure function of (seed, step): random streams, orders, plans, batches, prefetch."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator, Philox
from torch import Tensor

from helpers.small_images import images
from mmctl.data import draws
from mmctl.data.draws import generator
from mmctl.data.images import Normalization, one_hot
from mmctl.data.loader import Balanced, Loader, Order, prefetch
from mmctl.data.transfer import Transfer
from mmctl.plugin import Images, Split
from mmctl.recipe.resolved import policy_chain

CPU = torch.device("cpu")


def test_steps_share_no_numbers() -> None:
    a, b, c = (generator(0, "x", step).integers(2**63, size=4000).tolist() for step in (7, 8, 9))
    assert not set(a) & set(b)
    assert not set(a) & set(c)


def test_a_counter_in_the_low_word_would_repeat_the_last_step() -> None:
    naive = [
        Generator(Philox(key=draws.stream_key(0, "x"), counter=[s, 0, 0, 0])).integers(2**63, size=40) for s in (7, 8)
    ]
    assert naive[0][4:].tolist() == naive[1][:-4].tolist()  # the trap that `generator` avoids


def test_streams_and_seeds_are_apart() -> None:
    drawn = [generator(seed, stream, 0).random() for seed in (0, 1, 10) for stream in ("labeled", "1/labeled")]
    assert len(set(drawn)) == 6
    assert generator(3, "x", 5).random() == generator(3, "x", 5).random()


@pytest.mark.parametrize("batch", [1, 4, 6, 17])
def test_balanced_batches_hold_each_class_as_often(batch: int) -> None:
    class_N = np.array([0] * 75 + [2] * 5 + [3] * 1 + [4] * 12)  # class 1 has no row
    order = Balanced(class_N, batch, seed=3, stream="x")
    rows = [order.rows(step) for step in range(120)]
    for step, one in enumerate(rows):
        counts = [int((class_N[one] == k).sum()) for k in (0, 2, 3, 4)]
        assert len(one) == batch
        assert max(counts) - min(counts) <= 1, step
    drawn = np.concatenate(rows)
    assert max(np.bincount(class_N[drawn])[[0, 2, 3, 4]]) - min(np.bincount(class_N[drawn])[[0, 2, 3, 4]]) <= 1
    for k in (0, 2, 4):
        own, n = drawn[class_N[drawn] == k], int((class_N == k).sum())
        for first in range(0, len(own) - n + 1, n):
            assert len(set(own[first : first + n])) == n, "each row once before any comes again"
    again = Balanced(class_N, batch, seed=3, stream="x")
    assert again.rows(77).tolist() == rows[77].tolist(), "a pure function of the step"
    assert Balanced(class_N, batch, seed=4, stream="x").rows(5).tolist() != rows[5].tolist() or batch == 1


def test_a_recipe_asks_for_balanced_batches(tmp_path: Path) -> None:
    from helpers.tiny_project import training

    run = training("supervised", "train.sampling=balanced", "split.rule=natural", "train.batch=9")
    for step in range(5):
        assert run.loader.batch(run.staged(step)).y.sum(0).tolist() == [3, 3, 3]
    plain = training("supervised", "train.batch=9")
    assert any(plain.loader.batch(plain.staged(s)).y.sum(0).tolist() != [3, 3, 3] for s in range(5))


class Shift:
    """Adds a drawn number to each image."""

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        return {"by": rng.integers(0, 5, n).astype(np.int64)}

    def apply(self, x: Tensor, **draws: Tensor) -> Tensor:
        return (x + draws["by"].view(-1, 1, 1, 1)).to(torch.uint8)


class Double(Shift):
    """Doubles each image."""

    def apply(self, x: Tensor, **draws: Tensor) -> Tensor:
        return (x * 2).to(torch.uint8)


def split(n: int = 40, labeled: int = 10) -> Split:
    order = np.random.default_rng(1).permutation(n)
    return Split(order[:labeled], order[labeled:], np.zeros(0, np.int64), "balanced", 0, (4, 3, 3), "s")


def made(pixels: Any = None, **changed: Any) -> Loader:
    data = images()
    if pixels is not None:
        data = Images(pixels, data.targets, data.classes, data.ids, data.fingerprint)
    given: dict[str, Any] = {
        "views": {"x": ("weak", "clean"), "u": ("weak", "strong")},
        "augments": {"weak": Shift(), "strong": Double()},
        "after": {"weak": None, "strong": "weak"},
        "norm": Normalization((0.5, 0.25), (0.1, 0.2)),
        "batch": 4,
        "unlabeled_batch": 7,
        "seed": 3,
        "device": CPU,
        "draw": lambda rng, x, u: {"sizes": np.array([x, u]), "number": rng.random(2), "kept": 5},
    }
    given |= changed
    return Loader(data, split(), given.pop("views"), given.pop("augments"), given.pop("after"), **given)


def flat(tree: Any) -> Any:
    """A plan in plain lists."""
    if isinstance(tree, dict):
        return {k: flat(v) for k, v in tree.items()}
    return tree.tolist() if isinstance(tree, np.ndarray) else tree


def test_a_plan_depends_on_seed_and_step_alone() -> None:
    one = made()
    in_order = [flat(vars(one.plan(s))) for s in range(20)]
    other = made()
    for s in (13, 2, 19, 0, 2, 7):
        assert flat(vars(other.plan(s))) == in_order[s]
    assert flat(vars(made(seed=4).plan(2))) != in_order[2]
    assert len({str(p["index_x"]) for p in in_order}) > 15
    assert len({str(p["draws"]["number"]) for p in in_order}) == 20
    assert len({str(p["view_draws"]["u0"]) for p in in_order}) > 15


def test_views_of_a_step_are_drawn_apart() -> None:
    draws = made(views={"x": ("weak",), "u": ("weak", "weak")}).plan(0).view_draws
    assert set(draws) == {"x0", "u0", "u1"}
    assert draws["u0"]["weak"]["by"].tolist() != draws["u1"]["weak"]["by"].tolist()


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (10, 10), (3, 8), (7, 3)])
def test_labelled_rows_are_visited_equally(n: int, batch: int) -> None:
    order = Order(n, batch, 0, "labeled", straddle=True)
    rows = [order.rows(s) for s in range(n)]  # batch epochs of n rows exactly
    assert all(len(r) == batch for r in rows)
    everything = np.concatenate(rows)
    assert np.bincount(everything, minlength=n).tolist() == [batch] * n
    for e in range(batch):
        assert sorted(everything[e * n : (e + 1) * n]) == list(range(n))  # each epoch is a permutation
    assert everything[:n].tolist() != everything[n : 2 * n].tolist()


@pytest.mark.parametrize(("n", "batch"), [(30, 7), (30, 30), (31, 10)])
def test_no_image_comes_twice_in_an_unlabelled_batch(n: int, batch: int) -> None:
    order = Order(n, batch, 0, "unlabeled", straddle=False)
    per_epoch = n // batch
    for s in range(5 * per_epoch):
        rows = order.rows(s)
        assert len(set(rows.tolist())) == len(rows) == batch
    epoch = np.concatenate([order.rows(s) for s in range(per_epoch)])
    assert len(set(epoch.tolist())) == per_epoch * batch  # nor twice in an epoch


def test_plans_keep_that_rule() -> None:
    one = made()
    assert all(len(set(one.plan(s).index_u.tolist())) == 7 for s in range(30))
    assert set(np.concatenate([one.plan(s).index_x for s in range(5)]).tolist()) == set(range(10))


def test_batches_are_what_the_plan_says() -> None:
    one = made()
    plan = one.plan(6)
    batch = one.batch(Transfer(CPU)(plan))
    data, parts = images(), split()
    assert [tuple(x.shape) for x in (*batch.x, *batch.u)] == [(4, 2, 4, 4)] * 2 + [(7, 2, 4, 4)] * 2

    def normalized(x: Tensor) -> Tensor:
        mean, std = torch.tensor([0.5, 0.25]).view(-1, 1, 1), torch.tensor([0.1, 0.2]).view(-1, 1, 1)
        return (x.float() / 255 - mean) / std

    raw_x, raw_u = data.pixels[parts.labeled[plan.index_x]], data.pixels[parts.unlabeled[plan.index_u]]
    by = torch.from_numpy(plan.view_draws["x0"]["weak"]["by"]).view(-1, 1, 1, 1)
    assert torch.allclose(batch.x[0], normalized(raw_x + by), atol=1e-5)
    assert torch.allclose(batch.x[1], normalized(raw_x), atol=1e-5)
    # `strong` comes after `weak`: shifted first, then doubled.
    by = torch.from_numpy(plan.view_draws["u1"]["weak"]["by"]).view(-1, 1, 1, 1)
    assert torch.allclose(batch.u[1], normalized((raw_u + by) * 2), atol=1e-5)
    assert batch.y.tolist() == one_hot(data)[parts.labeled[plan.index_x]].tolist()
    assert batch.index_x.tolist() == plan.index_x.tolist()
    assert batch.step.item() == 6
    assert batch.draws["sizes"].tolist() == [4, 7]
    assert batch.draws["kept"] == 5
    assert batch.view_draws["u1"]["weak"]["by"].tolist() == plan.view_draws["u1"]["weak"]["by"].tolist()
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in (*batch.x, *batch.u))


def test_hidden_labels_are_those_of_the_unlabelled_pool() -> None:
    data, parts = images(), split()
    assert made().hidden.tolist() == data.targets[parts.unlabeled].tolist()
    assert -1 in made().hidden.tolist()


def test_a_method_without_unlabelled_views_draws_none() -> None:
    one = made(views={"x": ("weak",)}, draw=None)
    plan = one.plan(0)
    batch = one.batch(Transfer(CPU)(plan))
    assert len(plan.index_u) == 0
    assert batch.u == ()
    assert plan.draws == {}


def test_a_memory_map_gives_what_resident_pixels_give(tmp_path: Path) -> None:
    data = images()
    np.save(tmp_path / "p.npy", data.pixels.numpy())
    mapped, resident = made(np.load(tmp_path / "p.npy", mmap_mode="r")), made()
    assert not mapped.resident
    for step in (0, 9):
        plan = mapped.plan(step)
        a, b = mapped.batch(Transfer(CPU)(plan)), resident.batch(Transfer(CPU)(resident.plan(step)))
        assert isinstance(plan.pixels["u"], np.ndarray)
        for x, y in zip((*a.x, *a.u, a.y), (*b.x, *b.u, b.y), strict=True):
            assert torch.equal(x, y)


def test_chain() -> None:
    after = {"weak": None, "strong": "weak", "noise": "strong"}
    assert policy_chain("noise", after) == ("weak", "strong", "noise")
    assert policy_chain("weak", after) == ("weak",)
    assert policy_chain("clean", after) == ()


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_prefetch_gives_the_same_plans(ahead: int) -> None:
    one = made()
    got = list(prefetch(one.plan, 3, 12, ahead))
    assert [p.step for p in got] == list(range(3, 12))
    assert [flat(vars(p)) for p in got] == [flat(vars(one.plan(s))) for s in range(3, 12)]


def planning() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "mmctl-plan"]


@pytest.mark.parametrize("ahead", [0, 2])
def test_prefetch_tells_of_errors(ahead: int) -> None:
    def plan(step: int) -> Any:
        if step == 2:
            raise ValueError("no such image")
        return step

    plans = prefetch(plan, 0, 5, ahead)
    assert [next(plans), next(plans)] == [0, 1]
    with pytest.raises(ValueError, match="no such image"):
        next(plans)
    assert not planning()


def test_prefetch_ends_with_its_consumer() -> None:
    asked: list[int] = []
    plans = prefetch(lambda s: asked.append(s) or s, 0, 10**6, 2)  # type: ignore[arg-type, func-returns-value]
    assert next(plans) == 0
    plans.close()  # type: ignore[attr-defined]
    assert not planning()
    count = len(asked)
    assert count <= 5  # two ahead, one in hand
    time.sleep(0.15)
    assert len(asked) == count
