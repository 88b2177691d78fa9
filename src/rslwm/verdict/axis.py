"""One axis of a study: the scores of every space, their two sources of chance, and the decision.

Two sources of chance are in every draw: which episodes were held out (the bootstrap), and which weights training
happened to end at. The second is measured where spaces were trained with several seeds. With one seed it can be taken
from a record of the same configuration; then spaces can be ruled out, but no winner is named. Without a record nothing
is ruled out, because a bootstrap over episodes knows nothing about the next training.

A winner beats *every* rival in a two-sided paired test at ``confidence``. A space is ruled out at the same confidence
for all pairs of spaces together, so that of many equal ones the worst isn't ruled out for being the worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import scipy

from rslwm.types import AXES
from rslwm.verdict.bootstrap import TIE, Difference, Resampling, difference, interval
from rslwm.verdict.combination import Member, Part, combine, deviations, freedom

Origin = Literal["measured", "record", "unknown"]

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
class Noise:
    """Of training: standard deviation of the axis's score from one training of a space to the next (None where it is
    unknown), from so many degrees of freedom: of this study, or of a record."""

    origin: Origin
    sd: float | None
    freedom: int


@dataclass(frozen=True)
class AxisVerdict:
    """The decision on one axis.

    ``winner`` is empty unless one space beats every other and training noise was measured in the study; ``contenders``
    are those that aren't ruled out, the leader first. ``standings`` are best first, ``lead`` is the first over the
    second, ``reason`` the part with the most of that lead, ``units`` the fewest episodes behind a scored metric,
    ``parts`` what the axis is made of, ``contrast`` these semantic minus these reconstruction spaces. ``without`` has
    the order of the spaces, the best first, if any one metric weren't measured.
    """

    axis: str
    standings: tuple[Standing, ...]
    winner: str
    contenders: tuple[str, ...]
    lead: Difference | None
    reason: str
    units: int
    needed: Needed | None
    noise: Noise
    parts: tuple[Part, ...]
    contrast: Difference | None
    without: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class AxisScores:
    """Scores of one axis before the decision.

    ``estimates`` (N + 1, L) hold the chance of episodes, ``draws`` also that of training as far as it is known;
    ``trainings`` (L,) counts seeds; ``leads`` (M, L) are the scores of the members, weighted; ``without`` (L,) are the
    scores if a member weren't there.
    """

    estimates: np.ndarray
    draws: np.ndarray
    noise: Noise
    trainings: np.ndarray
    units: int
    parts: tuple[Part, ...] = ()
    leads: np.ndarray | None = None
    without: dict[str, np.ndarray] = field(default_factory=dict)


def axis_scores(scored: Mapping[str, Sequence[Member]], resampling: Resampling, seed: int) -> dict[str, AxisScores]:
    """The axes that have a scored metric and, if all three have, their combination as ``overall``.

    ``scored`` holds the metrics' scores by axis; ``seed`` is that of the luck of trainings.
    """
    members: dict[str, Sequence[Member]] = {axis: scored[axis] for axis in AXES if axis in scored}
    draws = len(resampling.weights) - 1
    combined = {axis: combine(axis, found) for axis, found in members.items()}
    if len(members) == len(AXES):
        members[OVERALL] = [whole for whole, _ in combined.values()]
        combined[OVERALL] = combine(OVERALL, members[OVERALL], alike=True)
    rng = np.random.default_rng([seed, 1])
    # One training serves all three axes: its luck, where it isn't told apart, is taken to be common to them.
    luck = rng.standard_normal((draws, len(resampling.spaces)))
    luck = luck[:, np.argsort(np.argsort(resampling.spaces))]  # by name, so that the order of a study changes nothing
    result = {}
    for axis, (whole, parts) in combined.items():
        counts = np.isfinite(whole.trainings).sum(1)
        noise, spread = _training_spread(whole, draws, rng)
        drawn = whole.estimates.copy()
        drawn[1:] += spread[:, None] * luck / np.sqrt(counts.clip(1))
        weighted = np.array([p.weight * m.estimates[0] for p, m in zip(parts, members[axis], strict=True)])
        without = _without(axis, members[axis])
        result[axis] = AxisScores(whole.estimates, drawn, noise, counts, whole.units, parts, weighted, without)
    return result


def _without(axis: str, members: Sequence[Member]) -> dict[str, np.ndarray]:
    """Scores (L,) of the axis by the metric that was left out; the overall score is made of axes, not of metrics."""
    if axis == OVERALL or len(members) < 2:
        return {}
    return {left.name: combine(axis, [m for m in members if m is not left])[0].estimates[0] for left in members}


def _training_spread(axis: Member, draws: int, rng: np.random.Generator) -> tuple[Noise, np.ndarray]:
    """Training noise of a score and its draws (N,), pooled over the spaces' seeds, here or elsewhere; 0 if unknown.

    A pooled variance with f degrees of freedom is itself uncertain: each draw takes s^2 f / chi^2(f), which makes the
    effect of training Student-t.
    """
    here, there = (0 if found is None else freedom(found) for found in (axis.trainings, axis.elsewhere))
    degrees = here or there
    if not degrees:
        return Noise("unknown", None, 0), np.zeros(draws)
    trainings = axis.trainings if here else axis.elsewhere
    assert trainings is not None
    squares = float(np.nansum(deviations(trainings) ** 2))
    noise = Noise("measured" if here else "record", math.sqrt(squares / degrees), degrees)
    return noise, np.sqrt(squares / rng.chisquare(degrees, draws))


def judge(name: str, axis: AxisScores, resampling: Resampling, families: tuple[str, ...]) -> AxisVerdict:
    """Name the winner of an axis, or the spaces that can't be told from the best and what would tell them apart."""
    spaces, confidence = resampling.spaces, resampling.confidence
    low, high = interval(axis.draws, confidence)
    top = axis.draws[1:] >= axis.draws[1:].max(1, keepdims=True) - TIE
    best = (top / top.sum(1, keepdims=True)).mean(0)
    order = ranking(axis.estimates[0])
    leader, rivals = order[0], order[1:]
    leads = {i: difference(axis.draws[:, leader], axis.draws[:, i], confidence) for i in rivals}
    enough = axis.units >= MIN_UNITS
    unbeaten = [i for i, lead in leads.items() if lead.p > 1 - confidence or not enough]
    won = bool(rivals) and not unbeaten and axis.noise.origin == "measured"
    known = enough and axis.noise.origin != "unknown"
    together = simultaneous(axis.draws, leader, confidence)
    left = [i for i in rivals if not won and not (known and i not in unbeaten and together[i] <= 1 - confidence)]
    needs = [_needed(axis, leader, i, confidence) for i in unbeaten or rivals] if known and not won else []
    columns = axis.estimates[0], low, high, best
    return AxisVerdict(
        axis=name,
        standings=tuple(Standing(spaces[i], families[i], *(float(c[i]) for c in columns)) for i in order),
        winner=spaces[leader] if won else "",
        contenders=tuple(spaces[i] for i in (leader, *left)),
        lead=leads[rivals[0]] if rivals else None,
        reason=_reason(axis, leader, rivals[0]) if rivals else "",
        units=axis.units,
        needed=_most(needs) if needs else None,
        noise=axis.noise,
        parts=axis.parts,
        contrast=_contrast(axis.draws, families, confidence),
        without={left: tuple(spaces[i] for i in ranking(scores)) for left, scores in axis.without.items()},
    )


