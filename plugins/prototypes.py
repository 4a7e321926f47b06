"""An example of your own labeler, to copy: soft labels by distance to the centroids, at a temperature that is learned.

    [labeler]
    name = "plugins:prototypes"

It shows how a labeler keeps state: a buffer that is changed in place is saved in checkpoints, so that a resumed run is
exact. U unlabelled batch, B labelled batch, K classes.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mmctl.ops import global_mean
from mmctl.plugin import Batch, Output, PluginError, PseudoLabels, labeler


@labeler("prototypes")
class Prototypes(nn.Module):
    """Softmax of negative squared distances to the class centroids, at a temperature learned from labelled images.

    q_c = exp(-d_c / T) / sum_j exp(-d_j / T), as in prototypical networks (Snell et al., NeurIPS 2017). Each step takes
    one step of gradient descent on log T, on the cross-entropy of the labelled batch: the labels become as confident
    as the centroids deserve (temperature scaling; Guo et al., ICML 2017). Use it with a method that passes labelled
    predictions, for example fixmatch.

    Args:
        temperature: T at the start.
        rate: Learning rate of log T; 0 keeps T as it is.
        tau: Least probability of the top class: images below it get weight 0; 0 = use all.
    """

    masks = True  # methods that mix all pseudo-labels cannot leave out images, and refuse this labeler
    log_temperature: Tensor

    def __init__(
        self,
        centroids: Any,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.2,
        rate: Annotated[float, Field(ge=0, le=1)] = 0.05,
        tau: Annotated[float, Field(ge=0, le=1)] = 0.8,
    ) -> None:
        super().__init__()
        self.centroids, self.rate, self.tau = centroids, rate, tau
        self.register_buffer("log_temperature", torch.tensor(float(temperature)).log())

    @torch.no_grad()
    def forward(self, *views: Output, batch: Batch, labeled: Output | None = None) -> PseudoLabels:
        """Labels UK; weight 1 where the top probability reaches tau."""
        if labeled is None:
            raise PluginError("prototypes needs the predictions for labelled images: use the method fixmatch.")
        self.learn(labeled, batch.y)
        q_UK = torch.stack([self.probs(self.distances(view)) for view in views]).mean(0)
        return PseudoLabels(q_UK, (q_UK.amax(-1) >= self.tau).to(q_UK.dtype))

    def distances(self, out: Output) -> Tensor:
        """Squared distances to the centroids; infinite for a class without one, unless no class has one."""
        seen_K = self.centroids.seen_K
        d = self.centroids.squared(out.emb)
        return torch.where(seen_K.any(), d, torch.zeros_like(d)).masked_fill(~seen_K & seen_K.any(), torch.inf)

    def probs(self, distance: Tensor) -> Tensor:
        """q of each class."""
        return (-distance / self.log_temperature.exp()).softmax(-1)

    def learn(self, labeled: Output, y_BK: Tensor) -> None:
        """log T <- log T - rate * gradient of the cross-entropy, which is the mean of sum_c (q_c - y_c) d_c / T."""
        d_BK = self.distances(labeled)
        difference_BK = (self.probs(d_BK) - y_BK) * self.centroids.seen_K
        gradient_B = (difference_BK * d_BK.nan_to_num(posinf=0.0)).sum(-1) / self.log_temperature.exp()
        step = (self.rate * global_mean(gradient_B)).clamp(-0.1, 0.1)  # one odd batch must not decide
        self.log_temperature.sub_(step).clamp_(-7.0, 5.0)  # T between 0.001 and 150
