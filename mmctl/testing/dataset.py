"""The contract of data sets. N images, K classes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmctl.data.images import check_images, one_hot
from mmctl.plugin import Images
from mmctl.testing.contract import Contract, generators_untouched


class DatasetContract(Contract):
    """train, and val or test, as Images that are the same at each reading."""

    kind = "dataset"
    root: Path | None = None
    """The folder of the data; None if `make_root` writes small files, or if the data set needs none."""

    def make_root(self, folder: Path) -> Path | None:
        """Write small files of the data set's format into `folder` and return the data set's root."""
        return None

    def read(self, table: Mapping[str, Any], folder: Path) -> Mapping[str, Images]:
        """The data set, checked."""
        root = self.root or self.make_root(folder)
        found = self.build(table, root=root)
        check_images(found, self.who.removeprefix("dataset "))
        return found  # type: ignore[no-any-return]

    def test_images(self) -> None:
        """uint8 N x C x H x W, targets, unique ids and a fingerprint for train, and for val or test."""
        for table in self.params:
            with tempfile.TemporaryDirectory() as folder:
                found = self.read(table, Path(folder))
                if not {"val", "test"} & set(found):
                    raise self.broken(f"has only the splits {sorted(found)}", "A run needs train, and test or val.")
                train = one_hot(found["train"])
                missing = [c for c, n in zip(found["train"].classes, train.sum(0), strict=True) if not n]
                if missing:
                    raise self.broken(f"has no training image of {', '.join(missing)}", "Leave the class out.")
                if (np.asarray(found["train"].pixels[:100]) <= 1).all():
                    raise self.broken("has pixels with values 0 and 1 only", "Pixels go from 0 to 255.")

    def test_same_at_each_reading(self) -> None:
        """Two readings give the same pixels, targets, ids and fingerprints."""
        for table in self.params:
            with tempfile.TemporaryDirectory() as folder:
                one = self.read(table, Path(folder))
                with generators_untouched(self.who, "reading"):  # the first reading may import libraries that use them
                    two = self.read(table, Path(folder))
                for split, a in one.items():
                    b = two[split]
                    same = np.array_equal(np.asarray(a.pixels), np.asarray(b.pixels))
                    same = same and np.array_equal(a.targets, b.targets) and list(a.ids) == list(b.ids)
                    if not same:
                        raise self.broken(
                            f"gives other images or another order of {split} at the second reading",
                            "Sort file names; shuffle only with a seed from a parameter.",
                        )
                    if a.fingerprint != b.fingerprint:
                        raise self.broken(
                            f"gives another fingerprint of {split} for the same images", "Use mmctl.plugin.Images.of."
                        )

    def test_fingerprint(self) -> None:
        """Splits that differ have different fingerprints, and so have parameters that give other images."""
        seen: dict[str, tuple[Any, ...]] = {}
        for table in self.params:
            with tempfile.TemporaryDirectory() as folder:
                for split, part in self.read(table, Path(folder)).items():
                    content = (np.asarray(part.pixels).tobytes(), part.targets.tobytes(), tuple(part.ids))
                    if seen.setdefault(part.fingerprint, content) != content:
                        raise self.broken(
                            f"has one fingerprint for different images ({split})", "Use mmctl.plugin.Images.of."
                        )
