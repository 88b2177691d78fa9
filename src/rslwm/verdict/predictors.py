"""Which cheap metric tells how a space does at what is dear to measure: policies, goals reached, plans.

A point is one training of one space. With few spaces a correlation over points is mostly that of the spaces, so the
interval is the range of the same correlation when any one space is left out, and not one that takes points for
independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import TEST, Rows
from rslwm.types import REFERENCE
from rslwm.verdict.bootstrap import Resampling, measure

FEWEST = 4
"""Spaces below which nothing is told."""
TARGETS = ("policy_r", "goal_success", "cem_error")
"""What is to be predicted, of what was measured."""


@dataclass(frozen=True)
class Prediction:
    """How a metric orders trainings as the target does: Spearman's correlation over ``points`` trainings of ``spaces``
    latent spaces, both with better values first, and its range when any one space is left out."""

    target: str
    metric: str
    rung: int | None
    rho: float
    lowest: float
    highest: float
    points: int
    spaces: int


def predictions(rows: Rows, metrics: Mapping[str, MetricInfo]) -> tuple[Prediction, ...]:
    """Of every target and every metric of a lower rung, the best predictor first; none with fewer than
    :data:`FEWEST` spaces."""
    rows = rows.where((rows["split"] == TEST) & (rows["family"] != REFERENCE))
    resampling = Resampling.of(rows, 0, 0.95, 0)  # no draws: the sample itself
    if len(resampling.spaces) < FEWEST:
        return ()
    stored = rows.distinct("metric")
    values = {name: _values(rows, info, resampling) for name, info in metrics.items() if info.source in stored}
    found = [
        prediction
        for target in TARGETS
        for name in values
        if target in values and _cheaper(metrics[name], metrics[target])
        if (prediction := _predict(target, metrics[name], values[target], values[name]))
    ]
    return tuple(sorted(found, key=lambda p: (TARGETS.index(p.target), -p.rho, p.metric)))


def _cheaper(info: MetricInfo, target: MetricInfo) -> bool:
    """Whether a metric stands on a lower rung than the target, and so isn't one of its own variants."""
    return info is not target and (info.rung is None or target.rung is None or info.rung < target.rung)


def _values(rows: Rows, info: MetricInfo, resampling: Resampling) -> np.ndarray:
    """Of trainings (L, S), the more the better; NaN where there is none."""
    sign = 1 if info.higher_is_better else -1
    return sign * measure(rows, info, resampling).estimates["value"][0, ..., 0]


def _predict(target: str, info: MetricInfo, wanted: np.ndarray, given: np.ndarray) -> Prediction | None:
    known = np.isfinite(wanted) & np.isfinite(given)
    spaces = np.flatnonzero(known.any(1))
    if len(spaces) < FEWEST:
        return None
    left = [np.delete(np.arange(len(known)), space) for space in spaces]
    groups = [np.arange(len(known)), *left]
    whole, *without = (_rho(wanted[rows][known[rows]], given[rows][known[rows]]) for rows in groups)
    if not np.isfinite([whole, *without]).all():
        return None  # one of them is constant
    return Prediction(target, info.name, info.rung, whole, min(without), max(without), int(known.sum()), len(spaces))


def _rho(x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(scipy.stats.rankdata(x), scipy.stats.rankdata(y))[0, 1])
