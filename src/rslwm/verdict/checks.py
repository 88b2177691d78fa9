"""Five checks of a correlation over few policies: what it hangs on, and what so few of them can't show.

After T. Lam's audit of 22 such correlations (a draft of July 2026, not peer-reviewed), in which one policy left out
moved some headline numbers from .99 to .80. The unit is the policy: episodes and tasks of one policy aren't
independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial

import numpy as np
import scipy

from rslwm.evals.rates import Estimate
from rslwm.verdict.bootstrap import TIE
from rslwm.verdict.ranks import Ties, violations


def pearson(true: np.ndarray, imagined: np.ndarray) -> np.ndarray:
    """Correlations (...) of rates (..., k): 0 where the imagined ones are constant, which know nothing; NaN where the
    true ones are, of which nothing could be known."""
    a, b = (x - x.mean(-1, keepdims=True) for x in (true, imagined))
    varies_a, varies_b = (np.abs(x).max(-1) > TIE for x in (a, b))
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(varies_b, np.clip((a * b).sum(-1) / scale, -1, 1), 0.0)
    return np.where(varies_a, r, np.nan)


def fisher(r: float, units: int, confidence: float) -> Estimate:
    """A correlation with its interval by Fisher's z; none of fewer than four units or of a perfect correlation."""
    if units < 4 or not abs(r) < 1:
        return Estimate(r)
    half = scipy.stats.norm.ppf(0.5 + confidence / 2) / np.sqrt(units - 3)
    low, high = np.tanh(np.arctanh(r) + half * np.array([-1, 1]))
    return Estimate(r, float(low), float(high))


@dataclass(frozen=True)
class Checks:
    """Of the correlation of k policies' true and imagined rates, each the mean over tasks."""

    policies: tuple[str, ...]
    fisher: Estimate
    """r, with its interval on k units."""
    r_without: np.ndarray
    """r without each policy, (k,)"""
    hat: np.ndarray
    """Of each policy (k,): how far its imagined rate lies from the others', 1/k to 1."""
    mmrv: float
    mmrv_without: np.ndarray
    """MMRV (real gap) without each policy, (k,)"""
    episodes: int | None
    """True trials of each policy; None if they differ."""
    limit: float
    """Of the change of r by one policy, from which on it is flagged."""
    enough: int
    """Distinct resamples of the policies from which on percentiles of them are an interval."""

    @classmethod
    def of(
        cls,
        policies: Sequence[str],
        true: np.ndarray,
        imagined: np.ndarray,
        trials: np.ndarray,
        confidence: float,
        limit: float,
        enough: int,
        ties: Ties,
    ) -> Checks:
        """Of rates (k,) and numbers of true trials (k, K) a task."""
        k = len(true)
        others = np.array([[j for j in range(k) if j != i] for i in range(k)])
        away = (imagined - imagined.mean()) ** 2
        spread = away.sum()
        return cls(
            tuple(policies),
            fisher(float(pearson(true, imagined)), k, confidence),
            pearson(true[others], imagined[others]),
            1 / k + (away / spread if spread > TIE else 0 * away),
            float(violations(true, imagined, ties=ties)),
            violations(true[others], imagined[others], ties=ties),
            int(trials[0].sum()) if len(np.unique(trials)) == 1 else None,
            limit,
            enough,
        )

    @property
    def units(self) -> int:
        """k"""
        return len(self.policies)

    @property
    def flagged(self) -> tuple[str, ...]:
        """The policies without which r is another by more than the limit, or isn't defined."""
        moved = np.abs(self.r_without - self.fisher.value)
        return tuple(name for name, change in zip(self.policies, moved, strict=True) if not change <= self.limit)

    @property
    def permutation_floor(self) -> float:
        """The smallest one-sided p that any order of k policies can have."""
        return 1 / factorial(self.units)

    @property
    def support(self) -> int:
        """Distinct resamples of k policies."""
        return comb(2 * self.units - 1, self.units)

    @property
    def resampled(self) -> bool:
        """Whether percentiles of resamples are an interval."""
        return self.support >= self.enough

    @property
    def step(self) -> float:
        """MMRV is a multiple of it; NaN where policies have different numbers of trials."""
        return 1 / (self.units * self.episodes) if self.episodes else np.nan

    def lines(self) -> list[str]:
        """For people, a sentence or two a check."""
        k, r = self.units, self.fisher
        lowest, highest = np.nanmin(self.r_without), np.nanmax(self.r_without)
        far = self.policies[int(self.hat.argmax())]
        leverage = f"Without one of the {k} policies r is {lowest:.3f} to {highest:.3f}, with all of them {r.value:.3f}"
        hangs = f"; it hangs on {', '.join(self.flagged)}" if self.flagged else "; it hangs on no single one"
        z = f"r with its interval for {k} policies (Fisher's z): {r}."
        if not np.isfinite(r.low):
            z = f"r of {k} policies has no interval by Fisher's z: it takes four, and an r below 1."
        draws = f"{k} policies have {self.support} distinct resamples"
        few = (
            "enough for percentile intervals" if self.resampled else "too few for a percentile interval: none is given"
        )
        lattice = "Policies have different numbers of true trials, so MMRV is on no lattice."
        if self.episodes:
            chance = min(1.0, 0.001 / self.step)
            lattice = (
                f"With {self.episodes} true trials a policy, a success rate is a multiple of {1 / self.episodes:.4f} "
                f"and MMRV one of {self.step:.2g}; a number of three decimals is one by chance with {chance:.2f}."
            )
        return [
            f"{leverage}{hangs}. The farthest from the rest is {far} (hat value {self.hat.max():.2f}).",
            z,
            f"No one-sided p of {k} policies can be below {self.permutation_floor:.2g} (1/{k}!).",
            f"{draws}, {few}.",
            lattice,
            f"Without one policy MMRV (real gap) is {self.mmrv_without.min():.3f} to {self.mmrv_without.max():.3f}, "
            f"with all of them {self.mmrv:.3f}.",
        ]
