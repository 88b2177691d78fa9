"""Does a world model tell how good policies are? Success inside it beside true success, over policies and tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy

from rslwm.evals.aggregates import CHUNK
from rslwm.evals.rates import CONFIDENCE, Estimate
from rslwm.types import DataError
from rslwm.verdict.bootstrap import interval, mean_over_seeds, small_sample_factor
from rslwm.verdict.checks import Checks, pearson
from rslwm.verdict.ranks import Ties, mmrv, violations

Scope = Literal["policies", "cells", "within", "residual"]
SCOPES: dict[Scope, str] = {
    "policies": "over policies, each the mean over tasks",
    "cells": "over all cells of policy and task, where hard tasks beside easy ones count for agreement",
    "within": "over policies within a task, mean over tasks",
    "residual": "over cells without the means of their policy and task",
}
FEWEST = 3
"""Policies without which there is nothing to correlate."""


@dataclass(frozen=True)
class Counts:
    """Successes and trials, (P, K) each, of P policies in K tasks.

    Raises:
        DataError: the shapes differ, or a cell has more successes than trials.
    """

    successes: np.ndarray
    trials: np.ndarray

    def __post_init__(self) -> None:
        for name in ("successes", "trials"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), int))
        if self.successes.shape != self.trials.shape or self.trials.ndim != 2:
            shapes = f"{self.successes.shape} and {self.trials.shape}"
            raise DataError(f"Counts: successes and trials have shapes {shapes}; give both as (policies, tasks)")
        if ((self.successes < 0) | (self.successes > self.trials)).any():
            raise DataError("Counts.successes: a cell has fewer than 0, or more than it has trials; count again")

    @classmethod
    def of(cls, outcomes: Any) -> Counts:
        """Of outcomes (P, K, N), NaN where a trial is missing or nobody could judge it."""
        outcomes = np.asarray(outcomes, float)
        return cls(np.nansum(outcomes, 2), np.isfinite(outcomes).sum(2))

    @property
    def rates(self) -> np.ndarray:
        """(P, K), NaN where there is no trial."""
        with np.errstate(invalid="ignore"):
            return self.successes / self.trials


@dataclass(frozen=True)
class AgreementConfig:
    """How agreement is measured."""

    draws: int = 2000
    """Resamples of policies and tasks."""
    confidence: float = CONFIDENCE
    seed: int = 0
    ties: Ties = "xor"
    """Convention of MMRV, see :func:`rslwm.verdict.ranks.mmrv`."""
    leverage: float = 0.10
    """Change of r by one policy from which on it is flagged."""
    enough: int = 1000
    """Distinct resamples of the policies without which there is no percentile interval; 7 policies have 1716."""


@dataclass(frozen=True)
class Statistic:
    """One number of an agreement: ``name`` says which with its convention, ``scope`` over what."""

    name: str
    scope: Scope
    estimate: Estimate

    def __str__(self) -> str:
        return f"{self.name} {self.estimate} {SCOPES[self.scope]}"


@dataclass(frozen=True)
class Agreement:
    """Of true and imagined success. ``bias`` is imagined minus true, mean over policies and tasks; its interval and
    those of the statistics are of other policies and other tasks like these, NaN where the policies are too few."""

    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    """Those that every policy was tried in, truly and in imagination."""
    left_out: tuple[str, ...]
    """The other tasks."""
    statistics: tuple[Statistic, ...]
    bias: Estimate
    checks: Checks

    def __getitem__(self, key: tuple[str, Scope]) -> Estimate:
        """By what a statistic's name begins with, and its scope: ``agreement["MMRV (real", "policies"]``."""
        name, scope = key
        return next(s.estimate for s in self.statistics if s.name.startswith(name) and s.scope == scope)

    @classmethod
    def of(
        cls,
        true: Counts,
        imagined: Counts,
        policies: Sequence[str],
        tasks: Sequence[str],
        config: AgreementConfig = AgreementConfig(),
    ) -> Agreement:
        """Of counts of the same policies in the same tasks.

        A task that some policy has no trial in is left out, so that policies are compared in the same ones. Intervals
        are percentiles over policies and tasks, both drawn with replacement, spread by what so few policies take
        (:func:`rslwm.verdict.bootstrap.small_sample_factor`).

        Raises:
            DataError: shapes differ, or there are fewer than three policies or no task that all were tried in.
        """
        shape = (len(policies), len(tasks))
        for name, counts in (("true", true), ("imagined", imagined)):
            if counts.trials.shape != shape:
                raise DataError(f"agreement: {name} counts have shape {counts.trials.shape}; the names say {shape}")
        kept: np.ndarray = np.all((true.trials > 0) & (imagined.trials > 0), axis=0)
        if shape[0] < FEWEST or not kept.any():
            held = f"{shape[0]} policies and {int(kept.sum())} tasks that all were tried in"
            raise DataError(f"agreement: {held}; play at least {FEWEST} policies in one task, truly and in the model")
        rates = np.stack([counts.rates[:, kept] for counts in (true, imagined)])
        estimates = _resampled(rates, config)
        mean, imagined_mean = rates.mean(2)
        limits = config.confidence, config.leverage, config.enough, config.ties
        checks = Checks.of(policies, mean, imagined_mean, true.trials[:, kept], *limits)
        found = {key: _summary(key[0], draws, checks, config) for key, draws in estimates.items()}
        return cls(
            tuple(policies),
            tuple(task for task, keep in zip(tasks, kept, strict=True) if keep),
            tuple(task for task, keep in zip(tasks, kept, strict=True) if not keep),
            tuple(Statistic(name, scope, found[name, scope]) for name, scope in found if name != "bias"),
            found["bias", "cells"],
            checks,
        )

    def lines(self) -> list[str]:
        """For people: the statistics, the bias and the checks."""
        what = f"{len(self.policies)} policies in {len(self.tasks)} tasks"
        without = f", without {', '.join(self.left_out)}, which some policy wasn't tried in" if self.left_out else ""
        bias = f"The model's success rates minus the true ones are {self.bias} on average."
        defined = [f"{one}." for one in self.statistics if np.isfinite(one.estimate.value)]
        return [f"{what}{without}.", *defined, bias, *self.checks.lines()]


