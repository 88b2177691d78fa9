"""Does the world model use the action? Whether what happened tells the action that was taken from others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rslwm.compute import autocast, device, generator
from rslwm.evals.aggregates import MEAN, RATIO
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.one_step import MEAN_PREDICTION, next_frames
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.evals.windows import strangers
from rslwm.plan.base import PlanConfig, imagination
from rslwm.serialisation import OPERATIONAL

IDENTIFICATION = MetricInfo(
    name="action_identification",
    axis="planning",
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
ACTION_EFFECT = MetricInfo(
    name="action_effect",
    axis="planning",
    higher_is_better=False,
    unit="x other actions",
    aggregate=RATIO,
    floor="actions of other episodes",
    ceiling="the true latents",
    description="One-step error under the true action relative to that under the others. What can't be predicted "
    "pushes it to 1, so this ranks world models of one space, not spaces.",
    scored=False,
    floor_value=1.0,
    ceiling_value=0.0,
)
ALIKE = 0.25
"""Actions that differ by less than this share of the median difference aren't told apart: nobody could."""
AT_ONCE = 64
"""Windows whose contexts are held at once; bounds the memory."""


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
        windows, x, actions = next_frames(evaluation, self.config.windows)
        taken = actions[:, -1]
        others = taken[strangers(windows, self.config.others, evaluation.seed)]
        telling = different(taken, others)
        if not telling.any():
            raise NotAvailable("all held-out actions are alike: there is nothing to tell the true one from")
        candidates = torch.cat([taken[:, None], others], 1)
        errors = errors_under(evaluation, x, actions[:, :-1], candidates, self.config.memory_mb)
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
    where, config = device(evaluation.compute), PlanConfig(sampling=MEAN_PREDICTION, memory_mb=memory_mb)
    g = generator(evaluation.seed, "action identification")
    parts = []
    with torch.no_grad(), autocast(evaluation.compute):
        groups = zip(*(t.to(where).split(AT_ONCE) for t in (x, past, candidates)), strict=True)
        for frames, before, actions in groups:
            context, goal = frames[:, :-1], frames[:, -1:]
            price = imagination(evaluation.world_model, context, before, goal, config, g)
            parts.append(price(actions[:, :, None]).float().cpu())
    return torch.cat(parts)
