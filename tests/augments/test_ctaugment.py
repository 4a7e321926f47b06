"""CTAugment against its source: strengths, rates and images, one at a time; and in a run that is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers.pil_ops import from_pil, pictures, pil, to_pil
from helpers.run_helpers import After, assert_same, never
from helpers.tiny_project import recipe, training, written
from mmctl import ops, project
from mmctl.augments import _pil_ops
from mmctl.augments.ctaugment import OPERATIONS as ALL
from mmctl.augments.ctaugment import CTAugment, CTAugmentProbe
from mmctl.plugin import DataError
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training import checkpoint
from mmctl.training.loop import device_step

BINS = {"identity": [], "posterize": [8], "rescale": [17, 6]}
RESAMPLING = [
    Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX,
    Image.Resampling.HAMMING, Image.Resampling.NEAREST,
]  # fmt: skip


def drawn(policy: Any, n: int, seed: int = 0) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in policy.draw(default_rng(seed), n).items()}


def but(*names: str) -> tuple[str, ...]:
    """All operations but these."""
    return tuple(name for name in ALL if name not in names)


def pair(channels: int = 3, size: Any = 32, **more: Any) -> tuple[CTAugment, CTAugmentProbe]:
    policy = CTAugment(channels, size, **more)
    return policy, CTAugmentProbe({"strong": policy})


# The source, for one image -----------------------------------------------------------------------------------------


def patched(image: Image.Image, row: int, column: int, half: int) -> Image.Image:
    out = np.asarray(image).copy()
    out[max(0, row - half) : row + half, max(0, column - half) : column + half] = 127
    return Image.fromarray(out)


def operated(image: Image.Image, name: str, levels: list[float], row: int, column: int) -> Image.Image:
    """One operation at levels of 0..1, as libml/ctaugment.py has it, but for shifts, which are shares of the side."""
    (width, height), level = image.size, levels[0]
    if name == "rescale":
        share = level * 0.25
        inner = (share * width, share * height, width * (1 - share), height * (1 - share))
        return image.crop(inner).resize(image.size, RESAMPLING[int(levels[1] * 5.99)])  # type: ignore[arg-type]
    if name == "cutout":
        return patched(image, row, column, (1 + int(level * min(image.size) * 0.499)) // 2)
    value = {
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.1 + 1.9 * level),
        "posterize": 1 + int(level * 7.999),
        "rotate": int(np.round((2 * level - 1) * 45)),
        "shear_x": (2 * level - 1) * 0.3,
        "shear_y": (2 * level - 1) * 0.3,
        "solarize": int(level * 255.999),
        "translate_x": (2 * level - 1) * 0.3 * width,
        "translate_y": (2 * level - 1) * 0.3 * height,
    }.get(name, level)
    return pil(name, image, value)


class Slow:
    """Rates and weights in float64, one bin at a time."""

    def __init__(self, threshold: float, decay: float) -> None:
        self.threshold, self.decay = threshold, decay
        self.rates = {name: [[1.0] * bins for bins in BINS.get(name, [17])] for name in ALL}

    def weights(self, name: str, parameter: int) -> list[float]:
        p = [rate + 1 - self.decay for rate in self.rates[name][parameter]]
        p = [v / max(p) for v in p]
        return [v if v >= self.threshold else 0.0 for v in p]

    def pick(self, name: str, parameter: int, uniform: float) -> int:
        weights = self.weights(name, parameter)
        upto, total = 0.0, sum(weights)
        for k, weight in enumerate(weights):
            upto += weight
            if uniform * total < upto:
                return k
        raise AssertionError("no bin has a weight")

    def one_by_one(self, name: str, levels: list[float], score: float) -> None:
        for rates, level in zip(self.rates[name], levels, strict=False):
            k = int(level * len(rates) * 0.999)
            rates[k] = rates[k] * self.decay + score * (1 - self.decay)

    def at_once(self, hits: dict[tuple[str, int, int], list[float]]) -> None:
        for (name, parameter, k), scores in hits.items():
            kept = self.decay ** len(scores)
            rates = self.rates[name][parameter]
            rates[k] = kept * rates[k] + (1 - kept) * sum(scores) / len(scores)

    def close_to(self, policy: CTAugment) -> bool:
        for o, name in enumerate(ALL):
            for parameter in range(2):
                rates = self.rates[name][parameter] if parameter < len(self.rates[name]) else []
                want = rates + [1.0] * (17 - len(rates))  # bins that there are not stay as they are
                if policy.rate_OPV[o, parameter].tolist() != pytest.approx(want, rel=1e-5):
                    return False
        return True


# Images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 48, 48), (3, 20, 33)], ids=str)
def test_probes_are_the_source_s_images(shape: tuple[int, int, int], depth: int) -> None:
    policy, probe = pair(shape[0], shape[1:], depth=depth)
    x, draws = pictures(*shape, n=192), drawn(policy, 192)
    out = probe.apply(x, **draws)
    row, column, pick = (draws[name].tolist() for name in ("row", "column", "pick"))
    for i, picture in enumerate(x):
        image = to_pil(picture)
        for s, op in enumerate(draws["op"][i].tolist()):
            image = operated(image, ALL[op], pick[i][s], row[i][s], column[i][s])
        assert (out[i].numpy() == from_pil(image)).all(), [ALL[op] for op in draws["op"][i]]
    assert len(set(draws["op"].flatten().tolist())) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_operation_at_its_ends(name: str) -> None:
    policy, probe = pair(3, (24, 32), without=but(name), depth=1)
    x, draws = pictures(3, 24, 32, n=24), drawn(policy, 24)
    almost = 1 - 2**-24
    for level in (0.0, 0.25, 0.5, 0.75, almost):
        for method in (0.0, 0.4, almost) if name == "rescale" else (0.0,):
            draws["pick"] = torch.tensor([level, method]).expand(24, 1, 2).contiguous()
            out = probe.apply(x, **draws)
            for i, picture in enumerate(x):
                row, column = int(draws["row"][i]), int(draws["column"][i])
                want = operated(to_pil(picture), name, draws["pick"][i, 0].tolist(), row, column)
                assert (out[i].numpy() == from_pil(want)).all(), (level, method)


def learned(policy: CTAugment, seed: int = 0) -> Slow:
    """Rates that differ from bin to bin, in the policy and in a slow one."""
    slow, rng = Slow(policy.threshold, policy.decay), default_rng(seed)
    for o, name in enumerate(ALL):
        for parameter, rates in enumerate(slow.rates[name]):
            made = rng.choice([0.0, 0.5, 0.81, 0.9, 1.0], len(rates)).astype(np.float32)
            slow.rates[name][parameter] = made.tolist()
            policy.rate_OPV[o, parameter, : len(made)] = torch.from_numpy(made)
    return slow


def test_levels_come_from_bins_with_weight() -> None:
    policy = CTAugment(3, 32)
    slow, x, draws = learned(policy), pictures(3, 32, 32, n=256), drawn(policy, 256)
    bins = policy.choose_bins(draws)
    out = policy.apply(x, **draws)
    for i, picture in enumerate(x):
        image = to_pil(picture)
        for s, op in enumerate(draws["op"][i].tolist()):
            name, levels = ALL[op], [0.0, 0.0]
            for p, count in enumerate(BINS.get(name, [17])):
                at = slow.pick(name, p, float(draws["pick"][i, s, p]))
                assert bins[i, s, p] == at
                levels[p] = (at + float(draws["within"][i, s, p])) / count
            image = operated(image, name, levels, int(draws["row"][i, s]), int(draws["column"][i, s]))
        top, left, bottom, right = draws["box"][i].tolist()
        want = from_pil(image).copy()
        want[:, top:bottom, left:right] = 127
        assert (out[i].numpy() == want).all()


def test_bins_are_drawn_in_proportion_to_their_weights() -> None:
    policy = CTAugment(3, 32, without=but("rotate", "rescale"), depth=1, threshold=0.6)
    policy.rate_OPV[1, 0] = torch.linspace(0, 1, 17)  # rescale comes before rotate
    draws = drawn(policy, 40_000)
    bins = policy.choose_bins(draws)[:, 0]
    p = torch.linspace(0, 1, 17) + 0.01
    p = torch.where(p / p.max() >= 0.6, p, 0.0)
    turned = bins[draws["op"][:, 0] == 1, 0]
    share = turned.bincount(minlength=17) / len(turned)
    assert (share - p / p.sum()).abs().max() < 0.01
    assert (share[p == 0] == 0).all()
    scaled = bins[draws["op"][:, 0] == 0]
    for parameter, count in enumerate((17, 6)):
        even = scaled[:, parameter].bincount() / len(scaled)
        assert len(even) == count
        assert (even - 1 / count).abs().max() < 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_one_by_one_and_all_at_once_give_the_same_bytes(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, probe = pair(channels, (24, 20), depth=3)
    learned(policy)
    x, draws = pictures(channels, 24, 20, n=160), drawn(policy, 160)
    for shown in (policy, probe):
        out = shown.apply(x, **draws)
        order = torch.from_numpy(default_rng(0).permutation(160))
        assert torch.equal(shown.apply(x[order], **{k: t[order] for k, t in draws.items()}), out[order])
        assert torch.equal(shown.apply(x[1::3], **{k: t[1::3] for k, t in draws.items()}), out[1::3])
        with monkeypatch.context() as patch:
            patch.setattr(_pil_ops, "readable", lambda t: False)
            assert torch.equal(shown.apply(x, **draws), out)


# Rates ---------------------------------------------------------------------------------------------------------------


Hits = dict[tuple[str, int, int], list[float]]  # by operation, parameter and bin


def hits(draws: dict[str, Tensor], score: Tensor, bins: Tensor | None = None) -> Hits:
    """The scores of the images that had each bin."""
    found: Hits = {}
    for i in range(len(score)):
        for s, op in enumerate(draws["op"][i].tolist()):
            for p, count in enumerate(BINS.get(ALL[op], [17])):
                at = int(bins[i, s, p]) if bins is not None else int(float(draws["pick"][i, s, p]) * count * 0.999)
                found.setdefault((ALL[op], p, at), []).append(float(score[i]))
    return found


def test_rates_follow_the_scores_of_probes() -> None:
    policy, probe = pair()
    slow, rng = Slow(0.8, 0.99), default_rng(0)
    twice = 0
    for step in range(60):
        draws, score = drawn(probe, 16, step), torch.from_numpy(rng.random(16, np.float32))
        found = hits(draws, score)
        twice += sum(len(scores) > 1 for scores in found.values())
        slow.at_once(found)
        probe.update(score, **draws)
    assert twice > 20
    assert slow.close_to(policy)


def test_a_bin_that_is_hit_once_a_batch_learns_as_in_the_source() -> None:
    policy, probe = pair(depth=1)
    slow, rng = Slow(0.8, 0.99), default_rng(0)
    for step in range(200):
        draws, score = drawn(probe, 1, step), torch.from_numpy(rng.random(1, np.float32))
        slow.one_by_one(ALL[int(draws["op"])], draws["pick"][0, 0].tolist(), float(score))
        probe.update(score, **draws)
    assert slow.close_to(policy)


def test_the_policy_itself_can_be_scored() -> None:
    policy = CTAugment(3, 32)
    slow, draws = learned(policy), drawn(policy, 32)
    score = torch.linspace(0, 1, 32)
    slow.at_once(hits(draws, score, policy.choose_bins(draws)))
    policy.update(score, **draws)
    assert slow.close_to(policy)


def test_what_is_never_recognised_is_no_longer_shown() -> None:
    policy, probe = pair(without=but("brightness", "identity"), depth=1)
    for step in range(120):
        draws = drawn(probe, 64, step)
        dark = draws["pick"][:, 0, 0] < 0.5
        probe.update(torch.where(dark, 0.0, 1.0), **draws)
    rate = policy.rate_OPV[0, 0]
    assert (rate[:8] < 0.5).all()
    assert (rate[9:] == 1).all()
    draws = drawn(policy, 2000)
    bins = policy.choose_bins(draws)[draws["op"] == 0][:, 0]
    assert set(bins.tolist()) == set(range(9, 17))  # 8 holds .5 and is mixed
    x = torch.full((2000, 3, 32, 32), 100, dtype=torch.uint8)
    with_patch = CTAugment(3, 32, without=but("brightness"), depth=1, cutout=0)
    with_patch.rate_OPV.copy_(policy.rate_OPV[:1])
    assert with_patch.apply(x, **drawn(with_patch, 2000)).min() > 100


def test_it_recovers() -> None:
    policy, probe = pair(without=but("rotate"), depth=1, decay=0.9)
    draws = drawn(probe, 64)
    for score in (0.0, 1.0):
        for _ in range(30):
            probe.update(torch.full((64,), score), **draws)
        touched = policy.rate_OPV[0, 0] != 1
        assert ((policy.rate_OPV[0, 0] - score).abs() < 0.05)[touched if score else slice(None)].float().mean() > 0.9


def test_two_ranks_learn_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scores its own images, and holds the draws of all: what `all_reduce_sum` gives is the sum over both."""
    draws, score = drawn(CTAugment(3, 32), 32), torch.from_numpy(default_rng(1).random(32, np.float32))
    (alone, probe), sums, results = pair(), [], []
    probe.update(score, **draws)
    for play in (0, 1):  # first to hear what each rank gives, then to answer with the sums
        for rank in (0, 1):
            policy, probe = pair()
            heard: list[Tensor] = []

            def total(t: Tensor, heard: list[Tensor] = heard, play: int = play) -> Tensor:
                heard.append(t)
                return sums[0][len(heard) - 1] + sums[1][len(heard) - 1] if play else t

            monkeypatch.setattr(ops, "all_reduce_sum", total)
            monkeypatch.setattr(ops, "local_rows", lambda t, rank=rank: t[rank::2])
            probe.update(score[rank::2], **draws)
            (results if play else sums).append(policy.rate_OPV if play else heard)
    assert len(sums[0]) == 2
    assert torch.equal(*results)
    assert torch.allclose(results[0], alone.rate_OPV, rtol=1e-6)
    assert (alone.rate_OPV != 1).any()


