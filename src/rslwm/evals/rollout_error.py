"""Drift of rollouts in latent space, per horizon step: cheap, and it tracks planning (RoboJEPA, arXiv 2610.10515)."""

from __future__ import annotations

from collections.abc import Iterator

from rslwm.evals.base import METRICS, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation
from rslwm.types import MetricRow

ROLLOUT_ERROR = MetricInfo(
    name="rollout_error",
    axis="representation",
    higher_is_better=False,
    unit="x copy-last",
    aggregate="ratio",
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

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        rollouts = evaluation.main
        error = (rollouts.generated - rollouts.true).square().mean((2, 3, 4))
        copied = (rollouts.context[:, -1:] - rollouts.true).square().mean((2, 3, 4))
        for window, values, targets in zip(rollouts.windows, error.tolist(), copied.tolist(), strict=True):
            for k, (value, target) in enumerate(zip(values, targets, strict=True), start=1):
                yield evaluation.row(ROLLOUT_ERROR, window, value, target=target, k=k)
