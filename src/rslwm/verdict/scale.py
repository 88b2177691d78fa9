"""Scores: every metric between its floor (0) and its ceiling (1), on one scale for all latent spaces of a run.

The floor is the mean of the spaces' floors; the ceiling is the best ceiling of any space. Were each space
measured against its own ceiling, one whose encoder throws much away would be flattered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.types import Role, Unavailable
from rslwm.verdict.bootstrap import Coverage, Measurement, Resampling, interval, mean_over_seeds
from rslwm.verdict.combination import Member

Numbers = tuple[float | None, ...]


@dataclass(frozen=True)
class Scale:
    """Floor and ceiling of one metric, (N + 1,) each, in the metric's unit."""

    floor: np.ndarray
    ceiling: np.ndarray


def find_scale(measurement: Measurement, min_room: float) -> Scale | Unavailable:
    """The metric's scale, or why it has none.

    A score is divided by the room between floor and ceiling. Where that is known to no better than one part in
    ``min_room``, a score would say more about the room than about the space.
    """
    info = measurement.info
    if np.isnan(measurement.estimates["value"][0, :, :, 0]).all(1).any():
        return Unavailable(info.name, "not measured for every latent space")
    if not measurement.complete:
        return Unavailable(info.name, "not measured for every training of a latent space")
    if measurement.units < 2:
        return Unavailable(info.name, "measured on a single episode")
    bounds = list[np.ndarray]()
    of_spaces: dict[Role, Any] = {"floor": np.nanmean, "ceiling": np.nanmax if info.higher_is_better else np.nanmin}
    for role, of_all in of_spaces.items():
        analytic = getattr(info, f"{role}_value")
        measured = mean_over_seeds(measurement.estimates[role][..., 0], 2)
        if not np.isfinite(measured[0]).any() and analytic is None:
            return Unavailable(info.name, f"no {role} was measured")
        bounds.append(of_all(measured, 1) if analytic is None else np.full(len(measured), analytic))
    floor, ceiling = bounds
    room = (ceiling - floor) * (1 if info.higher_is_better else -1)
    error = float(room[1:].std())
    if room[0] <= 0 or room[0] < min_room * error:
        return Unavailable(info.name, _no_room(info, floor[0], ceiling[0], room[0], error, min_room))
    return Scale(floor, ceiling)


def _no_room(info: MetricInfo, floor: float, ceiling: float, room: float, error: float, min_room: float) -> str:
    unit = "" if info.unit == "1" else f" {info.unit}"
    bounds = f"its floor ({info.floor}) is {floor:.3g}{unit} and its ceiling ({info.ceiling}) {ceiling:.3g}{unit}"
    if room <= 0:
        return f"{bounds}, which is no better: there is no room for a score between them"
    times = f"{room:.2g}{unit} apart, only {room / error:.1f} times the standard error of that"
    return f"{bounds}: {times}, where a score needs {min_room:g}"


def score(measurement: Measurement, scale: Scale, elsewhere: np.ndarray | None = None) -> Member:
    """(value - floor) / (ceiling - floor), not clipped: below 0 is worse than knowing nothing.

    ``elsewhere`` is (L', S'), values of the metric in the trainings of another study.
    """
    value, room = measurement.estimates["value"][..., 0], scale.ceiling - scale.floor
    return Member(
        name=measurement.info.name,
        estimates=(mean_over_seeds(value, 2) - scale.floor[:, None]) / room[:, None],
        trainings=(value[0] - scale.floor[0]) / room[0],
        elsewhere=None if elsewhere is None else (elsewhere - scale.floor[0]) / room[0],
        units=measurement.units,
        counts=measurement.info.counts,
        question=measurement.info.question,
    )


@dataclass(frozen=True)
class Curve:
    """One space's measurement by horizon, in the metric's unit; (horizons,) each, None where it has no rows."""

    value: Numbers
    low: Numbers
    high: Numbers
    floor: Numbers
    ceiling: Numbers


@dataclass(frozen=True)
class Cells:
    """One space's measurement in each of the summary's ``dims``, in the metric's unit."""

    value: Numbers = ()
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True)
class Bar:
    """One space's measurement in the metric's unit, with its interval and its own floor and ceiling, where known."""

    latent: str
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    ceiling: float | None
    score: float | None
    trainings: tuple[float, ...]
    curve: Curve
    by_dim: Cells = Cells()


@dataclass(frozen=True)
class Summary(Coverage):
    """One metric of every space. ``scale`` is (floor, ceiling), or None with the reason in ``unscored``."""

    scale: tuple[float, float] | None
    unscored: str
    bars: tuple[Bar, ...]
    dims: tuple[str, ...] = ()
    """Horizon and dimension, for metrics that are averaged over several: "k=1 x"."""
    references: tuple[Bar, ...] = ()
    """Of sanity rows, with scores on the scale of the spaces."""

    @property
    def cells(self) -> dict[str, dict[int, int]]:
        """By dimension the places in ``dims`` of its horizons."""
        found: dict[str, dict[int, int]] = {}
        for place, name in enumerate(self.dims):
            k, _, dim = name.partition(" ")
            found.setdefault(dim, {})[int(k.removeprefix("k="))] = place
        return found


def summarise(measurement: Measurement, scale: Scale | Unavailable, resampling: Resampling) -> Summary:
    """Condense a measurement to what a report shows."""
    reason = scale.reason if isinstance(scale, Unavailable) else ""
    bounds = (float(scale.floor[0]), float(scale.ceiling[0])) if isinstance(scale, Scale) else None
    unscored = reason if measurement.info.scored else "shown, not scored"
    covered = {f.name: getattr(measurement, f.name) for f in fields(Coverage)}
    bars = draw_bars(measurement, scale, resampling, measurement.ks, measurement.dims)
    return Summary(**covered, scale=bounds, unscored=unscored, bars=bars, dims=measurement.dims)


def draw_bars(
    measurement: Measurement,
    scale: Scale | Unavailable,
    resampling: Resampling,
    ks: Sequence[int],
    dims: Sequence[str],
) -> tuple[Bar, ...]:
    """One for each space, with a curve over these horizons and values in these dimensions, None where it has none."""
    means = {role: mean_over_seeds(array, 2) for role, array in measurement.estimates.items()}
    low, high = interval(means["value"], resampling.confidence)
    columns = (means["value"][0], low, high, means["floor"][0], means["ceiling"][0])  # (L, O) each
    cells = (measurement.by_dim[0], *interval(measurement.by_dim, resampling.confidence))  # (L, cells) each
    scores = score(measurement, scale).estimates[0] if isinstance(scale, Scale) else np.full(len(low), np.nan)
    bars = []
    for i, latent in enumerate(resampling.spaces):
        value, lower, upper, floor, ceiling, scored = _numbers([*(column[i, 0] for column in columns), scores[i]])
        curve = Curve(*(_at(ks, measurement.ks, column[i, 1:]) for column in columns))
        trainings = measurement.estimates["value"][0, i, :, 0]
        trained = tuple(trainings[np.isfinite(trainings)].tolist())
        by_dim = Cells(*(_at(dims, measurement.dims, column[i]) for column in cells))
        bars.append(Bar(latent, value, lower, upper, floor, ceiling, scored, trained, curve, by_dim))
    return tuple(bars)


def _at(wanted: Sequence, known: Sequence, values: np.ndarray) -> Numbers:
    """The values that belong to what is wanted, of those (N,) of what is known."""
    found = dict(zip(known, _numbers(values), strict=True))
    return tuple(found.get(name) for name in wanted)


def _numbers(values: Iterable[float]) -> Numbers:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
