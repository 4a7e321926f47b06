"""`mmctl evaluate`: the logged figures to the last digit, kept in the run's journal, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.run_helpers import After, events, never, points, tree
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.predictions import read_predictions
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training import checkpoint

Mm = Callable[..., Result]
SETS = ("train.threads=1", "train.steps=12", "train.save_every=4", "eval.every=4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_project.trained("mixmatch", SETS, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    tiny_project.written("mixmatch")
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


def figures(mm: Mm, *words: object) -> dict[str, object]:
    done = mm("evaluate", "@last", "--json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)  # type: ignore[no-any-return]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("step", ["8", "12", "last"])
@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize("predictor", ["head", "centroid"])
def test_figures_are_those_of_training(step: str, weights: str, predictor: str, mm: Mm, folder: Path) -> None:
    found = figures(mm, "--checkpoint", step, "--weights", weights, "--predictor", predictor)
    number = 12 if step == "last" else int(step)
    logged = {name: value for (name, at), value in points(folder).items() if at == number}
    prefix = f"test/{weights}/{predictor}/"
    assert found["step"] == number
    assert len(found["metrics"]) == (6 if predictor == "head" else 4)  # type: ignore[arg-type]
    assert {prefix + k: v for k, v in found["metrics"].items()} == {  # type: ignore[attr-defined]
        k: v for k, v in logged.items() if k.startswith(prefix)
    }
    assert found["logged"] == found["metrics"]
    assert found["exact"] is True


@pytest.mark.parametrize("step", ["8", "12"])
def test_an_average_with_statistics_of_its_own(step: str, mm: Mm, tmp_path: Path) -> None:
    """They are in no checkpoint: found anew, they give the logged figures to the last digit."""
    swa = ("average.kind=swa", "average.start=3", "average.every=2", "average.buffers=recompute")
    made = create_run(tiny_project.recipe("pi_model", *SETS, *swa), tmp_path / "runs")
    assert execute(made, never).state == "completed"
    for weights in ("ema", "raw"):
        for predictor in ("head", "centroid"):
            found = figures(mm, "--checkpoint", step, "--weights", weights, "--predictor", predictor)
            assert len(found["metrics"]) == (6 if predictor == "head" else 4)  # type: ignore[arg-type]
            assert found["logged"] == found["metrics"], (weights, predictor)


def test_what_is_found_is_kept_and_shown(mm: Mm, folder: Path) -> None:
    before = tree(folder / "checkpoints")
    found = figures(mm, "--checkpoint", "8", "--split", "train", "--weights", "raw")
    (event,) = [e for e in events(folder, "evaluation") if e["split"] == "train"]
    assert (event["step"], event["weights"], event["predictor"]) == (8, "raw", "head")
    assert event["checkpoint"] == "checkpoints/step-000000008"
    assert event["metrics"] == found["metrics"]
    assert (folder / "journal.0.jsonl").exists(), "apart from the journals of training"
    assert found["n"] == 120
    assert found["logged"] == {}
    assert tree(folder / "checkpoints") == before
    shown = json.loads(mm("show", "@last", "--json").out)["run"]
    assert [e["n"] for e in shown["evaluations"] if e["split"] == "train"] == [120]
    assert shown["state"] == "completed"


@pytest.mark.parametrize("predictor", ["head", "centroid"])
def test_what_was_predicted_for_each_image_is_kept(predictor: str, mm: Mm, folder: Path) -> None:
    (trained,) = [e for e in events(folder, "evaluation") if (e["weights"], e["predictor"]) == ("ema", predictor)]
    kept = read_predictions(folder, trained["predictions"], predictor)
    k = len(kept.classes)
    confusion = [[0] * k for _ in range(k)]
    for true, said in zip(kept.true, kept.predicted, strict=True):
        confusion[true][said] += 1
    assert confusion == trained["confusion"]
    assert len(set(kept.ids)) == trained["n"]
    assert (kept.probability is None) == (predictor == "centroid")
    assert all(1 / k <= p <= 1 for p in kept.probability or ())
    before = tree(folder / "predictions")
    figures(mm, "--predictor", predictor)
    assert events(folder, "evaluation")[0]["predictions"] == trained["predictions"]
    assert tree(folder / "predictions") == before, "the same network gives the same file"
    figures(mm, "--predictor", predictor, "--checkpoint", "8", "--split", "train")
    assert len(list((folder / "predictions").iterdir())) == 3


def test_for_people(mm: Mm, folder: Path) -> None:
    done = mm("evaluate", "@last")
    assert done.code == 0
    assert f"{folder.name}  step 12  test  ema weights, head predictor  (45 images)" in done.out
    assert "differs" not in done.out
    assert done.out.count("=") >= 5
    for words in ("balanced accuracy", "recall", "rows", "columns", "checks"):
        assert words in done.out


def test_a_gate(mm: Mm, folder: Path) -> None:
    accuracy = float(figures(mm)["metrics"]["accuracy"])  # type: ignore[index]
    assert mm("evaluate", "@last", "--min", accuracy).code == 0
    low = mm("evaluate", "@last", "--min", min(1.0, accuracy + 1e-6), "--json")
    assert low.code == (7 if accuracy < 1 else 0)
    assert json.loads(low.out)["metrics"]["accuracy"] == accuracy
    assert ("is below --min" in low.err) == (accuracy < 1)
    for wrong in ("1.5", "nan", "-0.1", "half"):
        assert mm("evaluate", "@last", "--min", wrong).code == 2


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--checkpoint", "7"), "use 8, 12, last or last-good"),
        (("--checkpoint", "\u00b2"), "use 8, 12, last or last-good"),
        (("--checkpoint", "-1"), "use 8, 12, last or last-good"),
        (("--checkpoint", "best"), "use 8, 12, last or last-good"),
        (("--split", "tset"), '--split: "tset" is not among test, train. Did you mean "test"?'),
        (("--split", "val"), '"val" is not among test, train'),
        (("--weights", "emma"), '--weights: "emma" is not among raw, ema. Did you mean "ema"?'),
        (("--predictor", "heads"), '--predictor: "heads" is not among head, centroid. Did you mean "head"?'),
    ],
)
def test_wrong_words(words: tuple[str, str], says: str, mm: Mm, folder: Path) -> None:
    before = tree(folder)
    done = mm("evaluate", "@last", *words)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert tree(folder) == before


def test_a_damaged_checkpoint_is_said_and_left_where_it_is(mm: Mm, folder: Path) -> None:
    state = checkpoint.folder_of(folder, 12) / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    done = mm("evaluate", "@last", "--checkpoint", "12")
    assert done.code == 2
    assert "step-000000012: damaged" in done.err
    refused = mm("evaluate", "@last", "--min", "0.1")
    assert refused.code == 2, "a gate is never asked about other weights"
    assert "step-000000012: damaged" in refused.err
    assert "that of step 8: `-c last-good` evaluates it" in refused.err
    asked = mm("evaluate", "@last", "-c", "last-good", "--json")
    found = json.loads(asked.out)
    assert (asked.code, found["step"], len(found["skipped"])) == (0, 8, 1)
    assert "step-000000012: damaged" in found["skipped"][0]
    assert "Evaluating the checkpoint before it, of step 8." in asked.err
    assert checkpoint.steps(folder) == [8, 12], "looking sets nothing aside"


def test_a_newest_checkpoint_that_is_gone_is_missed(mm: Mm, folder: Path) -> None:
    shutil.rmtree(checkpoint.folder_of(folder, 12))
    refused = mm("evaluate", "@last")
    assert refused.code == 2
    assert "step-000000012: is missing, but the journal says that it was saved" in refused.err
    assert figures(mm, "-c", "last-good")["step"] == 8
    assert figures(mm, "-c", "8")["skipped"] == []


def test_a_run_that_is_training_is_evaluated_beside_it(mm: Mm, tmp_path: Path) -> None:
    folder = create_run(tiny_project.recipe("supervised", *SETS), tmp_path / "runs")
    early = mm("evaluate", folder.name)
    assert early.code == 2
    assert "no usable checkpoint" in early.err
    execute(folder, After(5))
    with Lease(folder):
        assert mm("evaluate", folder.name).code == 0


def test_without_an_average_there_are_raw_weights_alone(mm: Mm, tmp_path: Path) -> None:
    folder = create_run(tiny_project.recipe("supervised", *SETS, "average.kind=none"), tmp_path / "runs")
    execute(folder, never)
    assert figures(mm)["weights"] == "raw"
    done = mm("evaluate", folder.name, "--weights", "ema")
    assert done.code == 2
    assert '"ema" is not among raw' in done.err
