"""One axis of a study: the scores of every space, their two sources of chance, and the decision.

A winner is named only where the best space beats *every* rival in a two-sided paired test at ``confidence``. Two
sources of chance are in every draw: which episodes were held out (the bootstrap), and which weights training happened
to end at. The second is measured where spaces were trained with several seeds; with one seed it is assumed, because a
bootstrap over episodes knows nothing about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from rslwm.config import VerdictConfig
from rslwm.serialisation import ConfigError
from rslwm.study.score import Score
from rslwm.study.stats import Difference, Resampling, difference, interval
from rslwm.types import AXES

OVERALL = "overall"
MIN_UNITS = 5
"""With fewer held-out episodes a bootstrap isn't trusted with a decision."""
POWER = 0.8
"""Probability of a decision at the sample sizes that an undecided verdict asks for."""
REACH = 100
"""More than this many times the present episodes, or this many seeds, isn't advice any more."""


@dataclass(frozen=True)
class Standing:
    """One space on one axis: score with interval, and the share of draws in which it is the best."""

    latent: str
    family: str
    score: float
    low: float
    high: float
    best: float


@dataclass(frozen=True)
class Needed:
    """What would decide with 80 % power if the difference is what it looks like; None if even REACH times the episodes
    and REACH seeds wouldn't."""

    units: int | None
    seeds: int | None


@dataclass(frozen=True)
class AxisVerdict:
    """The decision on one axis; ``winner`` is empty where ``contenders`` (the unbeaten, leader first) are several.

    ``standings`` are best first, ``lead`` is the first over the second, ``reason`` the metric with the largest part in
    that, ``units`` the fewest episodes behind a scored metric, ``contrast`` semantic minus reconstruction.
    """

    axis: str
    standings: tuple[Standing, ...]
    winner: str
    contenders: tuple[str, ...]
    lead: Difference | None
    reason: str
    units: int
    needed: Needed | None
    training_sd: float
    contrast: Difference | None


@dataclass(frozen=True)
class AxisScores:
    """Scores of one axis before the decision.

    ``estimates`` (N + 1, L) hold the chance of episodes, ``draws`` also that of training; ``trainings`` (L,) counts
    seeds, and ``training_sd`` is the standard deviation of a score from one training of a space to the next.
    """

    scores: list[Score]
    estimates: np.ndarray
    draws: np.ndarray
    training_sd: float
    trainings: np.ndarray
    units: int


def axis_scores(scores: Sequence[Score], resampling: Resampling, config: VerdictConfig) -> dict[str, AxisScores]:
    """The axes that have a scored metric and, if all three have, their mean as ``overall``.

    Raises:
        ConfigError: ``training_sd`` lacks an axis.
    """
    members: dict[str, list[Score]] = {axis: [s for s in scores if s.info.axis == axis] for axis in AXES}
    members = {axis: found for axis, found in members.items() if found}
    estimates = {axis: np.mean([s.spaces for s in found], 0) for axis, found in members.items()}
    by_training = {axis: np.mean([s.trainings for s in found], 0) for axis, found in members.items()}
    assumed = dict(config.training_sd)
    if unknown := set(AXES) - set(assumed):
        raise ConfigError(f"verdict.training_sd: {min(unknown)!r} is missing; give each of {', '.join(AXES)} a number")
    if len(members) == len(AXES):
        estimates[OVERALL] = np.mean([estimates[axis] for axis in AXES], 0)
        by_training[OVERALL] = np.mean([by_training[axis] for axis in AXES], 0)
        # One training serves all three axes, so its luck is taken to be common to them: spreads add up unreduced.
        assumed[OVERALL] = float(np.mean([assumed[axis] for axis in AXES]))
        members[OVERALL] = list(scores)
    rng = np.random.default_rng([config.seed, 1])
    luck = rng.standard_normal((config.resamples, len(resampling.spaces)))
    result = {}
    for axis, found in members.items():
        counts = np.isfinite(by_training[axis]).sum(1)
        sd, spread = _training_spread(by_training[axis], assumed[axis], config.resamples, rng)
        draws = estimates[axis].copy()
        draws[1:] += spread[:, None] * luck / np.sqrt(counts)
        result[axis] = AxisScores(found, estimates[axis], draws, sd, counts, min(s.units for s in found))
    return result


