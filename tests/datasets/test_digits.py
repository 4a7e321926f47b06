"""The digits data set."""

from __future__ import annotations

import numpy as np
import pytest

from mmctl.datasets import digits as digits_module
from mmctl.datasets.digits import digits
from mmctl.plugin import DataError


def test_what_it_holds() -> None:
    data = digits()
    assert set(data) == {"train", "test"}
    assert [len(data[part].ids) for part in ("train", "test")] == [1297, 500]
    for images in data.values():
        assert images.pixels.shape == (len(images.ids), 1, 8, 8)
        assert str(images.pixels.dtype) == "uint8"
        assert images.targets.dtype == np.int64
        assert images.classes == tuple("0123456789")
    assert not set(data["train"].ids) & set(data["test"].ids)


@pytest.mark.parametrize("found", [True, False])
def test_pixels_are_sixteenths_of_white(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if scikit-learn keeps its file elsewhere."""
    from sklearn.datasets import load_digits

    if not found:
        monkeypatch.setattr(digits_module, "find_spec", lambda name: None)
    values, targets = load_digits(return_X_y=True)
    data = digits()
    for images in data.values():
        rows = [int(name.removeprefix("digit")) for name in images.ids]
        assert (np.rint(values[rows] * 255 / 16) == images.pixels.reshape(-1, 64)).all()
        assert (targets[rows] == images.targets).all()
    assert int(data["train"].pixels.max()) == 255


def test_test_set_is_class_proportional_and_pinned() -> None:
    """A changed draw would silently make every stored figure incomparable."""
    data = digits()
    assert np.bincount(data["test"].targets).tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    assert data["test"].ids[:4] == ("digit0000", "digit0003", "digit0004", "digit0005")
    whole = np.bincount(np.concatenate([data["train"].targets, data["test"].targets]))
    for n in (10, 137, 1000):
        counts = np.bincount(digits(test=n)["test"].targets, minlength=10)
        assert counts.sum() == n
        assert (abs(counts - whole * n / 1797) < 1).all()


def test_smaller_test_set_is_part_of_a_larger_one() -> None:
    assert set(digits(test=100)["test"].ids) <= set(digits(test=500)["test"].ids)


def test_fingerprint_and_seed() -> None:
    data, again, other = digits(), digits(), digits(test_seed=1)
    assert data["test"].fingerprint == again["test"].fingerprint
    assert data["test"].fingerprint != other["test"].fingerprint
    assert data["test"].fingerprint != data["train"].fingerprint


def test_test_set_as_large_as_the_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"dataset.test = 1797 leaves too few images to train; use at most 1787"):
        digits(test=1797)
