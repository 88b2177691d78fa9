"""What is predicted, in latent space: how far from what happened, beside copying, and does it take the action to be?

One frame ahead that is asked of the model's mean; of sampled rollouts only their drift, which is cheap to measure and
tracks planning (RoboJEPA, arXiv 2610.10515).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import generator
from rslwm.data.clips import ClipBatch
from rslwm.evals.aggregates import MEAN, RATIO
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation, in_parts
from rslwm.evals.rollouts import Rollouts, RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.evals.windows import strangers
from rslwm.model.sampler import SamplingConfig
from rslwm.plan.base import PlanConfig, imagination
from rslwm.serialisation import OPERATIONAL

ONE_STEP = MetricInfo(
    name="one_step_error",
    axis="representation",
    question="How well is the next frame predicted?",
    rung=2,
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
IDENTIFICATION = MetricInfo(
    name="action_identification",
    axis="planning",
    question="Does the action matter?",
    rung=4,
    higher_is_better=True,
    unit="of pairs",
    aggregate=MEAN,
    floor="chance: the action makes no difference",
    ceiling="what happened is always nearest to the prediction under the true action",
    description="How often the next frame is nearer to the prediction under the true action than to the one under an "
    "action of another episode (two-alternative forced choice, averaged over several other actions; a tie counts "
    "half). What no action explains lies in both distances: noise in the latents can only lower it.",
    floor_value=0.5,
    ceiling_value=1.0,
)
ACTION_EFFECT = replace(
    ONE_STEP,
    name="action_effect",
    axis="planning",
    question=IDENTIFICATION.question,
    rung=IDENTIFICATION.rung,
    unit="x other actions",
    floor="actions of other episodes",
    description="One-step error under the true action relative to that under the others. What can't be predicted "
    "pushes it to 1, so this ranks world models of one space, not spaces.",
)
ALIKE = 0.25
"""Actions that differ by less than this share of the median difference aren't told apart: nobody could."""
AT_ONCE = 64
"""Windows whose contexts are held at once; bounds the memory."""


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


@dataclass(frozen=True)
class IdentificationConfig:
    """Telling the action that was taken from others, by what the model predicts under each."""

    windows: int = 512
    """Held-out windows that it is measured on."""
    others: int = 7
    """Actions of other episodes that the true one is told from."""
    memory_mb: float = field(default=PlanConfig.memory_mb, metadata=OPERATIONAL)
    """Memory for imagined frames; more than fit are predicted in turn, which changes a result by rounding at most."""


@METRICS.register("action_identification")
class Identification(Metric):
    """Forced choices between two actions rather than one among all eight: on two trained spaces the share of pairs was
    19 and 11 standard errors above chance, how often the true action comes first 7 and 6. More noise draws didn't help.
    """

    infos = (IDENTIFICATION, ACTION_EFFECT)
    Config = IdentificationConfig
    config: IdentificationConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        told_apart = (1 + self.config.others) * generating(MEAN_PREDICTION, 0, 1)
        return Load(self.config.windows * (history + told_apart), read=self.config.windows * (history + 1))

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        batch = next_frames(evaluation, self.config.windows)
        windows, past, taken = batch.windows, batch.actions[:, :-1], batch.actions[:, -1]
        others = taken[strangers(windows, self.config.others, evaluation.seed)]
        telling = different(taken, others)
        if not telling.any():
            raise NotAvailable("all held-out actions are alike: there is nothing to tell the true one from")
        candidates = torch.cat([taken[:, None], others], 1)
        errors = errors_under(evaluation, batch.x.float(), past, candidates, self.config.memory_mb)
        true, other = errors[:, :1], errors[:, 1:]
        wins = (other > true).float() + (other == true).float() / 2
        counted = telling.any(1)
        won, misled = (
            torch.stack([row[counts].mean() for row, counts in zip(x, telling[counted], strict=True)])
            for x in (wins[counted], other[counted])
        )
        windows = windows[counted.numpy()]
        yield evaluation.rows(IDENTIFICATION, windows, won, k=1)
        yield evaluation.rows(ACTION_EFFECT, windows, true[counted, 0], k=1, target=misled)


def different(taken: Tensor, others: Tensor) -> Tensor:
    """Which of the others (N, K, A) can be told from the action taken (N, A): (N, K) bool."""
    distance = (others - taken[:, None]).norm(dim=-1)
    return distance > ALIKE * (distance.median() if distance.numel() else 0)


def errors_under(evaluation: Evaluation, x: Tensor, past: Tensor, candidates: Tensor, memory_mb: float) -> Tensor:
    """Squared errors (N, K) of the last of the frames (N, T, h, w, C) as predicted under candidate actions (N, K, A).

    ``past`` (N, T-2, A) lie between the frames before. A window's candidates share its context and the noise.
    """
    g = generator(evaluation.seed, "action identification")
    config = PlanConfig(sampling=MEAN_PREDICTION, memory_mb=memory_mb)

    def errors(frames: Tensor, before: Tensor, actions: Tensor) -> Tensor:
        price = imagination(evaluation.world_model, frames[:, :-1], before, frames[:, -1:], config, g)
        return price(actions[:, :, None])

    return in_parts(errors, AT_ONCE, evaluation.compute, x, past, candidates)