def ranking(scores: np.ndarray) -> list[int]:
    """Places of the spaces by score (L,), the best first; ties in the order of the study."""
    return np.argsort(-(scores / TIE).round(), kind="stable").tolist()


def simultaneous(draws: np.ndarray, leader: int, confidence: float) -> np.ndarray:
    """p (L,) of the leader against each space, valid for all pairs of spaces together.

    It is the share of draws in which *any* pair strays from its difference in the sample as far as the leader is ahead
    here, each pair in units of its own ``confidence`` interval: no pair is more special than another.
    """
    spaces = draws.shape[1]
    pairs = np.array(list(combinations(range(spaces), 2)), int).reshape(-1, 2)
    p = np.ones(spaces)
    if not len(pairs):
        return p
    delta = draws[:, pairs[:, 0]] - draws[:, pairs[:, 1]]
    stray = np.abs(delta[1:] - delta[0])
    width = np.maximum(np.quantile(stray, confidence, axis=0), 1e-12)
    farthest = (stray / width).max(1)
    for (a, b), ahead in zip(pairs.tolist(), np.abs(delta[0]) / width, strict=True):
        if leader in (a, b):
            p[a + b - leader] = ((farthest >= ahead).sum() + 1) / len(draws)
    return p


def _reason(axis: AxisScores, leader: int, runner_up: int) -> str:
    """The part that contributes most to the lead over the runner-up."""
    if axis.leads is None or len(axis.leads) < 2:
        return ""
    return axis.parts[int((axis.leads[:, leader] - axis.leads[:, runner_up]).argmax())].name


def _contrast(draws: np.ndarray, families: tuple[str, ...], confidence: float) -> Difference | None:
    """Mean of these semantic minus mean of these reconstruction spaces, paired (paper Table 12)."""
    semantic, reconstruction = (np.array([f == which for f in families]) for which in ("semantic", "reconstruction"))
    if not semantic.any() or not reconstruction.any():
        return None
    return difference(draws[:, semantic].mean(1), draws[:, reconstruction].mean(1), confidence)


def _needed(axis: AxisScores, leader: int, rival: int, confidence: float) -> Needed:
    """Episodes, and where these can't be enough seeds, that would decide between two spaces with 80 % power.

    The variance of their difference, episodes / n + training / seeds, has to fit into the budget (difference / z)^2.
    """
    gap = float(axis.estimates[0, leader] - axis.estimates[0, rival])
    least_seeds = 1 if axis.noise.origin == "measured" else 2  # a winner takes several trainings
    seeds = max(least_seeds, int(axis.trainings[[leader, rival]].min()))
    episodes = axis.units * float(np.var(axis.estimates[1:, leader] - axis.estimates[1:, rival]))
    assert axis.noise.sd is not None
    training = 2 * axis.noise.sd**2
    z = scipy.stats.norm.ppf(0.5 + confidence / 2) + scipy.stats.norm.ppf(POWER)
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
