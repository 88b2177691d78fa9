"""Do clips look like real ones? A Fréchet distance between the features of generated and of true frames.

The Fréchet distance of two Gaussians in hundreds of dimensions needs thousands of clips, and its covariances don't fit
into rows. Here features are projected onto a few random directions, the same for every space; on each, both sides are
Gaussians of one dimension, whose distance (difference of means)² + (difference of standard deviations)² follows from
sums over rows. The mean over directions is a sliced distance: 0 where the distributions agree in mean and covariance,
as far as so many directions tell. It is in units of the true frames' variance along each.

It compares sets: which clip is which, and so what was done in it, it can't see. Nor does a column compare with FID or
FVD, whose networks see other things, and which are of thousands of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from rslwm.compute import generator
from rslwm.evals.aggregates import FRECHET
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, NotAvailable
from rslwm.evals.decoded import DECODED, STILL, Shown, decoded_frames, shown
from rslwm.evals.evaluation import Evaluation, in_parts
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.latents.base import EncoderConfig
from rslwm.latents.published.base import MissingLibrary
from rslwm.latents.published.effnet import EffNetLite0, EffNetOptions
from rslwm.latents.published.weights import MissingWeights
from rslwm.latents.views import apart
from rslwm.types import Role

FD = MetricInfo(
    name="fd_effl0",
    axis="fidelity",
    question="Do clips look like real ones?",
    rung=0,
    higher_is_better=False,
    unit="true variances",
    aggregate=FRECHET,
    floor=f"{STILL}: real frames, so hardly worse than the ceiling",
    ceiling=DECODED,
    description="Sliced Fréchet distance between the EfficientNet-Lite0 features of generated and of true frames, step "
    "by step.",
    scored=False,
)
CHANGE = replace(
    FD,
    name="fd_effl0_change",
    floor=STILL,
    description="The same of how much the features have changed since the last context frame: a frozen clip looks like "
    "no real one.",
)
ROLES: tuple[Role, ...] = ("value", "ceiling")


@dataclass(frozen=True)
class FrechetConfig:
    """Where features are compared, and how."""

    directions: int = 8
    """Random directions that features are projected onto."""
    steps: tuple[int, ...] = (1, 2, 4, 8)
    """Steps of the horizon whose frames are compared, as far as rollouts have them."""


@METRICS.register("frechet")
class Frechet(Metric):
    """Not scored: whether it can be measured depends on what is installed, and frames that are right but elsewhere in
    the clip, or in another one, count as right."""

    infos = (FD, CHANGE)
    core = False
    Config = FrechetConfig
    config: FrechetConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(decoded=decoded_frames(rollouts))

    def measure(self, evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Rows]:
        try:
            network = EffNetLite0(EncoderConfig(), 0, EffNetOptions(stage="stride32", input=64))
            network.require_weights()
            network.network(torch.device("cpu"))
        except (MissingWeights, MissingLibrary) as why:
            raise NotAvailable(str(why)) from None
        views = evaluation.corpus.views

        def features(frames: Tensor) -> Tensor:
            """(N, T, H, V W, 3) -> (N, T, D): averaged over the image, views one after the other."""
            found = in_parts(network.encode, 8, evaluation.compute, apart(frames, views)).mean((2, 3))
            return rearrange(found, "(N V) T c -> N T (V c)", V=views)

        steps = [k for k in self.config.steps if k <= rollouts.future]
        for part in shown(evaluation, rollouts):
            yield from self._rows(evaluation, part, steps, features)

    def _rows(
        self, evaluation: Evaluation, part: Shown, steps: list[int], features: Callable[[Tensor], Tensor]
    ) -> Iterator[Rows]:
        chosen = [0, *steps]
        true = self._projected(features(part.true[:, chosen]))
        value, ceiling = (self._projected(features(part.seen[role][:, chosen])) for role in ROLES)
        seen: dict[Role, Tensor] = {"value": value, "floor": value[:, :1].expand_as(true), "ceiling": ceiling}
        k, dim = np.array(steps)[:, None], np.array([f"direction {i + 1}" for i in range(self.config.directions)])
        for role, found in seen.items():
            sides = [(x[:, 1:], x[:, 1:] - x[:, :1]) for x in (found, true)]
            for info, values, target in zip((FD, CHANGE), *sides, strict=True):
                yield evaluation.rows(info, part.windows, values, k=k, dim=dim, role=role, target=target)

    def _projected(self, features: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, directions)."""
        directions = torch.randn(
            features.shape[-1], self.config.directions, generator=generator(0, "directions of features")
        )
        return features @ (directions / directions.norm(dim=0))
