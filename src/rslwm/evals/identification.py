"""Does the world model use the action? Whether what happened tells the action that was taken from others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rslwm.compute import autocast, device, generator
from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation, strangers
from rslwm.evals.one_step import MEAN, next_frames
from rslwm.plan.base import imagination
from rslwm.types import MetricRow

IDENTIFICATION = MetricInfo(
    name="action_identification",
    axis="planning",
    higher_is_better=True,
    unit="of pairs",
    aggregate="mean",
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
    aggregate="ratio",
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


@METRICS.register("action_identification")
class Identification(Metric):
    """Forced choices between two actions rather than one among all eight: on two trained spaces the share of pairs was
    19 and 11 standard errors above chance, how often the true action comes first 7 and 6. More noise draws didn't help.
    """

    infos = (IDENTIFICATION, ACTION_EFFECT)

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        windows, x, actions = next_frames(evaluation)
        taken = actions[:, -1]
        others = taken[strangers(windows, evaluation.config.other_actions, evaluation.config.seed)]
        telling = different(taken, others)
        if not telling.any():
            raise NotAvailable("all held-out actions are alike: there is nothing to tell the true one from")
        errors = errors_under(evaluation, x, actions[:, :-1], torch.cat([taken[:, None], others], 1))
        true, other = errors[:, :1], errors[:, 1:]
        wins = (other > true).float() + (other == true).float() / 2
        for window, error, misled, won, counts in zip(windows, true[:, 0], other, wins, telling, strict=True):
            if counts.any():
                yield evaluation.row(IDENTIFICATION, window, won[counts].mean().item(), k=1)
                yield evaluation.row(ACTION_EFFECT, window, error.item(), target=misled[counts].mean().item(), k=1)


def different(taken: Tensor, others: Tensor) -> Tensor:
    """Which of the others (N, K, A) can be told from the action taken (N, A): (N, K) bool."""
    distance = (others - taken[:, None]).norm(dim=-1)
    return distance > ALIKE * (distance.median() if distance.numel() else 0)


def errors_under(evaluation: Evaluation, x: Tensor, past: Tensor, candidates: Tensor) -> Tensor:
    """Squared errors (N, K) of the last of the frames (N, T, h, w, C) as predicted under candidate actions (N, K, A).

    ``past`` (N, T-2, A) lie between the frames before. A window's candidates share its context and the noise.
    """
    where, config = device(evaluation.compute), replace(evaluation.config.plan, horizon=1, sampling=MEAN)
    g = generator(evaluation.config.seed, "action identification")
    parts = []
    with torch.no_grad(), autocast(evaluation.compute):
        groups = zip(*(t.to(where).split(AT_ONCE) for t in (x, past, candidates)), strict=True)
        for frames, before, actions in groups:
            context, goal = frames[:, :-1], frames[:, -1:]
            price = imagination(evaluation.world_model, context, before, goal, config, g)
            parts.append(price(actions[:, :, None]).float().cpu())
    return torch.cat(parts)
