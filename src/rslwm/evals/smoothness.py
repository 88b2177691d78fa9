"""How straight the ways of latents are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows

SMOOTHNESS = MetricInfo(
    name="smoothness",
    axis="representation",
    question="How straight are its ways?",
    rung=0,
    higher_is_better=True,
    unit="cosine",
    aggregate=MEAN,
    floor="noise of every frame's own: -0.5",
    floor_value=-0.5,
    ceiling="a straight line: 1",
    ceiling_value=1.0,
    description="Cosine of one change of the encoder's latents with the next one. A random walk has 0. Nobody knows "
    "which is right: the robot's own ways are bent, too.",
    scored=False,
)


@dataclass(frozen=True)
class SmoothnessConfig:
    """How straight the ways of latents are."""

    windows: int = 256
    """Held-out windows of three frames."""


@METRICS.register("smoothness")
class Smoothness(Metric):
    infos = (SMOOTHNESS,)
    core = False
    Config = SmoothnessConfig
    config: SmoothnessConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=3 * self.config.windows)

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        batch = evaluation.batch(3, self.config.windows, "smoothness")
        yield evaluation.rows(SMOOTHNESS, batch.windows, straightness(batch.x.float()))


def straightness(x: Tensor) -> Tensor:
    """Of (N, 3, ...) the cosine (N,) between the two changes; 0 where one of them is none."""
    first, second = torch.diff(x.flatten(2), dim=1).unbind(1)
    return F.cosine_similarity(first, second, dim=1)
