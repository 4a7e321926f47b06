"""The steps of MarginMix, MixMatch and supervised training against float64 loops; when centroids are found."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from helpers.method_steps import doubles, forwards, mixed, steps_of, terms_of
from helpers.paths import REPO
from helpers.reference_math import cross_entropy, margin, mean, membership, power, softmax, squared, unit
from helpers.tiny_project import training
from mmctl.plugin import Batch
from mmctl.training.loop import train
from mmctl.training.state import Training

GROUPS = [("interleave", None), ("joint", None), ("joint", "each"), ("each", None), ("each", "joint")]
"""Of the mixed forward and of the guesses; None = joint where the mixed one is."""


def guessed_from(run: Training, batch: Batch, group: str, own: str | None) -> list[tuple[list[Any], list[Any]]]:
    """Logits and embeddings of each unlabelled view."""
    n = len(batch.u[0])
    logits, embs = forwards(run, list(batch.u), own or ("joint" if group == "joint" else "each"))
    return [(logits[at : at + n], embs[at : at + n]) for at in range(0, len(logits), n)]


def grouped(group: str, own: str | None) -> list[str]:
    return [f"method.bn_groups={group}", *([f"method.guess_bn_groups={own}"] if own else [])]


@pytest.mark.parametrize(("group", "own"), GROUPS)
def test_mixmatch_is_its_equations(group: str, own: str | None) -> None:
    run = training("mixmatch", *grouped(group, own))
    steps_of(run, 0, 5)
    batch = doubles(run, 5)
    got = {}
    guesses = []
    seen = [logits for logits, _ in guessed_from(run, batch, group, own)]
    for i in range(12):
        p = [softmax(view[i]) for view in seen]
        guesses.append(power([mean(list(column)) for column in zip(*p, strict=True)], 0.5))
    xs, ys = mixed(batch, batch.y.tolist() + guesses * len(batch.u))
    logits, _ = forwards(run, xs, group)
    got["labeled"] = mean([cross_entropy(*pair) for pair in zip(logits[:12], ys[:12], strict=True)])
    got["unlabeled"] = mean([squared(softmax(a), y) / 3 for a, y in zip(logits[12:], ys[12:], strict=True)])
    terms = run.method.step(batch)
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(got, rel=1e-9)
    assert terms.pseudo_labels.target.tolist() == [pytest.approx(g, rel=1e-9) for g in guesses]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("group", "own"), GROUPS)
def test_marginmix_is_algorithm_1(group: str, own: str | None, plain: bool) -> None:
    run = training("marginmix", *grouped(group, own), f"centroids.distance={'plain' if plain else 'squared'}")
    steps_of(run, 0, 5)
    batch = doubles(run, 5)
    labels = batch.y.argmax(-1).tolist()
    # Lines 2 and 3: embeddings of the labelled images as they are; eq. 1 damped by n / (1 + n) and the rate .5.
    clean = [unit(e) for e in run.model(batch.x[1], bn="batch").emb.tolist()]
    cs = run.centroids.mean_KD.tolist()
    for c in range(3):
        here = [e for e, y in zip(clean, labels, strict=True) if y == c]
        if here:
            rate = 0.5 * len(here) / (1 + len(here))
            cs[c] = [a + rate * (mean(list(m)) - a) for a, m in zip(cs[c], zip(*here, strict=True), strict=True)]
    at = [unit(c) for c in cs]
    # Lines 5 to 9: eq. 6 for each view, eq. 7, eq. 8.
    views = [embs for _, embs in guessed_from(run, batch, group, own)]
    guesses = []
    for i in range(12):
        q = [membership(unit(view[i]), at) for view in views]
        guesses.append(power([sum(column) for column in zip(*q, strict=True)], 0.25))
    # Line 14: eq. 9. Line 15: the terms of eq. 10, with labels that are no longer one class.
    xs, ys = mixed(batch, batch.y.tolist() + guesses * len(batch.u))
    logits, embs = forwards(run, xs, group)
    losses = [
        sum(t * margin(unit(e), at, c, plain) for c, t in enumerate(y)) for e, y in zip(embs, ys, strict=True)
    ]  # fmt: skip
    entropies = [cross_entropy(*pair) for pair in zip(logits, ys, strict=True)]
    expected = {
        "labeled": mean(entropies[:12]),
        "margin": mean(losses[:12]),
        "margin_unlabeled": mean(losses[12:]),
        "unlabeled": mean(entropies[12:]),
    }
    terms = run.method.step(batch)
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(expected, rel=1e-8)
    assert terms.pseudo_labels.target.tolist() == [pytest.approx(g, rel=1e-8) for g in guesses]
    assert run.centroids.mean_KD.tolist() == [pytest.approx(c, rel=1e-9) for c in cs]


def test_marginmix_printed_is_the_printed_equations() -> None:
    """Eq. 1, 2, 6, 7, 8, 9, 10 by the letter, with the options of the recipe."""
    table = tomllib.loads((REPO / "recipes" / "methods" / "marginmix_printed.toml").read_text())
    sets = [f"{t}.{k}={json.dumps(v)}" for t in ("method", "labeler", "centroids") for k, v in table[t].items()]
    sets += [f"loss.{slot}.{k}={json.dumps(v)}" for slot, of in table["loss"].items() for k, v in of.items()]
    run = training("marginmix", *sets)
    assert {k: run.slots[k].weight for k in ("margin", "margin_unlabeled")} == {
        "margin": 1.0 * 64, "margin_unlabeled": 1.0 * 0.4 * 2 * 64,  # sums over the images of a step, as weights
    }  # fmt: skip
    steps_of(run, 0, 5)
    batch = doubles(run, 5)
    assert batch.draws["mix"]["lam"].min() < 0.5  # eq. 9
    labels = batch.y.argmax(-1).tolist()
    clean = run.model(batch.x[1], bn="batch").emb.tolist()
    cs = run.centroids.mean_KD.tolist()
    for c in {*labels}:
        here = [e for e, y in zip(clean, labels, strict=True) if y == c]
        cs[c] = [sum(column) / len(here) for column in zip(*here, strict=True)]
    views = [embs for _, embs in guessed_from(run, batch, "interleave", None)]
    guesses = []
    for i in range(12):
        y = [sum(column) for column in zip(*(membership(view[i], cs) for view in views), strict=True)]
        psi = sum(v ** (1 / 0.25) for v in y)
        guesses.append([v / psi**0.25 for v in y])
    xs, ys = mixed(batch, batch.y.tolist() + guesses * len(batch.u))
    logits, embs = forwards(run, xs, "interleave")
    at = [unit(c) for c in cs]
    losses = [
        sum(t * margin(unit(e), at, c, plain=True) for c, t in enumerate(y)) for e, y in zip(embs, ys, strict=True)
    ]
    entropies = [cross_entropy(*pair) for pair in zip(logits, ys, strict=True)]
    terms = run.method.step(batch)
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(
        {
            "labeled": mean(entropies[:12]),
            "margin": mean(losses[:12]),
            "margin_unlabeled": mean(losses[12:]),
            "unlabeled": mean(entropies[12:]),
        },
        rel=1e-8,
    )
    assert terms.pseudo_labels.target.tolist() == [pytest.approx(g, rel=1e-8) for g in guesses]
    assert run.centroids.mean_KD.tolist() == [pytest.approx(c, rel=1e-9) for c in cs]


def test_supervised_is_cross_entropy() -> None:
    run = training("supervised")
    batch = doubles(run, 0)
    logits = run.model(batch.x[0], bn="batch").logits.tolist()
    expected = mean([cross_entropy(*pair) for pair in zip(logits, batch.y.tolist(), strict=True)])
    assert run.method.step(batch).losses["labeled"].item() == pytest.approx(expected, rel=1e-9)


def test_an_averaged_guesser_embeds_in_eval_mode() -> None:
    run = training("marginmix", "method.guesser=ema")
    steps_of(run, 0, 5)
    assert run.ema is not None
    run.ema.calls.clear()
    run.model.calls.clear()
    terms_of(run, 5)
    assert [c[1:] for c in run.ema.calls] == [("running", False)] * 3  # centroids and two views
    assert all(grad for _, _, grad in run.model.calls)


@pytest.mark.parametrize("network", ["model", "ema"])
def test_exact_centroids_are_found_before_the_first_step_and_every_n(network: str) -> None:
    run = training("marginmix", "centroids.estimator=exact", "centroids.every=6", f"centroids.network={network}")
    found, refit = [], run.centroids.refit

    def watched(net: Any, batches: Any) -> None:
        found.append((run.step, net is run.nets["raw" if network == "model" else "ema"]))
        refit(net, batches)

    run.centroids.refit = watched  # type: ignore[method-assign]
    list(train(run, lambda: run.step == 19))  # the evaluation at the end refits copies
    assert found == [(0, True), (6, True), (12, True), (18, True)]
    assert run.centroids.seen_K.all()
