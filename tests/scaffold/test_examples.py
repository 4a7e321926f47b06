"""The recipes of examples/ train, with the plugins of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.paths import REPO
from helpers.semi_aves_files import write as write_semi_aves

EXAMPLES = sorted((REPO / "examples").glob("*.toml"))
SHORT = ("train.steps=2", "eval.every=2", "train.batch=8", "train.unlabeled_batch=8")


@pytest.fixture(autouse=True)
def _repository_plugins(_own_project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_PLUGINS_DIR", str(REPO / "plugins"))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_trains(mm: Any, tmp_path: Path, path: Path) -> None:
    sets = list(SHORT)
    if path.stem == "medmnist":
        sets += ["split.labels=16"]
        write_archive(tmp_path / "data" / "medmnist" / "bloodmnist.npz")
    if path.stem == "semi-aves":
        write_semi_aves(tmp_path / "data" / "semi_aves")
        sets += ["backbone.model=resnet10t", "dataset.size=32", "augment.weak.pad=4"]
        sets += ["train.batch=2", "train.unlabeled_batch=2", "train.save_every=2"]
    done = mm("run", path, *(word for part in sets for word in ("--set", part)))
    assert done.code == 0, done.err
    assert "completed, 2 steps" in done.out


def write_archive(path: Path) -> None:
    """40 images of noise in the format of MedMNIST."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (40, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(40, dtype=np.uint8) % 8)[:, None]
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def test_every_plugin_of_the_repository_has_an_example_and_a_test() -> None:
    texts = [path.read_text() for path in EXAMPLES]
    for path in (REPO / "plugins").glob("*.py"):
        assert any(f'"plugins:{path.stem}"' in text for text in texts), path
        assert (REPO / "tests" / "plugins" / f"test_{path.stem}.py").is_file(), path
