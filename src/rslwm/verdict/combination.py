"""How several questions become one score: weights by precision, of which none can drown the others.

A score is divided by its metric's room, so a metric with little room between floor and ceiling has large scores *and*
large noise, and a plain mean would be that metric and nothing else. Here each member of a combination is weighted by
one over the noise of its differences between spaces. Only noise decides about weights, never which space is ahead or
how far the spaces lie apart: weights that shrank with that distance would punish a metric for telling spaces apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rslwm.evals.base import EPISODES
from rslwm.verdict.bootstrap import mean_over_seeds

MOST = 0.5
"""Of a combination's noise, what one member may carry."""
BELIEVED = 10.0
"""A member counts as at most so many times more precise than the middle one: a bootstrap sees no chance in what every
held-out episode happened to show, such as an AUC of 1."""

PRIOR = 10
"""Degrees of freedom that the guess about training noise is worth, see :func:`_trainings`."""


@dataclass(frozen=True)
class Member:
    """What has a score on every space: a metric, a question that several ask, or an axis made of them.

    ``estimates`` (N + 1, L) hold the chance of episodes only; ``trainings`` (L, S) are the scores of single trainings
    in this study, NaN where a space has fewer; ``elsewhere`` those on record of another study, or None. There are so
    many ``units`` of what it ``counts``. Metrics of one ``question`` count together; one that states none is a question
    of its own.
    """

    name: str
    estimates: np.ndarray
    trainings: np.ndarray
    elsewhere: np.ndarray | None
    units: int
    question: str = ""
    counts: str = EPISODES


@dataclass(frozen=True)
class Part:
    """What a member is to its axis. ``share`` is its part of the variance by chance (of episodes and trainings) of the
    axis's differences between spaces, ``spread`` its part of the variance between the spaces themselves."""

    name: str
    weight: float
    share: float
    spread: float
    question: str = ""


def combine(name: str, members: Sequence[Member], alike: bool = False) -> tuple[Member, tuple[Part, ...]]:
    """The weighted mean of the questions that the members ask, each the weighted mean of its members; and what each
    member is to it.

    ``alike``: the members count the same by what they mean, not by their precision, as long as none carries more than
    half of the noise.
    """
    groups: dict[str, list[int]] = {}
    for place, member in enumerate(members):
        groups.setdefault(member.question or member.name, []).append(place)
    within = [[members[i] for i in places] for places in groups.values()]
    shares = [_weighed(asking, alike)[0] for asking in within]
    questions = [_mean("", asking, share) for asking, share in zip(within, shares, strict=True)]
    weights = np.zeros(len(members))
    for places, share, weight in zip(groups.values(), shares, _weighed(questions, alike)[0], strict=True):
        weights[places] = weight * share
    _, noise, spread = _weighed(members, alike)
    numbers = zip(members, weights, _shares(weights, noise), _shares(weights, spread), strict=True)
    parts = tuple(Part(m.name, float(w), float(share), float(apart), m.question) for m, w, share, apart in numbers)
    return _mean(name, members, weights), parts


