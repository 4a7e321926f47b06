"""Where a network puts the images of its evaluation, in two dimensions: for reports.

N images, D embedding, K classes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmctl.errors import UserError
from mmctl.report.results import EmbeddingMap, Projection
from mmctl.runs.build import Shared
from mmctl.runs.evaluate import open_checkpoint
from mmctl.training.evaluate import refit_centroids

IMAGES = 1000
"""At most so many images, evenly spread over the split."""
PERPLEXITY = 30.0
FEWEST = 8
"""t-SNE needs so many images."""
Array = NDArray[np.float64]


@torch.no_grad()
def embedding_map(folder: Path, which: str, shared: Shared) -> EmbeddingMap:
    """The embeddings by a checkpoint, as PCA and t-SNE show them, with the class centroids; writes nothing.

    Split and weights are those of the run's primary metric; the embeddings are those that distances to centroids are
    computed from. which: as in `evaluate_run`, whose errors this raises; shared: data sets that were read already.
    """
    opened, saved, _ = open_checkpoint(folder, which, shared=shared, command=None)
    run = opened.training
    split, weights, *_ = opened.about["primary"].split("/")
    if split not in run.splits or weights not in run.nets:
        raise UserError(f"{folder.name}: its recipe evaluates no {split} images with {weights} weights.")
    pictures, net = run.splits[split].subset(IMAGES), run.ready(weights)
    centroids = refit_centroids(net, run.centroids, run.labeled)
    embeddings, predicted, true = [], [], []
    for x_BCHW, target_BK in pictures:
        out = net(x_BCHW, bn="running")
        embeddings.append(centroids.normalized(out.emb).double().cpu())
        predicted.append(out.logits.argmax(-1).cpu())
        true.append(target_BK.argmax(-1).cpu())
    emb_ND, true_N = torch.cat(embeddings).numpy(), torch.cat(true).numpy()
    seen_K, center_KD = centroids.seen_K.cpu().numpy(), centroids.centers().double().cpu().numpy()
    if not (np.isfinite(emb_ND).all() and np.isfinite(center_KD[seen_K]).all()):
        raise UserError(f"{folder.name}: its embeddings are NaN or infinite at step {saved.step}.")
    return {
        "run": opened.about["uid"], "step": saved.step, "split": split, "weights": weights,
        "images": len(run.splits[split]), "classes": list(opened.data.images["train"].classes),
        "true": true_N.tolist(), "predicted": torch.cat(predicted).tolist(),
        "projections": projections(emb_ND, center_KD, np.flatnonzero(seen_K)),
        "silhouette": silhouettes(emb_ND, true_N, len(seen_K)), "nearest": nearest(center_KD, seen_K),
    }  # fmt: skip


def projections(emb_ND: Array, center_KD: Array, seen: NDArray[np.int64]) -> list[Projection]:
    """PCA and t-SNE of embeddings and the centroids of the `seen` classes; the same bits each time on a machine."""
    mean_D = emb_ND.mean(0)
    _, length, axes_DD = np.linalg.svd(emb_ND - mean_D, full_matrices=False)
    axes_2D = axes_DD[:2]
    # The sign of an axis is arbitrary: its largest number is positive.
    axes_2D = axes_2D * np.sign(axes_2D[np.arange(len(axes_2D)), np.abs(axes_2D).argmax(1)])[:, None]
    both_ND = np.concatenate([emb_ND, center_KD[seen]])
    flat_N2 = np.zeros((len(both_ND), 2))
    flat_N2[:, : len(axes_2D)] = (both_ND - mean_D) @ axes_2D.T
    share = (length[:2] ** 2).sum() / max((length**2).sum(), 1e-300)
    made = [_projection("PCA", f"The two axes hold {100 * share:.0f} % of the variance.", flat_N2, len(emb_ND), seen)]
    if len(emb_ND) >= FEWEST and length[0] > 1e-9 * np.abs(emb_ND).max():  # more than rounding
        perplexity = min(PERPLEXITY, (len(both_ND) - 1) / 3)
        near_N2 = _tsne(both_ND, flat_N2, perplexity)
        about = (
            f"Perplexity {perplexity:.0f}, from the PCA. Near images are alike; distances between groups say little."
        )
        made.append(_projection("t-SNE", about, near_N2, len(emb_ND), seen))
    return made


def _tsne(both_ND: Array, start_N2: Array, perplexity: float) -> Array:
    from sklearn.manifold import TSNE  # only here: the import takes a second
    from threadpoolctl import threadpool_limits

    scaled = start_N2 / start_N2[:, 0].std() * 1e-4
    # With several threads, sums have no fixed order, and the map grows another way from their last bits.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TSNE(perplexity=perplexity, init=scaled, random_state=0).fit_transform(both_ND)  # type: ignore[no-any-return]


def _projection(name: str, about: str, flat_N2: Array, n: int, seen: NDArray[np.int64]) -> Projection:
    points = [(float(x), float(y)) for x, y in flat_N2]
    return {"name": name, "about": about, "points": points[:n],
            "centroids": dict(zip(seen.tolist(), points[n:], strict=True))}  # fmt: skip


def silhouettes(emb_ND: Array, true_N: NDArray[np.int64], num_classes: int) -> list[float | None]:
    """How well each class is apart: the mean silhouette of its images, None where it cannot be computed."""
    from sklearn.metrics import silhouette_samples  # only here: the import takes a second

    if not 2 <= len(np.unique(true_N)) < len(true_N):
        return [None] * num_classes
    value_N = silhouette_samples(emb_ND, true_N)
    return [float(value_N[true_N == k].mean()) if (true_N == k).any() else None for k in range(num_classes)]


def nearest(center_KD: Array, seen_K: NDArray[np.bool_]) -> list[int | None]:
    """Of each class, the other class with the nearest centroid."""
    from scipy.spatial.distance import cdist  # only here: scikit-learn brings it; needs no K x K x D numbers

    apart_KK = cdist(center_KD, center_KD)
    apart_KK[:, ~seen_K] = np.inf
    np.fill_diagonal(apart_KK, np.inf)
    return [
        int(row.argmin()) if seen and np.isfinite(row.min()) else None
        for row, seen in zip(apart_KK, seen_K, strict=True)
    ]