def test_learning_reads_no_value() -> None:
    policy, probe = pair(1, (12, 9), depth=1)
    draws = drawn(policy, 6)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = {name: mode.from_tensor(value) for name, value in draws.items()}
        for shown in (policy, probe):
            shown.update(mode.from_tensor(torch.rand(6)), **fake)


def test_the_probed_policy_must_be_there() -> None:
    policy = CTAugment(3, 32)
    assert CTAugmentProbe({"hard": policy}, of="hard").policy is policy
    for augments in ({}, {"strong": CTAugmentProbe({"strong": policy})}):
        with pytest.raises(DataError, match=r'of = "strong" is not a ctaugment policy that comes before it'):
            CTAugmentProbe(augments)
    with pytest.raises(DataError, match="needs grey or RGB images"):
        CTAugment(2, 32)


# In a run ------------------------------------------------------------------------------------------------------------

METHOD = '''
import torch
from torch import nn

from mmctl.plugin import LossTerm, StepOutput, method


@method("probing")
class Probing(nn.Module):
    """Strongly augmented labelled images, and what they show CTAugment."""

    views = {"x": ("strong", "probe")}
    slots = {"labeled": LossTerm("soft_cross_entropy")}
    default_labeler = None

    def __init__(self, model, losses, augments):
        super().__init__()
        self.model, self.losses, self.augments = model, losses, augments

    def step(self, batch):
        with torch.no_grad():
            probs = self.model(batch.x[1], bn="batch").probs
        score = 1 - 0.5 * (probs - batch.y).abs().sum(-1)
        self.augments["probe"].update(score, **batch.view_draws["x1"]["probe"])
        return StepOutput({"labeled": self.losses.labeled(self.model(batch.x[0], bn="update"), batch.y)})
'''
SETS = (
    "augment.strong.name=ctaugment", "augment.strong.after=weak", "augment.probe.name=ctaugment_probe",
    "augment.probe.after=weak", "train.steps=12", "train.save_every=5", "train.log_every=3", "train.threads=1",
    "eval.every=12",
)  # fmt: skip