def _weighed(members: Sequence[Member], alike: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (M,) of members that ask something else each, the noise (M, M) that is believed of them, and how far
    apart they put the spaces: :func:`weigh` and the covariance (M, M) of their scores."""
    spread = np.atleast_2d(np.cov(_centred(np.stack([m.estimates[0] for m in members])), bias=True))
    return *weigh(_noise(members), np.diag(spread) > 1e-18, alike), spread


def _mean(name: str, members: Sequence[Member], weights: np.ndarray) -> Member:
    elsewhere = [m.elsewhere for m in members if m.elsewhere is not None]
    counts = EPISODES if any(m.counts == EPISODES for m in members) else members[0].counts
    return Member(
        name=name,
        estimates=np.tensordot(weights, [m.estimates for m in members], 1),
        trainings=np.tensordot(weights, [m.trainings for m in members], 1),
        elsewhere=np.tensordot(weights, elsewhere, 1) if len(elsewhere) == len(members) else None,
        units=min(m.units for m in members if m.counts == counts),
        counts=counts,
    )


def _noise(members: Sequence[Member]) -> np.ndarray:
    """Covariance by chance (M, M) of the members' differences between spaces."""
    noise = _episodes(np.stack([m.estimates for m in members]))
    trainings = np.stack([m.trainings for m in members])
    borrowed = [m.elsewhere for m in members if m.elsewhere is not None]
    elsewhere = np.stack(borrowed) if len(borrowed) == len(members) else None
    known = trainings if freedom(trainings.sum(0)) else elsewhere
    if known is not None:
        counts = np.isfinite(trainings.sum(0)).sum(1)
        noise = noise + _trainings(known, noise) * np.mean(1 / np.maximum(counts, 1))
    return noise


def freedom(trainings: np.ndarray) -> int:
    """Degrees of freedom of a variance between trainings (L, S), pooled over spaces; 0: it can't be measured."""
    return int((np.isfinite(trainings).sum(1) - 1).clip(0).sum())


def deviations(trainings: np.ndarray) -> np.ndarray:
    """Trainings (..., S) about the mean of their space; NaN where there are none."""
    return trainings - mean_over_seeds(trainings, -1)[..., None]


def weigh(noise: np.ndarray, apart: np.ndarray, alike: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Weights (M,), of sum 1, from the members' covariance by chance (M, M); and that covariance as it is believed.

    One over the standard deviation, and over the number of members that say the same (the sum of squared correlations:
    of two copies each gets half), then lowered where a member carries more than half of the combination's variance.
    ``apart`` says which members differ between spaces; one that does neither that nor vary has no weight.
    """
    sd = np.sqrt(np.diag(noise))
    sd = np.where(sd > 1e-9, sd, 0.0)
    says = (sd > 0) | apart if ((sd > 0) | apart).any() else np.ones(len(sd), bool)
    typical = np.median(sd[sd > 0]) if (sd > 0).any() else 1.0
    believed = np.maximum(sd, typical / BELIEVED)
    correlation = noise / np.outer(believed, believed)
    np.fill_diagonal(correlation, 1.0)
    copies = (correlation[:, says] ** 2).sum(1).clip(1.0)
    weights = says.astype(float) if alike else says / believed / copies
    noise = correlation * np.outer(believed, believed)
    return _capped(weights / weights.sum(), noise), noise


def _capped(weights: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Lower the weight of whatever carries more than :data:`MOST`, until its own variance is that of the rest."""
    for _ in range(100):
        leader = int(_shares(weights, noise).argmax())
        rest = np.where(np.arange(len(weights)) == leader, 0.0, weights)
        others = rest @ noise @ rest
        if _shares(weights, noise)[leader] <= MOST + 1e-9 or others <= 1e-9 * (rest**2 @ np.diag(noise)):
            return weights
        weights = rest + (weights - rest > 0) * np.sqrt(others / noise[leader, leader])
        weights /= weights.sum()
    return weights


def _shares(weights: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """w_m cov(m, combination) / var(combination), of sum 1; zero where nothing is left of the variance."""
    parts = weights * (covariance @ weights)
    total = parts.sum()
    return parts / total if total > 1e-9 * (weights**2 @ np.diag(covariance)) else np.zeros(len(parts))


def _centred(scores: np.ndarray) -> np.ndarray:
    """(..., L) about the mean of the spaces, since only differences between spaces decide; a single space as it is."""
    return scores - scores.mean(-1, keepdims=True) if scores.shape[-1] > 1 else scores


def _episodes(estimates: np.ndarray) -> np.ndarray:
    """Covariance (M, M) of the scores' differences between spaces over the draws, as that of a single space."""
    draws = _centred(estimates[:, 1:])
    draws = draws - draws.mean(1, keepdims=True)
    spaces = draws.shape[-1]
    return np.einsum("mnl,knl->mk", draws, draws) / (draws.shape[1] * max(spaces - 1, 1))


def _trainings(trainings: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Covariance (M, M) from one training to the next, pooled over spaces; trainings are (M, L, S).

    A handful of trainings tells little, and weights that followed them would choose the metrics in which they happened
    to agree, which is no noise less. So the estimate is drawn towards the covariance by episodes, at the size that fits
    the trainings best, as if that had been seen in :data:`PRIOR` of them.
    """
    complete = np.where(np.isfinite(trainings).all(0), trainings, np.nan)
    degrees = freedom(complete[0])
    found = np.nan_to_num(deviations(complete)).reshape(len(trainings), -1)
    squares, varies = found @ found.T, np.diag(episodes) > 1e-18
    ratio = np.mean(np.diag(squares)[varies] / np.diag(episodes)[varies]) / max(degrees, 1) if varies.any() else 0.0
    return (squares + PRIOR * ratio * episodes) / max(degrees + PRIOR, 1)
