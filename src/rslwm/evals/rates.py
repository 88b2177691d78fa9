"""Shares of trials: how sure one is of a rate, of the difference of two, and of two judges' agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and where it lies with a confidence; NaN where nothing is known."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def __str__(self) -> str:
        known = np.isfinite(self.low) and np.isfinite(self.high)
        return f"{self.value:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if known else "")


@dataclass(frozen=True)
class Rate:
    """So many successes in so many trials, which are independent of each other.

    Raises:
        ValueError: there are more successes than trials, or fewer than none.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"Rate: {self.successes} successes in {self.trials} trials")

    @classmethod
    def of(cls, outcomes: Any) -> Rate:
        """Of outcomes (N,) bool."""
        outcomes = np.asarray(outcomes, bool)
        return cls(int(outcomes.sum()), len(outcomes))

    @property
    def value(self) -> float:
        return self.successes / self.trials if self.trials else np.nan

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """With its interval by Wilson (1927); without a trial it is anything from 0 to 1."""
        if not self.trials:
            return Estimate(np.nan, 0.0, 1.0)
        interval = scipy.stats.binomtest(self.successes, self.trials).proportion_ci(confidence, "wilson")
        # No success is compatible with a rate of 0, and rounding must not say otherwise.
        low, high = min(interval.low, self.value), max(interval.high, self.value)
        return Estimate(self.value, float(low), float(high))

    def record(self) -> dict[str, Any]:
        """In per cent, under the names that LeRobot's evaluations have."""
        found = self.estimate()
        return {
            "n_success": self.successes,
            "n_episodes": self.trials,
            "pc_success": 100 * found.value,
            "pc_success_ci95": [100 * found.low, 100 * found.high],
        }

    def __str__(self) -> str:
        found = self.estimate()
        return f"{self.successes} of {self.trials} ({100 * found.low:.0f} to {100 * found.high:.0f} %)"


def newcombe(first: Rate, second: Rate, confidence: float = CONFIDENCE) -> Estimate:
    """``first`` - ``second`` of independent trials; Newcombe (1998), Statistics in Medicine 17:873, method 10."""
    a, b = first.estimate(confidence), second.estimate(confidence)
    difference = a.value - b.value
    low = difference - np.hypot(a.value - a.low, b.high - b.value)
    high = difference + np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(difference, float(low), float(high))


@dataclass(frozen=True)
class Paired:
    """Two rates on the same starts. ``difference`` is first - second; ``p`` that of McNemar's exact two-sided test, of
    whether those that only one of them masters are evenly divided."""

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: Estimate
    p: float


def paired(first: Any, second: Any, confidence: float = CONFIDENCE) -> Paired:
    """Outcomes (N,) bool of two on the same N starts, one trial each.

    The interval is that of Newcombe (1998), Statistics in Medicine 17:2635, method 10: unlike a bootstrap's it isn't
    empty where both always have the same outcome. Raises ValueError: they aren't equally many, or none.
    """
    one, other = _alike(first, second)
    both, only_first = int((one & other).sum()), int((one & ~other).sum())
    only_second, neither = int((~one & other).sum()), int((~one & ~other).sum())
    a, b = Rate.of(one).estimate(confidence), Rate.of(other).estimate(confidence)
    margins = np.prod([float(both + only_first), only_second + neither, both + only_second, only_first + neither])
    covered = float(both * neither - only_first * only_second)
    covered = max(covered - len(one) / 2, 0.0) if covered > 0 else covered
    phi = covered / np.sqrt(margins) if margins else 0.0
    down, up = (a.value - a.low, b.high - b.value), (a.high - a.value, b.value - b.low)
    low, high = (np.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0)) for x, y in (down, up))
    value = a.value - b.value
    differing = only_first + only_second
    p = float(scipy.stats.binomtest(only_first, differing).pvalue) if differing else 1.0
    found = Estimate(value, float(value - low), float(value + high))
    return Paired(both, only_first, only_second, neither, found, p)


def paired_bootstrap(
    first: Any, second: Any, starts: Any, draws: int = 10_000, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """``first`` - ``second`` of outcomes (N,) bool where a start (N,), any label, occurs several times: starts are
    drawn with replacement, each with all of its trials. Raises ValueError: they aren't equally many, or none."""
    one, other = _alike(first, second)
    names, start = np.unique(np.asarray(starts), return_inverse=True)
    if len(start) != len(one):
        raise ValueError(f"paired_bootstrap: {len(start)} starts of {len(one)} outcomes")
    apart = np.bincount(start, one.astype(float) - other, len(names))
    trials = np.bincount(start, minlength=len(names))
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    low, high = np.quantile((counts @ apart) / (counts @ trials), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(apart.sum() / trials.sum()), float(low), float(high))


def _alike(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"paired outcomes: shapes {one.shape} and {other.shape}; two equally long rows are needed")
    return one, other


def kappa(first: Sequence[Any] | np.ndarray, second: Sequence[Any] | np.ndarray) -> float:
    """Cohen's kappa (1960) of two judges' labels (N,): 1 is full agreement, 0 that of chance.

    NaN where chance alone would make them agree always. Raises ValueError: they aren't equally many, or none.
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.shape != other.shape or not len(one):
        raise ValueError(f"kappa: shapes {one.shape} and {other.shape}; two equally long rows of labels are needed")
    labels = np.unique(np.concatenate([one, other]))
    expected = sum(float((one == label).mean() * (other == label).mean()) for label in labels)
    return float((np.mean(one == other) - expected) / (1 - expected)) if expected < 1 else np.nan
