"""Paired bootstrap over episodes: one set of resampled episodes for every latent space, metric, floor and ceiling.

Estimates are arrays whose first axis is N + 1: entry 0 is the sample itself, entries 1 to N are the draws. Whatever is
computed from them (means over seeds, scores, differences, ranks) is computed once on the whole array, so the point
estimate and its uncertainty can't come apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from rslwm.evals.base import EPISODES, MetricInfo
from rslwm.evals.rows import Rows, numbered
from rslwm.types import Role

ROLES: tuple[Role, ...] = ("value", "floor", "ceiling")
TIE = 1e-9
"""Scores that are no further apart are equal: how a product of matrices is rounded depends on the CPU."""


@dataclass(frozen=True)
class Resampling:
    """Which episodes each draw holds, and what is compared: the frame that all metrics of a study share.

    ``weights`` is (N + 1, U): row 0 is the sample (ones), row n says how often draw n holds each unit.
    """

    spaces: tuple[str, ...]
    seeds: tuple[int, ...]
    units: tuple[str, ...]
    """Episodes first, then what else metrics count."""
    weights: np.ndarray
    confidence: float
    trained: np.ndarray
    """Which space was trained under which seed, (L, S) bool."""
    episodes: int
    """How many of the units are."""

    def beside(self, rows: Rows) -> Resampling:
        """The same draws for the rows of other spaces, of episodes that are in them."""
        seeds, spaces = tuple(np.unique(rows["seed"]).tolist()), rows.distinct("latent")
        return replace(self, spaces=spaces, seeds=seeds, trained=_trained(rows, spaces, seeds))

    @classmethod
    def of(
        cls, rows: Rows, draws: int, confidence: float, seed: int, counts: Mapping[str, str] | None = None
    ) -> Resampling:
        """Draw episodes with replacement from those that occur in the rows, and so what else a metric, by name,
        ``counts``."""
        other = counts or {}
        metrics, metric = numbered(rows["metric"])
        kinds = np.array([other.get(name, EPISODES) for name in metrics], object)
        kind = kinds[metric]
        random, units, drawn = np.random.default_rng(seed), list[str](), [np.zeros((1 + draws, 0))]
        for name in sorted({*kinds}, key=lambda name: (name != EPISODES, name)):
            own = sorted({*rows["unit"][kind == name].tolist()})
            times = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws)
            units += own
            drawn.append(np.vstack([np.ones(len(own)), times]))
        seeds, spaces = tuple(np.unique(rows["seed"]).tolist()), rows.distinct("latent")
        trained, episodes = _trained(rows, spaces, seeds), len({*rows["unit"][kind == EPISODES].tolist()})
        return cls(spaces, seeds, tuple(units), np.hstack(drawn), confidence, trained, episodes)


def _trained(rows: Rows, spaces: Sequence, seeds: Sequence) -> np.ndarray:
    trained = np.zeros((len(spaces), len(seeds)), bool)
    trained[_positions(rows["latent"], spaces), _positions(rows["seed"], seeds)] = True
    return trained


@dataclass(frozen=True)
class Coverage:
    """What stands behind one metric: horizons, the number of episodes, that of rows that weren't finite, and the names
    of the cells left out because some space lacks them."""

    info: MetricInfo
    ks: tuple[int, ...]
    units: int
    dropped: int
    undefined: tuple[str, ...]


@dataclass(frozen=True)
class Measurement(Coverage):
    """One metric of every space: ``estimates[role]`` is (N + 1, L, S, O), NaN where a space or seed has no rows.

    L runs over spaces, S over seeds and O over outputs: output 0 is the mean over all horizons, output 1 + i is horizon
    ``ks[i]``. ``complete`` says whether every training of the study has the metric. For a metric with dimensions (of
    the action, say), ``by_dim`` is (N + 1, L, cells), the value in each cell that ``dims`` names.
    """

    estimates: dict[Role, np.ndarray]
    dims: tuple[str, ...]
    by_dim: np.ndarray
    complete: bool


def measure(rows: Rows, info: MetricInfo, resampling: Resampling) -> Measurement:
    """Condense the rows of one metric under every draw.

    Rows are aggregated per cell (split, k, dim), then cells are averaged with equal weight. A cell that is undefined
    for one space (a correlation with a constant) is left out for all, so that all are averaged over the same cells.
    So is a window inside a cell that one space has no finite number for: it may have been the hardest.
    """
    analytic = [role for role in ("floor", "ceiling") if getattr(info, f"{role}_value") is not None]
    rows = rows.where((rows["metric"] == info.source) & ~np.isin(rows["role"], analytic))
    finite = np.isfinite(rows["value"])
    if info.aggregate.compares:
        finite &= np.isfinite(rows["target"])
    dropped, rows = int((~finite).sum()), rows.where(_comparable(rows, finite))
    cells, cell = _combinations(rows, ("split", "k", "dim"))
    ks = tuple(sorted({k for _, k, _ in cells}))
    shape = (len(ROLES), len(resampling.spaces), len(resampling.seeds), len(cells))
    labels: dict[str, Sequence] = {"role": ROLES, "latent": resampling.spaces, "seed": resampling.seeds}
    codes = [*(_positions(rows[column], values) for column, values in labels.items()), cell]
    present, group = np.unique(np.ravel_multi_index(codes, shape), return_inverse=True)
    unit = _positions(rows["unit"], resampling.units)
    table = np.full((len(resampling.weights), int(np.prod(shape))), np.nan)
    table[:, present] = info.aggregate.evaluate(rows["value"], rows["target"], group, unit, resampling.weights)
    table = table.reshape(len(table), *shape)
    sample, units = table[:1].copy(), len(np.unique(unit))
    table -= table[:1]
    # A draw without a single failure has no AUC; it says nothing about that cell and takes the sample's value.
    table[np.isnan(table)] = 0.0
    table *= small_sample_factor(units, resampling.confidence)
    table += sample
    np.clip(table, *info.aggregate.bounds, out=table)
    estimates = {role: _average_cells(table[:, i], cells, ks) for i, role in enumerate(ROLES)}
    values = sample[0, ROLES.index("value")]  # (L, S, cells)
    measured = values[~np.isnan(values).all(-1)]
    undefined = tuple(_name(cells[i]) for i in np.flatnonzero(np.isnan(measured).any(0)))
    named = [i for i, (_, _, dim) in enumerate(cells) if dim]
    dims = tuple(_name(cells[i]) for i in named)
    by_dim = mean_over_seeds(table[:, ROLES.index("value")][..., named], axis=2)
    complete = bool(np.isfinite(estimates["value"][0, ..., 0])[resampling.trained].all())
    return Measurement(info, ks, units, dropped, undefined, estimates, dims, by_dim, complete)


def _comparable(rows: Rows, finite: np.ndarray) -> np.ndarray:
    """Which rows (rows,) are finite, and stand where every training that is measured in this cell has such a row."""

    def codes(*columns: str) -> np.ndarray:
        return _combinations(rows, columns)[1]

    if not finite.any():
        return finite
    training, cell, place = codes("latent", "seed"), ("split", "k", "dim"), ("unit", "window")
    many = training.max() + 1

    def trainings(where: np.ndarray) -> np.ndarray:
        """How many have a finite row where each row is."""
        pairs = np.unique(where[finite] * many + training[finite])
        return np.bincount(pairs // many, minlength=where.max() + 1)[where]

    measured = codes("role", *cell)
    known = np.isin(measured * many + training, (measured * many + training)[finite])
    spoilt = known & (~finite | (trainings(codes("role", *cell, *place)) < trainings(measured)))
    window = codes(*cell, *place)  # whatever the role: floors and ceilings are compared on the same ones
    return finite & ~np.isin(window, window[spoilt])


def _name(cell: tuple[str, int, str]) -> str:
    return f"k={cell[1]} {cell[2]}".strip()


def mean_over_seeds(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean over an axis of seeds; NaN where a space has no seed at all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(values, axis)


def small_sample_factor(units: int, confidence: float) -> float:
    """By how much draws are spread about the sample: the percentile interval of few units is too narrow.

    The "expanded percentile interval" of Hesterberg (2015, arXiv 1411.5279, section 4.1) written as a spread of the
    draws: variance n - 1 instead of n, Student's t instead of the normal quantile.
    """
    if units < 2:
        return 1.0
    level = 0.5 + confidence / 2
    quantiles = scipy.stats.t.ppf(level, units - 1) / scipy.stats.norm.ppf(level)
    return float(np.sqrt(units / (units - 1)) * quantiles)


def _combinations(rows: Rows, names: Sequence[str]) -> tuple[list[tuple], np.ndarray]:
    """The combinations of these columns' values that occur, and each row's position among them."""
    columns = [numbered(rows[name]) for name in names]
    shape = [max(len(values), 1) for values, _ in columns]
    found, cell = np.unique(np.ravel_multi_index([codes for _, codes in columns], shape), return_inverse=True)
    held = (values[codes].tolist() for (values, _), codes in zip(columns, np.unravel_index(found, shape), strict=True))
    return list(zip(*held, strict=True)), cell


def _positions(column: np.ndarray, known: Sequence) -> np.ndarray:
    values, inverse = numbered(column)
    return np.array([known.index(v) for v in values.tolist()], int)[inverse]


def _average_cells(table: np.ndarray, cells: list[tuple[str, int, str]], ks: tuple[int, ...]) -> np.ndarray:
    """(N + 1, L, S, cells) -> (N + 1, L, S, 1 + len(ks)), over the cells that every space has."""
    present = ~np.isnan(table[0]).all(-1)  # (L, S)
    shared = ~np.isnan(table[0][present]).any(0) if present.any() else np.zeros(len(cells), bool)
    chosen = np.array([shared] + [shared & np.array([k == cell[1] for cell in cells]) for k in ks])
    counts = chosen.sum(1)
    means = np.nan_to_num(table[..., shared]) @ (chosen[:, shared] / np.maximum(counts, 1)[:, None]).T
    return np.where(present[..., None] & (counts > 0), means, np.nan)


def interval(estimates: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the draws: (N + 1, ...) -> low and high of shape (...)."""
    low, high = np.quantile(estimates[1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


@dataclass(frozen=True)
class Difference:
    """A paired difference: ``p`` is two-sided, the share of draws on the other side of zero, doubled."""

    value: float
    low: float
    high: float
    p: float


def difference(a: np.ndarray, b: np.ndarray, confidence: float) -> Difference:
    """a - b, draw by draw: estimates (N + 1,) of two spaces on the same resampled episodes."""
    delta = a - b
    low, high = interval(delta, confidence)
    tail = min((delta[1:] <= TIE).sum(), (delta[1:] >= -TIE).sum())
    return Difference(float(delta[0]), float(low), float(high), float(min(1.0, 2 * (tail + 1) / len(delta))))
