"""How rows become one number, under any weighting of the episodes.

An aggregate is written as a function of per-unit sums, so that a bootstrap of thousands of draws is a matrix product:
the sums of a resample are ``weights (N, U) @ sums (U, ...)``, where a weight counts how often a unit was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rslwm.registry import Registry

THRESHOLD = 0.5
"""A score from here on counts as a predicted success in the balanced accuracy."""
CHUNK = 2**22
"""Numbers that one intermediate array of a chunk of draws may hold (32 MB)."""
UNBOUNDED = (-np.inf, np.inf)


@dataclass(frozen=True)
class Aggregate:
    """A way to make one number of rows. ``name`` is what a run's description calls it: an entry of :data:`AGGREGATES`,
    or path/to/file.py:NAME for one of your own. It lies within ``bounds``; ``compares`` says that it needs targets."""

    name: str
    bounds: tuple[float, float] = UNBOUNDED
    compares: bool = True

    def evaluate(
        self, value: np.ndarray, target: np.ndarray, group: np.ndarray, unit: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Aggregate rows by group, under every row of ``weights``.

        Args:
            value, target: (rows,) measurements, or predictions and what they are compared with.
            group: (rows,) integers in [0, G); unit: (rows,) integers in [0, U).
            weights: (N, U) multiplicities; equal to repeating a unit's rows that many times.

        Returns:
            (N, G); NaN where the aggregate is undefined, for instance a correlation with a constant target. A constant
            *prediction* of a target that varies has correlation 0: it knows nothing.
        """
        raise NotImplementedError


AGGREGATES: Registry[Aggregate] = Registry("aggregate", "rslwm.aggregates")


