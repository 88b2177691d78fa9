"""How well is the future predicted? Squared error in latent space beside copying: of the model's mean one frame ahead,
and of sampled rollouts, whose drift is cheap to measure and tracks planning (RoboJEPA, arXiv 2610.10515)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from rslwm.data.clips import ClipBatch
from rslwm.evals.aggregates import RATIO
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import Rollouts, RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.model.sampler import SamplingConfig

ONE_STEP = MetricInfo(
    name="one_step_error",
    axis="representation",
    higher_is_better=False,
    unit="x copy-last",
    aggregate=RATIO,
    floor="copy the last frame's latents",
    ceiling="the true latents",
    description="Squared error of the mean prediction one frame ahead, relative to copying the last frame. Noise in "
    "the latents makes copying look bad, so this ranks world models of one space, not spaces.",
    scored=False,
    floor_value=1.0,
    ceiling_value=0.0,
)
ROLLOUT_ERROR = replace(
    ONE_STEP,
    name="rollout_error",
    floor="copy the last context frame's latents",
    description="Squared error of sampled latents, relative to copying the last context frame. Noise in the latents "
    "makes copying look bad, so this ranks world models of one space, not spaces.",
)
DRAWS = 4
"""Noise draws averaged for the mean prediction."""
MEAN_PREDICTION = SamplingConfig(steps=1)
"""From pure noise the optimal velocity is noise minus the conditional mean, so a single Euler step lands on the mean:
the right prediction to score by squared error, where a sample would pay for its own variance."""


@dataclass(frozen=True)
class OneStepConfig:
    """Squared error of the mean prediction one frame ahead."""

    windows: int = 512
    """Held-out windows that it is measured on."""


def next_frames(evaluation: Evaluation, count: int) -> ClipBatch:
    """At most ``count`` clips as long as the model can see, whose last frame is the one to predict."""
    return evaluation.batch(evaluation.world_model.config.dit.max_frames, count, "one step")


@METRICS.register("one_step")
class OneStep(Metric):
    infos = (ONE_STEP,)
    Config = OneStepConfig
    config: OneStepConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        windows = self.config.windows
        return Load(DRAWS * windows * generating(MEAN_PREDICTION, history, 1), read=windows * (history + 1))

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        batch = next_frames(evaluation, self.config.windows)
        x = batch.x.float()
        context, true = x[:, :-1], x[:, -1]
        drawn = [
            evaluation.generate(context, batch.actions, f"one step {draw}", MEAN_PREDICTION) for draw in range(DRAWS)
        ]
        guesses = torch.stack(drawn).mean(0)[:, 0], context[:, -1]
        errors, copied = ((guess - true).square().mean((1, 2, 3)) for guess in guesses)
        yield evaluation.rows(ONE_STEP, batch.windows, errors, k=1, target=copied)


@METRICS.register("rollout_error")
class RolloutError(Metric):
    infos = (ROLLOUT_ERROR,)

    def measure(self, evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Rows]:
        error = (rollouts.generated - rollouts.true).square().mean((2, 3, 4))
        copied = (rollouts.context[:, -1:] - rollouts.true).square().mean((2, 3, 4))
        steps = np.arange(1, rollouts.future + 1)
        yield evaluation.rows(ROLLOUT_ERROR, rollouts.windows, error, k=steps, target=copied)