def _resampled(rates: np.ndarray, config: AgreementConfig) -> dict[tuple[str, Scope], np.ndarray]:
    """Every statistic (N + 1,) of rates (2, P, K), true and imagined; entry 0 is that of the sample."""
    P, K = rates.shape[1:]
    random = np.random.default_rng(config.seed)
    policy, task = (np.vstack([np.arange(size), random.integers(size, size=(config.draws, size))]) for size in (P, K))
    step = max(1, CHUNK // (P * K) ** 2)
    parts = []
    for i in range(0, len(policy), step):
        drawn = rates[:, policy[i : i + step, :, None], task[i : i + step, None, :]]
        parts.append(dict(_statistics(drawn, config.ties)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _statistics(pair: np.ndarray, ties: Ties) -> Iterator[tuple[tuple[str, Scope], np.ndarray]]:
    """Of rates (2, N, P, K)."""
    of_policy, of_task = pair.mean(3, keepdims=True), pair.mean(2, keepdims=True)
    residual = pair - of_policy - of_task + pair.mean((2, 3), keepdims=True)
    views: dict[Scope, np.ndarray] = {
        "policies": of_policy[..., 0],
        "cells": pair.reshape(*pair.shape[:2], -1),
        "within": pair.swapaxes(2, 3),
        "residual": residual.reshape(*pair.shape[:2], -1),
    }
    for scope, (a, b) in views.items():
        found = {"r": pearson(a, b), "rho": spearman(a, b)}
        if scope != "residual":  # which are no rates
            for gap in ("real", "simulated"):
                label = mmrv([0, 1], [0, 1], gap=gap, ties=ties).label
                found[label] = violations(a, b, gap, ties)
        for name, values in found.items():
            yield (name, scope), mean_over_seeds(values, 1) if values.ndim == 2 else values
    yield ("bias", "cells"), (pair[1] - pair[0]).mean((1, 2))


def spearman(true: np.ndarray, imagined: np.ndarray) -> np.ndarray:
    """Rank correlations (...) of rates (..., k), undefined where :func:`rslwm.verdict.checks.pearson` is."""
    # Rounded: equal rates that were averaged in another order are ties.
    return pearson(*(scipy.stats.rankdata(np.round(x, 9), axis=-1) for x in (true, imagined)))


def _summary(name: str, draws: np.ndarray, checks: Checks, config: AgreementConfig) -> Estimate:
    value = float(draws[0])
    if not checks.resampled or not np.isfinite(value):
        return Estimate(value)
    known = np.where(np.isnan(draws), value, draws)
    spread = value + (known - value) * small_sample_factor(checks.units, config.confidence)
    low, high = interval(np.clip(spread, 0 if name.startswith("MMRV") else -1, 1), config.confidence)
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class Point:
    """Agreement over policies with so many episodes of every policy in every task."""

    episodes: int
    r: Estimate
    rho: Estimate
    mmrv: Estimate
    """With the real gap."""


def by_episodes(
    true: Any,
    imagined: Any,
    episodes: Sequence[int],
    shared: bool = True,
    draws: int = 500,
    config: AgreementConfig = AgreementConfig(),
) -> list[Point]:
    """How agreement grows with the number of trials, by leaving trials of these out at random.

    Values are means of the draws, and intervals say where r lies for other trials of *these* policies: they shrink to
    nothing as all trials are taken, when there are no others left.

    Args:
        true, imagined: outcomes (P, K, N) of P policies in K tasks.
        shared: trial n of all policies, truly and in imagination, has the same start, so trials are left out together.

    Raises:
        DataError: shapes don't fit, or there are fewer trials than asked for.
    """
    pair = [np.asarray(outcomes, float) for outcomes in (true, imagined)]
    fewest = min(outcomes.shape[-1] for outcomes in pair)
    if pair[0].shape[: None if shared else 2] != pair[1].shape[: None if shared else 2] or pair[0].ndim != 3:
        shapes = f"{pair[0].shape} and {pair[1].shape}"
        raise DataError(f"by_episodes: outcomes of shapes {shapes}; give (policies, tasks, trials), alike if shared")
    if not episodes or min(episodes) < 1 or max(episodes) > fewest:
        raise DataError(f"by_episodes: episodes {list(episodes)}; there are 1 to {fewest} trials in every cell")
    random = np.random.default_rng(config.seed)
    counts = np.asarray(episodes)
    rates = np.stack([_subsampled(pair, counts, shared, random) for _ in range(draws)])  # (draws, 2, E, P)
    a, b = rates[:, 0], rates[:, 1]
    tails = [(1 - config.confidence) / 2, (1 + config.confidence) / 2]

    def estimates(values: np.ndarray) -> list[Estimate]:
        """Of values (draws, E); a draw in which all policies truly are alike says nothing."""
        means, (low, high) = mean_over_seeds(values, 0), np.nanquantile(values, tails, axis=0)
        return [Estimate(*map(float, found)) for found in zip(means, low, high, strict=True)]

    found = (estimates(x) for x in (pearson(a, b), spearman(a, b), violations(a, b, "real", config.ties)))
    return [Point(int(n), *each) for n, *each in zip(counts, *found, strict=True)]


def _subsampled(pair: list[np.ndarray], counts: np.ndarray, shared: bool, random: np.random.Generator) -> np.ndarray:
    """Rates (2, E, P), mean over tasks, of the first so many trials in an order drawn at random."""
    order, rates = None, []
    for outcomes in pair:
        P, K, N = outcomes.shape
        if order is None or not shared:
            rows = (1, K, N) if shared else (P, K, N)
            order = random.permuted(np.broadcast_to(np.arange(N), rows).copy(), axis=-1)
        mixed = np.take_along_axis(outcomes, np.broadcast_to(order, outcomes.shape), -1)
        rates.append((mixed.cumsum(-1)[..., counts - 1] / counts).mean(1).T)
    return np.stack(rates)
