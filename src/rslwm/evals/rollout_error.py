"""Drift of rollouts in latent space, per horizon step: cheap, and it tracks planning (RoboJEPA, arXiv 2610.10515)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rslwm.evals.aggregates import RATIO
from rslwm.evals.base import METRICS, ROLLOUTS, Metric, MetricInfo, Need
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import Rollouts
from rslwm.evals.rows import Rows

ROLLOUT_ERROR = MetricInfo(
    name="rollout_error",
    axis="representation",
    higher_is_better=False,
    unit="x copy-last",
    aggregate=RATIO,
    floor="copy the last context frame's latents",
    ceiling="the true latents",
    description="Squared error of sampled latents, relative to copying the last context frame. Noise in the latents "
    "makes copying look bad, so this ranks world models of one space, not spaces.",
    scored=False,
    floor_value=1.0,
    ceiling_value=0.0,
)


@METRICS.register("rollout_error")
class RolloutError(Metric):
    infos = (ROLLOUT_ERROR,)

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"rollouts": ROLLOUTS}

    def measure(self, evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Rows]:
        error = (rollouts.generated - rollouts.true).square().mean((2, 3, 4))
        copied = (rollouts.context[:, -1:] - rollouts.true).square().mean((2, 3, 4))
        steps = np.arange(1, rollouts.future + 1)
        yield evaluation.rows(ROLLOUT_ERROR, rollouts.windows, error, k=steps, target=copied)
