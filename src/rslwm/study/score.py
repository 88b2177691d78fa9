"""Scores: every metric between its floor (0) and its ceiling (1), on one scale for all latent spaces of a run.

The floor is the mean of the spaces' floors; the ceiling is the best ceiling of any space. Were each space
measured against its own ceiling, one whose encoder throws much away would be flattered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.study.stats import Measurement, Resampling, interval, mean_over_seeds
from rslwm.types import Unavailable


@dataclass(frozen=True)
class Scale:
    """Floor and ceiling of one metric, (N + 1,) each, in the metric's unit."""

    floor: np.ndarray
    ceiling: np.ndarray


@dataclass(frozen=True)
class Score:
    """Where one metric stands on its scale: ``spaces`` is (N + 1, L); ``trainings`` is (L, S), of the sample only."""

    info: MetricInfo
    units: int
    spaces: np.ndarray
    trainings: np.ndarray


def find_scale(measurement: Measurement, confidence: float) -> Scale | Unavailable:
    """The metric's scale, or why it has none."""
    info = measurement.info
    missing = np.isnan(measurement.estimates["value"][0, :, :, 0]).all(1)
    if missing.any():
        return Unavailable(info.name, "not measured for every latent space")
    if measurement.units < 2:
        return Unavailable(info.name, "measured on a single episode")
    floors, ceilings = (mean_over_seeds(measurement.estimates[role][..., 0], 2) for role in ("floor", "ceiling"))
    floor = _known(np.nanmean(floors, 1) if np.isfinite(floors[0]).any() else None, info.floor_value, floors)
    best = np.nanmax if info.higher_is_better else np.nanmin
    ceiling = _known(best(ceilings, 1) if np.isfinite(ceilings[0]).any() else None, info.ceiling_value, ceilings)
    if floor is None or ceiling is None:
        return Unavailable(info.name, f"no {'floor' if floor is None else 'ceiling'} was measured")
    room = (ceiling - floor) * (1 if info.higher_is_better else -1)
    if min(room[0], interval(room, confidence)[0]) <= 0:
        reason = f"floor ({info.floor}) and ceiling ({info.ceiling}) can't be told apart on these episodes"
        return Unavailable(info.name, reason)
    return Scale(floor, ceiling)


def _known(measured: np.ndarray | None, analytic: float | None, like: np.ndarray) -> np.ndarray | None:
    if measured is not None:
        return measured
    return None if analytic is None else np.full(len(like), analytic)


def score(measurement: Measurement, scale: Scale) -> Score:
    """(value - floor) / (ceiling - floor), not clipped: below 0 is worse than knowing nothing."""
    value = measurement.estimates["value"][..., 0]
    spaces = (mean_over_seeds(value, 2) - scale.floor[:, None]) / (scale.ceiling - scale.floor)[:, None]
    trainings = (value[0] - scale.floor[0]) / (scale.ceiling[0] - scale.floor[0])
    return Score(measurement.info, measurement.units, spaces, trainings)


@dataclass(frozen=True)
class Curve:
    """One space's measurement by horizon, in the metric's unit; (horizons,) each, NaN where it has no rows."""

    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    floor: tuple[float, ...]
    ceiling: tuple[float, ...]


@dataclass(frozen=True)
class Bar:
    """One space's measurement in the metric's unit, with the interval over episodes and its own floor and ceiling."""

    latent: str
    value: float
    low: float
    high: float
    floor: float
    ceiling: float
    score: float
    trainings: tuple[float, ...]
    curve: Curve
    by_dim: tuple[float, ...] = ()
    """The value in each of the summary's ``dims``."""


@dataclass(frozen=True)
class Summary:
    """One metric of every space. ``scale`` is (floor, ceiling), or None with the reason in ``unscored``."""

    info: MetricInfo
    ks: tuple[int, ...]
    units: int
    dropped: int
    undefined: tuple[str, ...]
    scale: tuple[float, float] | None
    unscored: str
    bars: tuple[Bar, ...]
    dims: tuple[str, ...] = ()
    """Horizon and dimension, for metrics that are averaged over several: "k=1 x"."""


def summarise(measurement: Measurement, scale: Scale | Unavailable, resampling: Resampling) -> Summary:
    """Condense a measurement to what a report shows."""
    means = {role: mean_over_seeds(array, 2) for role, array in measurement.estimates.items()}
    low, high = interval(means["value"], resampling.confidence)
    columns = (means["value"][0], low, high, means["floor"][0], means["ceiling"][0])  # (L, O) each
    scores = score(measurement, scale).spaces[0] if isinstance(scale, Scale) else np.full(len(low), np.nan)
    bars = []
    for i, latent in enumerate(resampling.spaces):
        value, lower, upper, floor, ceiling = (float(column[i, 0]) for column in columns)
        curve = Curve(*(tuple(column[i, 1:].tolist()) for column in columns))
        trainings = measurement.estimates["value"][0, i, :, 0]
        trained = tuple(trainings[np.isfinite(trainings)].tolist())
        by_dim = tuple(measurement.by_dim[i].tolist())
        bars.append(Bar(latent, value, lower, upper, floor, ceiling, float(scores[i]), trained, curve, by_dim))
    reason = scale.reason if isinstance(scale, Unavailable) else ""
    return Summary(
        info=measurement.info,
        ks=measurement.ks,
        units=measurement.units,
        dropped=measurement.dropped,
        undefined=measurement.undefined,
        scale=(float(scale.floor[0]), float(scale.ceiling[0])) if isinstance(scale, Scale) else None,
        unscored=reason if measurement.info.scored else "shown, not scored",
        bars=tuple(bars),
        dims=measurement.dims,
    )
