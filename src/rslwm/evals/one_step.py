"""Does the world model use the action? One-step latent error with true actions, beside shuffled ones and copying."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rslwm.config import SamplingConfig
from rslwm.evals.base import METRICS, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation, others
from rslwm.types import MetricRow

ONE_STEP = MetricInfo(
    name="one_step_error",
    axis="representation",
    higher_is_better=False,
    unit="x copy-last",
    aggregate="ratio",
    floor="copy the last frame's latents",
    ceiling="the true latents",
    description="Squared error of the mean prediction one frame ahead, relative to copying the last frame. Noise in "
    "the latents makes copying look bad, so this ranks world models of one space, not spaces.",
    scored=False,
    floor_value=1.0,
    ceiling_value=0.0,
)
ACTION_EFFECT = MetricInfo(
    name="action_effect",
    axis="planning",
    higher_is_better=False,
    unit="x shuffled",
    aggregate="ratio",
    floor="actions of other windows",
    ceiling="the true latents",
    description="One-step error with the true actions relative to the same with another window's actions.",
    floor_value=1.0,
    ceiling_value=0.0,
)
DRAWS = 4
"""Noise draws averaged for the mean prediction."""


def prediction(evaluation: Evaluation, context: Tensor, actions: Tensor) -> Tensor:
    """The model's mean one frame ahead, (N, h, w, C).

    From pure noise the optimal velocity is noise minus the conditional mean, so a single Euler step lands on the mean:
    the right prediction to score by squared error, where a sample would pay for its own variance.
    """
    mean = SamplingConfig(steps=1)
    parts = [evaluation.generate(context, actions, f"one step {draw}", mean) for draw in range(DRAWS)]
    return torch.stack(parts).mean(0)[:, 0]


@METRICS.register("one_step")
class OneStep(Metric):
    infos = (ONE_STEP, ACTION_EFFECT)

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        history = evaluation.world_model.config.dit.max_frames - 1
        windows = evaluation.windows(history + 1, evaluation.config.one_step_windows, "one step")
        batch = evaluation.clips(history + 1).batch(windows)
        x = batch.x.float()
        context, true = x[:, :history], x[:, history]

        def error(guess: Tensor) -> list[float]:
            return (guess - true).square().mean((1, 2, 3)).tolist()

        shuffled = batch.actions.clone()  # only the action under test
        shuffled[:, -1] = batch.actions[others(windows, evaluation.config.seed), -1]
        errors = error(prediction(evaluation, context, batch.actions))
        baselines = zip(
            windows,
            errors,
            error(context[:, -1]),
            error(prediction(evaluation, context, shuffled)),
            strict=True,
        )
        for window, value, copied, misled in baselines:
            yield evaluation.row(ONE_STEP, window, value, target=copied, k=1)
            yield evaluation.row(ACTION_EFFECT, window, value, target=misled, k=1)