@dataclass(frozen=True, kw_only=True)
class Moments(Aggregate):
    """What follows from sums over rows.

    ``features`` of values and targets are Q arrays (rows,), ``finish`` turns their sums (Q, N, G) into (N, G). What
    doesn't care for the targets' origin and scale is computed after ``standardise``: sums of squares cancel badly far
    from zero; ``centre`` does the same with the values by themselves.
    """

    features: Callable[[np.ndarray, np.ndarray], list[np.ndarray]]
    finish: Callable[[np.ndarray], np.ndarray]
    standardise: bool = False
    centre: bool = False

    def evaluate(
        self, value: np.ndarray, target: np.ndarray, group: np.ndarray, unit: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        groups = int(group.max()) + 1 if len(group) else 0
        if self.standardise:
            offset = _group_mean(target, group, groups)[group]
            scale = _group_std(target - offset, group, groups)[group]
            value, target = (value - offset) / scale, (target - offset) / scale
        if self.centre:
            value = value - _group_mean(value, group, groups)[group]
            value = value / _group_std(value, group, groups)[group]
        place, shape = unit * groups + group, (weights.shape[1], groups)
        features = (np.bincount(place, feature, math.prod(shape)) for feature in self.features(value, target))
        sums = np.stack([feature.reshape(shape) for feature in features])  # (Q, U, G)
        step = max(1, CHUNK // max(sums.shape[0] * groups, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            chunks = [self.finish(weights[i : i + step] @ sums) for i in range(0, len(weights), step)]
        return np.concatenate(chunks) if chunks else np.empty((0, groups))


def _group_mean(x: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    count = np.bincount(group, minlength=groups)
    return np.bincount(group, weights=x, minlength=groups) / np.maximum(count, 1)


def _group_std(centred: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Standard deviation by group, 1 where the rows are constant up to rounding."""
    std = np.sqrt(_group_mean(centred**2, group, groups))
    return np.where(std > 1e-12, std, 1.0)


# Each finish takes the sums (Q, N, G) and returns (N, G).


def _quotient(sums: np.ndarray) -> np.ndarray:
    part, whole = sums
    return part / whole


def _root_ratio(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(_quotient(sums))


def _pearson(sums: np.ndarray) -> np.ndarray:
    count, v, t, vv, tt, vt = sums
    variance_v, variance_t = vv - v**2 / count, tt - t**2 / count
    r = (vt - v * t / count) / np.sqrt(variance_v * variance_t)
    constant = 1e-9 * count
    r = np.where(variance_v > constant, np.clip(r, -1, 1), 0.0)
    return np.where(variance_t > constant, r, np.nan)


def _r2(sums: np.ndarray) -> np.ndarray:
    count, error, t, tt = sums
    variance = tt - t**2 / count
    return np.where(variance > 1e-9 * count, 1 - error / variance, np.nan)


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    true_positive, positive, true_negative, negative = sums
    return (true_positive / positive + true_negative / negative) / 2


@dataclass(frozen=True)
class Auc(Aggregate):
    """Area under the ROC curve, ties counting half: a quadratic form in the units' weights."""

    def evaluate(
        self, value: np.ndarray, target: np.ndarray, group: np.ndarray, unit: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        groups, units = int(group.max()) + 1 if len(group) else 0, weights.shape[1]
        result = np.full((len(weights), groups), np.nan)
        for g in range(groups):
            positive, negative = (group == g) & (target > 0.5), (group == g) & (target <= 0.5)
            wins = np.zeros((units, units))  # wins[u, v]: positives of unit u ranked above negatives of unit v
            for v in np.unique(unit[negative]):
                rivals = np.sort(value[negative & (unit == v)])
                above = sum(np.searchsorted(rivals, value[positive], side) for side in ("left", "right")) / 2
                wins[:, v] = np.bincount(unit[positive], above, units)
            positives, negatives = (weights @ np.bincount(unit[which], None, units) for which in (positive, negative))
            pairs = positives * negatives
            np.divide(((weights @ wins) * weights).sum(1), pairs, out=result[:, g], where=pairs > 0)
        return result


@dataclass(frozen=True)
class AveragePrecision(Aggregate):
    """Area under the precision-recall curve as a sum of steps: of every threshold the precision, weighed by the recall
    that it adds. Equal scores are one threshold, so a constant score has the share of positives."""

    def evaluate(
        self, value: np.ndarray, target: np.ndarray, group: np.ndarray, unit: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        groups = int(group.max()) + 1 if len(group) else 0
        result = np.full((len(weights), groups), np.nan)
        for g in range(groups):
            here = np.flatnonzero(group == g)
            here = here[np.argsort(-value[here], kind="stable")]
            thresholds = np.flatnonzero(np.diff(value[here], append=-np.inf))  # the last row of each
            positive, rows = target[here] > 0.5, unit[here]
            step = max(1, CHUNK // max(len(here), 1))
            for i in range(0, len(weights), step):
                drawn = weights[i : i + step, rows]  # (n, rows)
                found, asked = ((drawn * part).cumsum(1)[:, thresholds] for part in (positive, 1.0))
                precision = found / np.maximum(asked, 1e-12)
                steps, total = np.diff(found, prepend=0.0), found[:, -1]
                area = (steps * precision).sum(1)
                np.divide(area, total, out=result[i : i + step, g], where=total > 0)
        return result


@dataclass(frozen=True)
class Uneven(Aggregate):
    """How far ranks 0 to m (targets hold m) are from being equally frequent: chi squared over the number of rows.

    0 is flat. n rows of a calibrated forecast have m / n on average.
    """

    def evaluate(
        self, value: np.ndarray, target: np.ndarray, group: np.ndarray, unit: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        groups, units = int(group.max()) + 1 if len(group) else 0, weights.shape[1]
        result = np.full((len(weights), groups), np.nan)
        for g in range(groups):
            here = group == g
            bins = int(target[here].max()) + 1
            counts = np.zeros((units, bins))
            np.add.at(counts, (unit[here], value[here].astype(int)), 1)
            shares = weights @ counts
            shares = shares / shares.sum(1, keepdims=True)
            result[:, g] = bins * ((shares - 1 / bins) ** 2).sum(1)
        return result


@dataclass(frozen=True)
class OfRates(Aggregate):
    """A statistic of units' mean values against their mean targets: of what policies reach here and there."""

    statistic: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = field(kw_only=True)
    """Of values and targets (U,) under weights (N, U), (N,)."""

    def evaluate(
        self, value: np.ndarray, target: np.ndarray, group: np.ndarray, unit: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        groups, units = int(group.max()) + 1 if len(group) else 0, weights.shape[1]
        result = np.full((len(weights), groups), np.nan)
        for g in range(groups):
            here = group == g
            count = np.bincount(unit[here], minlength=units)
            known = count > 0
            rate, wanted = (np.bincount(unit[here], x[here], units)[known] / count[known] for x in (value, target))
            result[:, g] = self.statistic(rate, wanted, weights[:, known])
        return result


def _correlation(value: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    units = np.arange(len(value))
    return PEARSON.evaluate(value, target, np.zeros(len(value), int), units, weights)[:, 0]


def _frechet(sums: np.ndarray) -> np.ndarray:
    count, v, t, vv, tt = sums
    mean_v, mean_t = v / count, t / count
    std_v, std_t = (np.sqrt(np.maximum(ss / count - mean**2, 0)) for ss, mean in ((vv, mean_v), (tt, mean_t)))
    return (mean_v - mean_t) ** 2 + (std_v - std_t) ** 2


MEAN = Moments("mean", compares=False, features=lambda v, t: [v, np.ones_like(v)], finish=_quotient)
RATIO = Moments("ratio", features=lambda v, t: [v, t], finish=_quotient)
ROOT_RATIO = Moments("root_ratio", (0.0, np.inf), features=lambda v, t: [v, t], finish=_root_ratio)
PEARSON = Moments(
    "pearson",
    (-1.0, 1.0),
    features=lambda v, t: [np.ones_like(v), v, t, v * v, t * t, v * t],
    finish=_pearson,
    standardise=True,
    centre=True,
)
R2 = Moments(
    "r2",
    (-np.inf, 1.0),
    features=lambda v, t: [np.ones_like(v), (v - t) ** 2, t, t * t],
    finish=_r2,
    standardise=True,
)
BALANCED_ACCURACY = Moments(
    "balanced_accuracy",
    (0.0, 1.0),
    features=lambda v, t: [(v >= THRESHOLD) & (t > 0.5), t > 0.5, (v < THRESHOLD) & (t <= 0.5), t <= 0.5],
    finish=_balanced_accuracy,
)
FRECHET = Moments(
    "frechet",
    (0.0, np.inf),
    features=lambda v, t: [np.ones_like(v), v, t, v * v, t * t],
    finish=_frechet,
    standardise=True,
)
"""Fréchet distance of the Gaussians with the moments of values and of targets, in units of the targets' variance."""
RATES_PEARSON = OfRates("rates_pearson", (-1.0, 1.0), statistic=_correlation)
BIAS = Moments("bias", features=lambda v, t: [v - t, np.ones_like(v)], finish=_quotient)
AUC = Auc("auc", (0.0, 1.0))
AVERAGE_PRECISION = AveragePrecision("average_precision", (0.0, 1.0))
UNEVEN = Uneven("uneven_ranks", (0.0, np.inf))
for _aggregate in (
    MEAN, RATIO, ROOT_RATIO, PEARSON, R2, BALANCED_ACCURACY, FRECHET, AUC, AVERAGE_PRECISION, UNEVEN, RATES_PEARSON,
    BIAS,
):  # fmt: skip
    AGGREGATES.register(_aggregate.name)(_aggregate)
