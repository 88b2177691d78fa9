"""How well is the next frame predicted? Squared error of the model's mean in latent space, beside copying."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rslwm.evals.aggregates import RATIO
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import RolloutsConfig, generating
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


def next_frames(evaluation: Evaluation, count: int) -> tuple[np.ndarray, Tensor, Tensor]:
    """At most ``count`` windows (N, 2) as long as the model can see, with latents (N, T, h, w, C), actions (N, T-1, A).

    The last frame is the one to predict, the last action the one that led to it.
    """
    frames = evaluation.world_model.config.dit.max_frames
    windows = evaluation.windows(frames, count, "one step")
    batch = evaluation.clips(frames).batch(windows)
    return windows, batch.x.float(), batch.actions


def prediction(evaluation: Evaluation, context: Tensor, actions: Tensor) -> Tensor:
    """The model's mean one frame ahead, (N, h, w, C)."""
    parts = [evaluation.generate(context, actions, f"one step {draw}", MEAN_PREDICTION) for draw in range(DRAWS)]
    return torch.stack(parts).mean(0)[:, 0]


@METRICS.register("one_step")
class OneStep(Metric):
    infos = (ONE_STEP,)
    Config = OneStepConfig
    config: OneStepConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        windows = self.config.windows
        passes = DRAWS * windows * generating(MEAN_PREDICTION, history, 1)
        return Load(passes=passes, read=windows * (history + 1))

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        windows, x, actions = next_frames(evaluation, self.config.windows)
        context, true = x[:, :-1], x[:, -1]
        guesses = prediction(evaluation, context, actions), context[:, -1]
        errors, copied = ((guess - true).square().mean((1, 2, 3)) for guess in guesses)
        yield evaluation.rows(ONE_STEP, windows, errors, k=1, target=copied)
