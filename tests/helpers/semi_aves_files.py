"""Small files of the layout of Semi-Aves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

LISTS = {  # name: (folder, images, whether the labels are known)
    "l_train": ("trainval_images", 6, True), "l_val": ("trainval_images", 3, True),
    "u_train_in": ("u_train_in", 5, False), "u_train_out": ("u_train_out", 4, False), "test": ("test", 6, True),
}  # fmt: skip


def write(root: Path) -> Path:
    """Images of three species and the lists of labelled, unlabelled and test images; returns the folder."""
    rng, seen = np.random.default_rng(0), 0
    lists: dict[str, list[str]] = {}
    for name, (folder, n, known) in LISTS.items():
        for row in range(n):
            seen += 1
            label = (0, 7, 42)[row % 3]
            path = f"{folder}/{label}/{seen}.jpg" if known else f"{folder}/{seen}.jpg"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / path)
            lists.setdefault(name, []).append(f"{path} {label if known else -1}")
    lists["l_train_val"] = lists["l_train"] + lists["l_val"]
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root