def _training_spread(
    by_training: np.ndarray, assumed: float, draws: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Standard deviation of a score between trainings, and its draws (N,): pooled over the spaces' seeds, or assumed.

    A pooled variance with f degrees of freedom is itself uncertain: each draw takes s^2 f / chi^2(f), which makes the
    effect of training Student-t. ``by_training`` is (L, S), NaN where a space has fewer seeds.
    """
    freedom = degrees_of_freedom(np.isfinite(by_training).sum(1))
    if not freedom:
        return assumed, np.full(draws, assumed)
    squares = np.nansum((by_training - np.nanmean(by_training, 1, keepdims=True)) ** 2)
    return math.sqrt(squares / freedom), np.sqrt(squares / rng.chisquare(freedom, draws))


def degrees_of_freedom(trainings: np.ndarray) -> int:
    """Of a variance pooled over spaces that were trained so often; 0 means that it can't be measured."""
    return int((trainings - 1).sum())


def judge(name: str, axis: AxisScores, resampling: Resampling, families: tuple[str, ...]) -> AxisVerdict:
    """Name the winner of an axis, or the spaces that can't be told from the best and what would tell them apart."""
    spaces, confidence = resampling.spaces, resampling.confidence
    low, high = interval(axis.draws, confidence)
    top = axis.draws[1:] == axis.draws[1:].max(1, keepdims=True)
    best = (top / top.sum(1, keepdims=True)).mean(0)
    order = np.argsort(-axis.estimates[0], kind="stable").tolist()
    leader, rivals = order[0], order[1:]
    leads = {i: difference(axis.draws[:, leader], axis.draws[:, i], confidence) for i in rivals}
    enough = axis.units >= MIN_UNITS
    unbeaten = [i for i, lead in leads.items() if lead.p > 1 - confidence or not enough]
    needs = [_needed(axis, leader, i, confidence) for i in unbeaten] if enough else []
    columns = axis.estimates[0], low, high, best
    return AxisVerdict(
        axis=name,
        standings=tuple(Standing(spaces[i], families[i], *(float(c[i]) for c in columns)) for i in order),
        winner=spaces[leader] if rivals and not unbeaten else "",
        contenders=tuple(spaces[i] for i in (leader, *unbeaten)),
        lead=leads[rivals[0]] if rivals else None,
        reason=_reason(axis, leader, rivals[0]) if rivals else "",
        units=axis.units,
        needed=_most(needs) if needs else None,
        training_sd=axis.training_sd,
        contrast=_contrast(axis.draws, families, confidence),
    )


def _reason(axis: AxisScores, leader: int, runner_up: int) -> str:
    """The metric that contributes most to the lead over the runner-up."""
    shares = [(float(s.spaces[0, leader] - s.spaces[0, runner_up]), s.info.name) for s in axis.scores]
    return max(shares)[1] if len(shares) > 1 else ""


def _contrast(draws: np.ndarray, families: tuple[str, ...], confidence: float) -> Difference | None:
    """Mean of the semantic minus mean of the reconstruction spaces, paired (paper Table 12)."""
    semantic, reconstruction = (np.array([f == which for f in families]) for which in ("semantic", "reconstruction"))
    if not semantic.any() or not reconstruction.any():
        return None
    return difference(draws[:, semantic].mean(1), draws[:, reconstruction].mean(1), confidence)


def _needed(axis: AxisScores, leader: int, rival: int, confidence: float) -> Needed:
    """Episodes, and where these can't be enough seeds, that would decide between two spaces with 80 % power.

    The variance of their difference, episodes / n + training / seeds, has to fit into the budget (difference / z)^2.
    """
    gap = float(axis.estimates[0, leader] - axis.estimates[0, rival])
    seeds = int(axis.trainings[[leader, rival]].min())
    episodes = axis.units * float(np.var(axis.estimates[1:, leader] - axis.estimates[1:, rival]))
    training = 2 * axis.training_sd**2
    z = distributions.norm.ppf(0.5 + confidence / 2) + distributions.norm.ppf(POWER)
    budget = (gap / z) ** 2
    least = episodes / (REACH * axis.units)
    if least + training / REACH >= budget:
        return Needed(None, None)
    if least + training / seeds > budget:
        # Seeds bring training noise down to what the present episodes leave, or to half where these leave less.
        share = min(max(budget / 2, budget - episodes / axis.units), budget - least)
        seeds = min(REACH, math.ceil(training / share))
    return Needed(max(axis.units, math.ceil(episodes / (budget - training / seeds))), seeds)


def _most(needs: Sequence[Needed]) -> Needed:
    if any(n.units is None for n in needs):
        return Needed(None, None)
    return Needed(max(n.units or 0 for n in needs), max(n.seeds or 0 for n in needs))