@pytest.fixture
def probing() -> None:
    written("probing")
    (project.plugins_dir() / "probing.py").write_text(METHOD)


@pytest.mark.usefixtures("probing")
def test_rates_are_saved_and_a_stopped_run_goes_on_with_them(tmp_path: Path) -> None:
    folders = [create_run(recipe("probing", *SETS), tmp_path / name) for name in ("whole", "parts")]
    assert execute(folders[0], never).state == "completed"
    assert [execute(folders[1], After(n)).state for n in (3, 4)] == ["interrupted"] * 2
    assert execute(folders[1], never).state == "completed"
    assert_same(*folders)
    found = checkpoint.newest(folders[0])[0]
    assert found is not None
    rates = found.tensors["augment.strong.rate_OPV"]
    assert [name for name in found.tensors if name.startswith("augment.")] == ["augment.strong.rate_OPV"]
    hit = int((rates != 1).sum())
    assert 50 < hit <= 12 * 12 * 2 * 2
    assert ((rates >= 0) & (rates <= 1)).all()


@pytest.mark.usefixtures("probing")
def test_the_probe_scores_the_strong_policy_of_the_recipe() -> None:
    run = training("probing", *SETS)
    strong, probe = (run.loader.augments[name] for name in ("strong", "probe"))
    assert probe.policy is strong is run.parts["augment.strong"]
    assert run.loader.chains == {"strong": ("weak", "strong"), "probe": ("weak", "probe")}
    device_step(run, run.staged(0))
    draws = run.plan(0).view_draws["x1"]["probe"]
    told = torch.zeros_like(strong.rate_OPV, dtype=torch.bool)
    for i, s in np.ndindex(draws["op"].shape):
        op = draws["op"][i, s]
        for p, count in enumerate(BINS.get(ALL[op], [17])):
            told[op, p, int(float(draws["pick"][i, s, p]) * count * 0.999)] = True
    assert torch.equal(strong.rate_OPV != 1, told)
